"""The file system's events: watchdog wakes, and what it may have missed is said plainly.

An event is only a hint that a path is worth a look. watchdog loses events without telling its
handlers when the kernel's queue overflows, and stops for ever when its reader thread dies, so
both are noticed here and answered by a sweep; a slow periodic sweep guarantees the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import warnings
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

from conv_realtime.edges.watch.inotify import lossless_observer

logger = logging.getLogger("conv_realtime.watch")

# watchdog's default mask also reports opening and closing: our own reads would wake us, and
# above 4,096 folders it overflows its own queue for ever.
_EVENTS: list[type[FileSystemEvent]] = [
    FileModifiedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileDeletedEvent,
    DirCreatedEvent,
    DirMovedEvent,
    DirDeletedEvent,
]

# Registering a folder twice makes watchdog warn on its reader thread. Under `-W error` that
# ends the thread, and the observer is blind without a word.
warnings.filterwarnings("ignore", category=RuntimeWarning, module="watchdog")


@dataclass(slots=True)
class Wakeup:
    """Paths worth a look: files, folders to walk, or everything (`sweep`)."""

    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    sweep: bool = False

    def __bool__(self) -> bool:
        return bool(self.files or self.folders or self.sweep)


@dataclass(frozen=True, slots=True)
class _Armed:
    """What is watched for a path; no `watch` where the system refused one."""

    watch: ObservedWatch | None
    identity: tuple[int, int]


def _folder(path: str) -> str:
    """Return what is watched for `path`: a file is watched by the folder that it is in.

    With a separator at the end: watchdog watches a link itself and not what it leads to.
    """
    return os.path.join(path if os.path.isdir(path) else os.path.dirname(path), "")


def _identity(path: str) -> tuple[int, int] | None:
    """Return device and inode of what is watched for `path`, None while it does not exist."""
    if not os.path.exists(path):
        return None
    try:
        found = os.stat(_folder(path))
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Watcher:
    """Watches files and folders, recursively; an async context manager bound to its loop.

    Args:
        paths: what to watch. What does not exist yet is taken up by a later `arm`.
        optional: whether nothing is wrong where some of them never exist.
    """

    def __init__(self, paths: Sequence[Path], *, optional: bool = False) -> None:
        self._paths = [os.path.abspath(path.expanduser()) for path in paths]
        self._optional = optional
        self._links: list[str] = []
        self._refused: set[str] = set()
        self._complained = False
        self._armed: dict[str, _Armed] = {}
        self._observer: BaseObserver | None = None
        self._pending = Wakeup()
        self._woken = asyncio.Event()
        self._handler = _Handler(self._report)
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        """Begin to watch. Returns when the kernel reports changes: scan after this, not before."""
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._stop)

    @property
    def alive(self) -> bool:
        """Whether every thread that events pass through is running."""
        observer = self._observer
        if observer is None or not observer.is_alive():
            return False
        threads: list[Any] = list(observer.emitters)
        threads += [fd for e in observer.emitters if (fd := getattr(e, "_inotify_fd", None))]
        return all(thread.is_alive() for thread in threads)

    @property
    def watching(self) -> str:
        """One word for `/healthz`: `ok`, `partial` or `down`.

        `partial`: a path that has to exist does not, or not all folders below it are watched.
        """
        if not self.alive:
            return "down"
        armed = [path for path, armed in self._armed.items() if armed.watch is not None]
        wanted = self._armed.keys() if self._optional else set(self._wanted)
        whole = len(armed) == len(wanted) and not self._refused
        return "ok" if whole else "partial"

    @property
    def blind(self) -> bool:
        """Whether there are folders from which no event comes: only a sweep sees them."""
        unwatched = any(armed.watch is None for armed in self._armed.values())
        return unwatched or bool(self._refused) or not self.alive

    @property
    def _wanted(self) -> list[str]:
        return self._paths + self._links

    @property
    def outdated(self) -> bool:
        """Whether `arm` has to be called.

        A path appeared, vanished or was replaced by another, or no event comes any more.
        """
        return not self.alive or any(self._known(path) != _identity(path) for path in self._wanted)

    async def arm(self) -> None:
        """Take up paths that appeared or were replaced, and begin again where watching ended.

        What happened in between is not reported: walk the paths after this.
        """
        if not self.alive:
            logger.error("file watching has stopped; starting it again")
            await asyncio.to_thread(self._stop)
            await asyncio.to_thread(self._start)
        elif self.outdated or self.watching != "ok":
            await asyncio.to_thread(self._schedule)

    async def follow_links(self, links: Sequence[str]) -> bool:
        """Watch these linked folders too, and no others; return whether any are new.

        Events do not pass through links. Walk new ones after this.
        """
        new = set(links) - set(self._links)
        if new or len(links) < len(self._links):
            self._links = sorted(links)
            await asyncio.to_thread(self._schedule)
        return bool(new)

    async def wakeups(self) -> AsyncIterator[Wakeup]:
        """Yield what is worth a look, joined while nobody asks; ends never."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            pending, self._pending = self._pending, Wakeup()
            if pending:
                yield pending

    # Threads ------------------------------------------------------------------------------

    def _start(self) -> None:
        self._armed.clear()
        self._observer = lossless_observer(self._overflowed, self._refuse) or Observer()
        self._observer.start()
        self._schedule()

    def _schedule(self) -> None:
        for path in self._armed.keys() - set(self._wanted):
            self._unschedule(path)
        refused, self._refused = self._refused, set()
        for path in self._wanted:
            armed, identity = self._armed.get(path), _identity(path)
            if armed is not None:
                if armed.watch is not None and armed.identity == identity:
                    continue
                self._unschedule(path)
            if identity is not None:
                self._armed[path] = _Armed(self._watch(path), identity)
        if refused and self._observer is not None:
            for emitter in self._observer.emitters:
                getattr(emitter, "watch_again", lambda: None)()

    def _watch(self, path: str) -> ObservedWatch | None:
        assert self._observer is not None
        folder = _folder(path)
        try:
            return self._observer.schedule(
                self._handler, folder, recursive=os.path.isdir(path), event_filter=_EVENTS
            )
        except OSError as error:  # the limit on watches, most likely
            self._complain(folder, str(error))
            return None

    def _unschedule(self, path: str) -> None:
        """Stop watching what was at `path`: a watch stays with a folder, not with its name."""
        armed = self._armed.pop(path)
        if self._observer is not None and armed.watch is not None:
            with contextlib.suppress(KeyError):  # another path shared it
                self._observer.unschedule(armed.watch)

    def _known(self, path: str) -> tuple[int, int] | None:
        armed = self._armed.get(path)
        return None if armed is None else armed.identity

    def _stop(self) -> None:
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join(5)

    def _refuse(self, folder: str) -> None:
        if not self._refused:
            self._complain(folder, "the system watches no more folders")
        self._refused.add(folder)

    def _complain(self, folder: str, reason: str) -> None:
        if not self._complained:
            self._complained = True
            logger.error(
                "cannot watch %s: %s; what is not watched is swept. On Linux, raise"
                " fs.inotify.max_user_watches (sysctl)",
                folder,
                reason,
            )

    def _overflowed(self) -> None:
        logger.warning("the kernel dropped file events; sweeping")
        self._report(Wakeup(sweep=True))

    def _report(self, seen: Wakeup) -> None:
        """Hand over to the loop. Called on watchdog's threads: it must never raise."""
        try:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._join, seen)
        except RuntimeError:  # the loop has ended
            pass

    def _join(self, seen: Wakeup) -> None:
        self._pending.files |= seen.files
        self._pending.folders |= seen.folders
        self._pending.sweep |= seen.sweep
        self._woken.set()


class _Handler(FileSystemEventHandler):
    def __init__(self, report: Callable[[Wakeup], None]) -> None:
        self._report = report

    def on_any_event(self, event: FileSystemEvent) -> None:
        paths = {os.fsdecode(path) for path in (event.src_path, event.dest_path) if path}
        self._report(Wakeup(folders=paths) if event.is_directory else Wakeup(files=paths))
