"""The garbage collector, which reads every object that is here to stay over and over."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


def collect_rarely() -> None:
    """Collect garbage less often, for a process that is all ours.

    Rows and frames are no garbage of the kind that needs a collector: they go by themselves. With
    Python's usual threshold a backfill spent a quarter of its time on looking for some
    (`python -m tests.bench --only backfill`).
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


@contextmanager
def growing() -> Iterator[None]:
    """Make objects without the collector reading all earlier ones over and over.

    Of 20,000 checkpoints that took more than half of the time. Not across an `await`: what others
    allocate meanwhile would not be collected either.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
