"""Whose turn it is on a state directory: locks that go with the process, however that ends."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Self

from conv_realtime import shared_files
from conv_realtime.edges.checkpoints.place import make_state_dir, using

LOCK_SECONDS = 1.0
"""How often is looked whether a lock that somebody else holds is free."""


def take_lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock on `path`, as `shared_files.take_lock` does.

    The folder is made if need be.

    Raises:
        ConfigError: the state directory cannot be used.
    """
    with using(path.parent):
        make_state_dir(path.parent)
        return shared_files.take_lock(path)


class StateLock:
    """The right to ingest for a state directory; held until left, or until the process ends."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "ingest.lock"
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Take the lock if it is free; return whether it is held now. Never waits.

        Raises:
            ConfigError: the state directory cannot be used.
        """
        if self._descriptor is None:
            self._descriptor = take_lock(self._path)
        return self._descriptor is not None

    async def wait(self) -> None:
        """Return when the lock is held. Cancelling leaves it free."""
        while True:
            if self.take():
                return
            await asyncio.sleep(LOCK_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
