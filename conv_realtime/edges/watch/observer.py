"""Other systems than Linux: watchdog, on threads of its own.

It stops for ever when one of them dies, so that is noticed and answered by a sweep.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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

from conv_realtime.background import on_thread
from conv_realtime.edges.watch.watcher import (
    Identity,
    Wakeup,
    Watcher,
    folder_of,
    identity,
    logger,
)

# watchdog also reports opening and closing: our own reads would wake us.
_EVENTS: list[type[FileSystemEvent]] = [
    FileModifiedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileDeletedEvent,
    DirCreatedEvent,
    DirMovedEvent,
    DirDeletedEvent,
]


_QUIET_SECONDS = 0.1
"""On Windows watchdog 7.1 reports what it has when for so long nothing more has come."""


@dataclass(frozen=True, slots=True)
class _Armed:
    """What is watched for a path; no `watch` where the system refused one."""

    watch: ObservedWatch | None
    identity: Identity


class ObserverWatcher(Watcher):
    """Watches the paths, recursively, from when it is entered."""

    def __init__(self, paths: Sequence[Path], *, optional: bool = False) -> None:
        super().__init__(paths, optional=optional)
        self._links: list[str] = []
        self._armed: dict[str, _Armed] = {}
        self._observer: BaseObserver | None = None
        self._handler = _Handler(self._report)
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        """Begin to watch: walk the paths after this, and not before."""
        self._loop = asyncio.get_running_loop()
        try:
            await on_thread(self._start)
        except BaseException:  # cancelled, above all: nobody leaves what was not entered
            await on_thread(self._stop)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await on_thread(self._stop)

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
        """One word for `/healthz`: see `Watcher.watching`."""
        if not self.alive:
            return "down"
        armed = [path for path, armed in self._armed.items() if armed.watch is not None]
        wanted = self._armed.keys() if self._optional else set(self._wanted)
        return "ok" if len(armed) == len(wanted) else "partial"

    @property
    def blind(self) -> bool:
        """Whether there are folders from which no event comes: only a sweep sees them."""
        return any(armed.watch is None for armed in self._armed.values()) or not self.alive

    @property
    def _wanted(self) -> list[str]:
        return self._paths + self._links

    @property
    def outdated(self) -> bool:
        """Whether `arm` has to be called: see `Watcher.outdated`."""
        return not self.alive or any(self._known(path) != identity(path) for path in self._wanted)

    async def arm(self) -> None:
        """Watch anew what is not what it was: see `Watcher.arm`."""
        if not self.alive:
            logger.error("file watching has stopped; starting it again")
            await on_thread(self._stop)
            await on_thread(self._start)
        elif self.outdated or self.watching != "ok":
            await on_thread(self._schedule)

    def enter(self, folder: str) -> None:
        """Do nothing: what is below a path is watched since before it was walked."""

    async def follow_links(self, links: Sequence[str]) -> bool:
        """Watch these linked folders too: see `Watcher.follow_links`. Events pass no links."""
        new = set(links) - set(self._links)
        if new or len(links) < len(self._links):
            self._links = sorted(links)
            await on_thread(self._schedule)
        return bool(new)

    # Threads ------------------------------------------------------------------------------

    def _start(self) -> None:
        self._armed.clear()
        self._observer = Observer(timeout=_QUIET_SECONDS)
        self._observer.start()
        self._schedule()

    def _schedule(self) -> None:
        for path in self._armed.keys() - set(self._wanted):
            self._unschedule(path)
        for path in self._wanted:
            armed, now = self._armed.get(path), identity(path)
            if armed is not None:
                if armed.watch is not None and armed.identity == now:
                    continue
                self._unschedule(path)
            if now is not None:
                self._armed[path] = _Armed(self._watch(path), now)

    def _watch(self, path: str) -> ObservedWatch | None:
        assert self._observer is not None
        folder = folder_of(path)
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

    def _known(self, path: str) -> Identity | None:
        armed = self._armed.get(path)
        return None if armed is None else armed.identity

    def _stop(self) -> None:
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join(5)

    def _report(self, seen: Wakeup) -> None:
        """Hand over to the loop. Called on watchdog's threads: it must never raise."""
        try:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._join, seen)
        except RuntimeError:  # the loop has ended
            pass


class _Handler(FileSystemEventHandler):
    def __init__(self, report: Callable[[Wakeup], None]) -> None:
        self._report = report

    def on_any_event(self, event: FileSystemEvent) -> None:
        paths = {os.fsdecode(path) for path in (event.src_path, event.dest_path) if path}
        self._report(Wakeup(folders=paths) if event.is_directory else Wakeup(files=paths))
