"""What watches folders, whatever the system: an async context manager bound to its loop."""

from __future__ import annotations

import abc
import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

logger = logging.getLogger("conv_realtime.watch")

Identity = tuple[int, int]
"""Device and inode."""


@dataclass(slots=True)
class Wakeup:
    """Paths worth a look: files, folders to walk, or everything (`sweep`)."""

    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    sweep: bool = False

    def __bool__(self) -> bool:
        return bool(self.files or self.folders or self.sweep)


class Watcher(abc.ABC):
    """Watches files and folders with all that is in them."""

    def __init__(self, paths: Sequence[Path], *, optional: bool = False) -> None:
        self._paths = [os.path.abspath(path) for path in paths]
        self._optional = optional
        self._complained = False
        self._pending = Wakeup()
        self._woken = asyncio.Event()

    @abc.abstractmethod
    async def __aenter__(self) -> Self:
        """Begin to watch: walk the paths after this, and not before."""

    @abc.abstractmethod
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None: ...

    @property
    @abc.abstractmethod
    def alive(self) -> bool:
        """Whether events come at all."""

    @property
    @abc.abstractmethod
    def watching(self) -> str:
        """One word for `/healthz`: `ok`, `partial` or `down`.

        `partial`: a path that has to exist does not, or not all folders below it are watched.
        """

    @property
    @abc.abstractmethod
    def blind(self) -> bool:
        """Whether there are folders from which no event comes: only a sweep sees them."""

    @property
    @abc.abstractmethod
    def outdated(self) -> bool:
        """Whether `arm` has to be called at once.

        A path appeared, vanished or was replaced by another, or a thread has ended. Where the
        system lets nobody watch (`blind`), it is called before each sweep.
        """

    @abc.abstractmethod
    async def arm(self) -> None:
        """Take up paths that appeared or were replaced, and begin again where watching ended.

        What happened in between is not reported: walk the paths after this.
        """

    @abc.abstractmethod
    def enter(self, folder: str) -> None:
        """Watch a folder that is about to be listed. May be called on any thread.

        Whoever walks calls it for each folder first: what is in it by then is found by listing,
        what comes later is reported.
        """

    @abc.abstractmethod
    async def follow_links(self, links: Sequence[str]) -> bool:
        """Watch linked folders that were walked, and no others.

        Returns whether any were not watched while they were walked: walk them after this.
        """

    async def wakeups(self) -> AsyncIterator[Wakeup]:
        """Yield what is worth a look, joined while nobody asks; ends never."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            pending, self._pending = self._pending, Wakeup()
            if pending:
                yield pending

    def _join(self, seen: Wakeup) -> None:
        """Add to what is worth a look. On the loop's thread only."""
        self._pending.files |= seen.files
        self._pending.folders |= seen.folders
        self._pending.sweep |= seen.sweep
        self._woken.set()

    def _complain(self, folder: str, reason: str) -> None:
        if not self._complained:
            self._complained = True
            logger.error(
                "cannot watch %s: %s; what is not watched is swept. On Linux, raise"
                " fs.inotify.max_user_watches or max_user_instances (sysctl)",
                folder,
                reason,
            )


def folder_of(path: str) -> str:
    """Return what is watched for `path`: a file is watched by the folder that it is in.

    With a separator at the end, which leads to what a link leads to.
    """
    return os.path.join(path if os.path.isdir(path) else os.path.dirname(path), "")


def identity(path: str) -> Identity | None:
    """Return what is watched for `path`, None while it does not exist."""
    if not os.path.exists(path):
        return None
    try:
        found = os.stat(folder_of(path))
    except OSError:
        return None
    return found.st_dev, found.st_ino
