"""The garbage collector, where many objects are made at once that are here to stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


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
