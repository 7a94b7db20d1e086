"""Linux: inotify, read on the loop itself.

The kernel watches single folders. Each is added by whoever walks, just before it is listed
(`enter`), so one walk both finds what is there and watches it, and between the two nothing falls;
a folder that appears is reported, to be walked in its turn. Moves need not be paired: both ends are
worth a look. Where the kernel dropped events everything is walked, and every folder added again,
for the same number if it is the same folder.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from conv_realtime.background import on_thread
from conv_realtime.edges.watch import kernel
from conv_realtime.edges.watch.folders import Folders
from conv_realtime.edges.watch.kernel import Kernel
from conv_realtime.edges.watch.watcher import Identity, Wakeup, Watcher, identity, logger

_LIMITS = (errno.ENOSPC, errno.ENOMEM)


class InotifyWatcher(Watcher):
    """Watches the folders that are entered; those of `paths` have to be walked for that."""

    def __init__(self, paths: Sequence[Path], *, optional: bool = False) -> None:
        super().__init__(paths, optional=optional)
        self._kernel: Kernel | None = None
        self._identities: dict[str, Identity | None] = {}
        self._refused: set[str] = set()
        self._lock = threading.Lock()
        self._folders = Folders()

    async def __aenter__(self) -> Self:
        """Begin to watch: walk the paths after this, and not before."""
        self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if (ended := self._end()) is not None:
            await on_thread(ended.close)

    @property
    def alive(self) -> bool:
        """Whether events come at all."""
        return self._kernel is not None

    @property
    def watching(self) -> str:
        """One word for `/healthz`: see `Watcher.watching`."""
        if not self.alive:
            return "down"
        missing = not self._optional and None in self._identities.values()
        return "partial" if missing or self._refused else "ok"

    @property
    def blind(self) -> bool:
        """Whether there are folders from which no event comes."""
        return bool(self._refused) or not self.alive

    @property
    def outdated(self) -> bool:
        """Whether `arm` has to be called: see `Watcher.outdated`."""
        return any(known != identity(path) for path, known in self._identities.items())

    async def arm(self) -> None:
        """Watch anew what is not what it was: see `Watcher.arm`."""
        if not self.alive:
            self._begin()
        await on_thread(self._take_up)

    def enter(self, folder: str) -> None:
        """Watch a folder that is about to be listed. May be called on any thread."""
        if folder in self._folders:
            return
        with self._lock:
            if self._kernel is None:
                return
            try:
                number = self._kernel.add(folder)
            except OSError as error:
                if error.errno in _LIMITS:
                    self._refuse(folder)
                return  # else gone or closed: it cannot be listed either
            self._folders.add(folder, number)
            self._refused.discard(folder)

    async def follow_links(self, links: Sequence[str]) -> bool:
        """Return whether one leads to another folder by now; no event tells of that."""
        if not links:
            return False
        return any(await on_thread(lambda: [self._leads_elsewhere(one) for one in links]))

    # The kernel -----------------------------------------------------------------------------

    def _begin(self) -> None:
        self._identities = {path: identity(path) for path in self._paths}
        try:
            self._kernel = Kernel()
        except OSError as error:
            self._complain("anything", str(error))
            return
        asyncio.get_running_loop().add_reader(self._kernel.fd, self._read)

    def _take_up(self) -> None:
        """Forget what was watched where a path leads elsewhere now, so that it is entered anew."""
        for path, known in self._identities.items():
            if known != (now := identity(path)):
                self._identities[path] = now
                with self._lock:
                    self._drop(path)
                    self._folders.forget(os.path.dirname(path))
        # Without the lock, which events wait for: there may be tens of thousands.
        gone = [folder for folder in tuple(self._refused) if not os.path.isdir(folder)]
        with self._lock:
            self._refused.difference_update(gone)

    def _leads_elsewhere(self, link: str) -> bool:
        """Return whether a link does; then nothing is watched there before it is entered anew."""
        with self._lock:
            known = self._folders.number(link)
            try:
                if known is None or self._kernel is None or self._kernel.add(link) == known:
                    return False
            except OSError:  # to nothing
                return False
            self._drop(link)
            return True

    def _end(self) -> Kernel | None:
        with self._lock:
            ended, self._kernel = self._kernel, None
            self._folders = Folders()
            self._refused.clear()
        if ended is not None:
            asyncio.get_running_loop().remove_reader(ended.fd)
        return ended

    def _read(self) -> None:
        assert self._kernel is not None
        seen = Wakeup()
        try:
            with self._lock:
                for number, mask, name in self._kernel.read():
                    self._take(seen, number, mask, name)
        except OSError as error:
            logger.error("file events cannot be read: %s; watching anew", error)
            if (ended := self._end()) is not None:
                ended.close()
        if seen:
            self._join(seen)

    def _take(self, seen: Wakeup, number: int, mask: int, name: str) -> None:
        if mask & kernel.OVERFLOW:
            logger.warning("the kernel dropped file events; sweeping")
            self._folders.forget_paths()
            seen.sweep = True
        elif mask & kernel.IGNORED:  # the folder is gone
            for folder in self._folders.end(number):
                self._know_as_gone(folder)
        else:
            for folder in self._folders.paths(number):
                self._take_one(seen, os.path.join(folder, name), mask)

    def _take_one(self, seen: Wakeup, path: str, mask: int) -> None:
        known = path in self._folders and not mask & kernel.MODIFY
        if known and mask & kernel.IS_FOLDER and not mask & kernel.MOVED_FROM:
            self._folders.forget(path)  # empty, and another folder now or none
        elif known:
            self._drop(path)
        if not mask & kernel.IS_FOLDER:
            seen.files.add(path)
            seen.sweep |= known  # a link, which may lead anywhere
        elif mask & (kernel.CREATE | kernel.MOVED_TO):
            seen.folders.add(path)

    def _drop(self, path: str) -> None:
        """Watch nothing at a path or below it."""
        for number in self._folders.drop(path):
            if self._kernel is not None:
                self._kernel.remove(number)

    def _know_as_gone(self, folder: str) -> None:
        """Have what is watched by a folder taken up anew: the next one may get its inode."""
        for path in self._identities:
            if folder in (path, os.path.dirname(path)):
                self._identities[path] = None

    def _refuse(self, folder: str) -> None:
        self._refused.add(folder)
        self._complain(folder, "the system watches no more folders")
