"""How commands find the instance that runs on a state directory.

A running instance holds a lock on `instance.lock` for its life and writes `instance.json`
(mode 0600: it holds keys) beside it. The lock says whether it lives: it goes with the process,
however that ends, and cannot be confused by a process id that was given out again.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from conv_realtime import shared_files

logger = logging.getLogger("conv_realtime.cli")

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

        with using(self._state_dir):
            said = json.dumps({"pid": os.getpid(), **facts}, default=str)
            shared_files.write_closed(self._state_dir / _JSON, said)

    def __enter__(self) -> Self:
        self.claim()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._lock is not None:
            try:
                shared_files.remove(self._state_dir / _JSON)
            except OSError as error:  # nobody believes it without the lock
                logger.warning("%s is left: %s", self._state_dir / _JSON, error.strerror)
            finally:
                os.close(self._lock)
                self._lock = None


def running(state_dir: Path) -> dict[str, Any] | None:
    """Return what the running instance of `state_dir` announced, or None if there is none.

    Not for the instance itself: it would find its own lock.
    """
    try:
        if not shared_files.is_locked(state_dir / _LOCK):
            return None
        facts = json.loads((state_dir / _JSON).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None
