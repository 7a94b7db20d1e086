"""How commands find the instance that runs on a state directory.

A running instance holds a lock on `instance.lock` for its life and writes `instance.json`
(mode 0600: it holds keys) beside it. The lock says whether it lives: it goes with the process,
however that ends, and cannot be confused by a process id that was given out again.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

_JSON = "instance.json"
_LOCK = "instance.lock"


class Instance:
    """This process as the instance of `state_dir`, or not if another one is.

    `mine` says which. Use as a context manager; `announce` tells other commands how to reach it.
    """

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._lock: int | None = None

    @property
    def mine(self) -> bool:
        return self._lock is not None

    def claim(self) -> bool:
        """Become the instance if there is none; return whether this process is it now.

        Raises:
            ConfigError: the state directory cannot be used.
        """
        if self._lock is None:
            from conv_realtime.edges.checkpoints import take_lock

            self._lock = take_lock(self._state_dir / _LOCK)
        return self.mine

    def announce(self, facts: Mapping[str, Any]) -> None:
        """Write what other commands need; does nothing if another process is the instance."""
        if not self.mine:
            return
        from conv_realtime.edges.checkpoints import using

        target = self._state_dir / _JSON
        new = target.with_suffix(f".{os.getpid()}")
        with using(self._state_dir):
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({"pid": os.getpid(), **facts}, file, default=str)
            new.replace(target)

    def __enter__(self) -> Self:
        self.claim()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._lock is not None:
            (self._state_dir / _JSON).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None


def running(state_dir: Path) -> dict[str, Any] | None:
    """Return what the running instance of `state_dir` announced, or None if there is none.

    Not for the instance itself: it would find its own lock.
    """
    try:
        with _probe(state_dir / _LOCK) as held:
            if not held:
                return None
        facts = json.loads((state_dir / _JSON).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None


@contextmanager
def _probe(path: Path) -> Iterator[bool]:
    """Yield whether somebody holds the lock on `path`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        yield True
    else:
        yield False
    finally:
        os.close(descriptor)
