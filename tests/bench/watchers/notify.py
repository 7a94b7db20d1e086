"""watchfiles: with its own defaults, or with other milliseconds for `debounce` and `step`."""

from __future__ import annotations

import os
import sys
import threading

import watchfiles

from tests.bench.watchers import notice, watching


def main(root: str, debounce: str = "1600", step: str = "50") -> None:
    """Watch until the input ends."""
    ended = threading.Event()
    threading.Thread(target=_wait, args=(ended,), daemon=True).start()
    changes = watchfiles.watch(
        root, debounce=int(debounce), step=int(step), stop_event=ended,
        rust_timeout=100, yield_on_timeout=True,
    )  # fmt: skip
    next(changes)  # nothing yet: it watches since before this wait
    watching()
    for found in changes:
        for _, path in found:
            notice(os.fsencode(path))


def _wait(ended: threading.Event) -> None:
    sys.stdin.read()
    ended.set()


if __name__ == "__main__":
    main(*sys.argv[1:])
