"""One local Supabase per folder: a lock that the operating system frees, whatever happens."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Self

from conv_realtime import shared_files
from conv_realtime.errors import ConfigError, unusable
from conv_realtime.local.postgres.orphans import exists

_PATIENCE_SECONDS = 15.0
_RETRY_SECONDS = 0.05


class FolderLock:
    """Holds `path` locked between entering and leaving.

    The guard of PostgreSQL inherits `fileno()`, and with it the lock, so that after a `kill -9` the
    folder stays locked until PostgreSQL has ended. Entering waits for that; a holder that is alive
    is an error at once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def fileno(self) -> int:
        """Gives the locked file's descriptor."""
        return self._fd

    def check(self) -> None:
        """Raises a `ConfigError` where the folder is not the locked one any more.

        Whoever removes it and begins anew has another lock, and a PostgreSQL that is not ours to
        end.
        """
        if not self._is_in_place():
            raise ConfigError(
                "state_dir",
                f"{self._path.parent} was removed or replaced while it was used; stop this process",
            )

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(self._path))
        except FileNotFoundError:
            return False

    async def __aenter__(self) -> Self:
        """Locks the folder.

        Raises:
            ConfigError: another process uses it (its pid is in the message), or nobody can.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                await self._acquire()
                os.ftruncate(self._fd, 0)
                os.pwrite(self._fd, str(os.getpid()).encode(), 0)
            except BaseException:
                os.close(self._fd)
                raise
        except OSError as error:  # a full disk, a folder that is not ours
            raise unusable(self._path.parent, error) from error
        return self

    async def __aexit__(self, *exception: object) -> None:
        os.close(self._fd)

    async def _acquire(self) -> None:
        deadline = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
        while not shared_files.lock(self._fd):
            holder = os.pread(self._fd, 32, 0).decode()
            late = asyncio.get_running_loop().time() > deadline
            if late or (holder.isdigit() and exists(int(holder))):
                raise ConfigError(
                    "state_dir",
                    f"{self._path.parent} is in use by process {holder or 'unknown'}; "
                    "stop it or choose another state directory",
                )
            await asyncio.sleep(_RETRY_SECONDS)
