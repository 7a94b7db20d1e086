"""When a file is looked at: events wake at once, sweeps over all files guarantee.

A sweep that finds what no event told of shows that events do not come: from a network drive, from
folders that the system does not watch, from a program that writes through mapped memory. Sweeps
are then as frequent as they are cheap.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from conv_realtime.background import on_thread
from conv_realtime.core.checkpoint import FileStat
from conv_realtime.edges import disk
from conv_realtime.edges.watch import Wakeup, Watcher
from conv_realtime.errors import SourceError
from conv_realtime.ingest.desk import Desk
from conv_realtime.ingest.shelf import Shelf
from conv_realtime.ingest.tender import Tender

logger = logging.getLogger("conv_realtime.ingest")

APPEAR_SECONDS = 1.0
"""How often is looked whether a watched path is there, and still the same."""

FASTEST_SWEEP_SECONDS = 1.0
SWEEP_SHARE = 0.02
"""The part of the time that sweeps may take where they replace events."""

State = tuple[str, FileStat]
"""A file, by its path, and how it was found."""

_ON_ITS_WAY_NS = 1_000_000_000
_QUIET_SWEEPS = 60


class Waker:
    """Sends a tender to what changed below `paths`."""

    def __init__(
        self, desk: Desk, tender: Tender, watcher: Watcher, paths: Collection[Path]
    ) -> None:
        self._desk = desk
        self._tender = tender
        self._watcher = watcher
        self._paths = paths
        self._places = {os.path.abspath(path) for path in paths}
        self._beside = {os.path.dirname(place) for place in self._places}
        self._below = tuple(os.path.join(place, "") for place in self._places)
        self._misses = Misses()
        self._odd: dict[str, str] = {}
        self._sweep_took = 0.0

    @property
    def watching(self) -> str:
        """One word for `/healthz`: the watcher's, or `partial` where events do not come."""
        watching = self._watcher.watching
        return "partial" if watching == "ok" and self._misses.missing else watching

    @property
    def unreadable(self) -> int:
        """How many files and folders cannot be read, as far as the last look at each says."""
        return len(self._odd) + len(self._desk.shelf.faulty())

    async def files(self) -> dict[str, FileStat]:
        """Return every file below the paths; linked folders are watched before they are read.

        Raises:
            SourceError: one of the paths went, or was closed, just now.
        """
        begun, blind = time.monotonic(), self._watcher.blind
        self._misses.begin()
        found = await self._walk(existing(self._paths))
        if await self._watcher.follow_links(found.links):
            found = await self._walk(existing(self._paths))
        self._sweep_took = time.monotonic() - begun
        if blind or self._watcher.blind:
            self._misses.excuse()
        self._tell_odd(found.odd)
        states = await on_thread(by_hash, found.stats)
        if self._misses.compare(states, time.time_ns()):
            logger.warning("files change and no event tells of it; sweeping instead")
        return found.stats

    def _tell_odd(self, odd: dict[str, str]) -> None:
        """Tell once what is passed over, and why: each sweep comes by."""
        for path, reason in odd.items() - self._odd.items():
            logger.warning("%s: %s", path, reason)
        self._odd = odd

    async def follow(self) -> None:
        """Look at what the watcher reports, until cancelled."""
        async for wakeup in self._watcher.wakeups():
            if wakeup.sweep:
                self._misses.excuse()
                await self._sweep()
            await self._look(wakeup)

    async def sweep_for_ever(self) -> None:
        """Sweep now and then, and whenever a path appears or is replaced, until cancelled."""
        while True:
            await self._until_due()
            if self._watcher.outdated or not self._watcher.alive:
                self._misses.excuse()
            await self._watcher.arm()
            await self._sweep()

    def _until_next_sweep(self) -> float:
        usual = self._desk.settings.sweep_seconds
        if not (self._watcher.blind or self._misses.missing):
            return usual
        return min(usual, max(FASTEST_SWEEP_SECONDS, self._sweep_took / SWEEP_SHARE))

    async def _look(self, wakeup: Wakeup) -> None:
        for folder in filter(self._is_wanted, wakeup.folders):
            with contextlib.suppress(SourceError):  # it is gone again
                wakeup.files.update((await self._walk([Path(folder)])).stats)
        self._misses.told(wakeup.files)
        for path in map(self._desk.shelf.subject, wakeup.files):
            named = self._desk.shelf.knows(path) or self._desk.shelf.is_named(path)
            if named and self._is_wanted(path):
                self._tender.look_soon(path, tell=True)

    def _is_wanted(self, path: str) -> bool:
        """Return whether a path is not just beside a file that is watched, by its folder."""
        if os.path.dirname(path) not in self._beside:
            return True
        return path in self._places or path.startswith(self._below)

    async def _walk(self, paths: Iterable[Path]) -> disk.Found:
        named, entering = self._desk.shelf.is_named, self._watcher.enter
        return await on_thread(disk.walk, paths, named, entering)

    async def _until_due(self) -> None:
        """Return when the next sweep is due, or the watcher is no longer what it was."""
        begun = time.monotonic()
        while not self._watcher.outdated:
            left = begun + self._until_next_sweep() - time.monotonic()
            if left <= 0:
                return
            await asyncio.sleep(min(left, APPEAR_SECONDS))

    async def _sweep(self) -> None:
        """Look at every file whose state on disk is not the one last seen."""
        try:
            stats = await self.files()
        except SourceError as error:
            logger.warning("%s", error)
            self._misses.excuse()
            return
        changed = await on_thread(_changed, self._desk.shelf, stats)
        for path in {*changed, *(self._desk.shelf.faulty() - stats.keys())}:
            self._tender.look_soon(path)


def _changed(shelf: Shelf, stats: Mapping[str, FileStat]) -> list[str]:
    """Return the files that are worth a look. On a thread: there may be a hundred thousand."""
    changed = []
    for path in stats.keys() - (shelf.resting & shelf.checkpoints.unchanged(stats)):
        stat, book = stats[path], shelf.books.get(path)
        checkpoint = shelf.checkpoints.get(path)
        if book is not None and isinstance(book.recognised, str) and book.looked_at == stat:
            continue  # nobody's, and as it was
        followed = book is not None and book.follower is not None
        if followed or checkpoint is None or checkpoint.stat != stat:
            changed.append(path)
    return changed


def by_hash(stats: Mapping[str, FileStat]) -> dict[int, State]:
    """Return files with their states by a hash of both."""
    return {hash(state): state for state in stats.items()}


class Misses:
    """Whether files change without an event, told by comparing one sweep with the next."""

    def __init__(self) -> None:
        self.missing = False
        self._told: set[str] = set()
        self._told_before: set[str] = set()
        self._before: set[int] | None = None  # hashes: of tens of thousands of files
        self._quiet = 0

    def told(self, paths: Iterable[str]) -> None:
        """Note that events came for these paths."""
        self._told.update(paths)

    def excuse(self) -> None:
        """Hold nothing against the events until after the next sweep: some were lost, and why
        is known."""
        self._before = None

    def begin(self) -> None:
        """Note that a sweep begins: what is told from now on may be of a later change."""
        self._told_before, self._told = self._told, set()

    def compare(self, states: Mapping[int, State], now_ns: int) -> bool:
        """Take the files as a sweep found them, by hash; return whether events turn out missing.

        What changed within the last second does not count: its event may be on its way.
        """
        before, self._before = self._before, set(states)
        told = self._told_before | self._told
        if before is None:
            return False
        missed = any(
            path not in told and now_ns - stat.mtime_ns > _ON_ITS_WAY_NS
            for path, stat in map(states.__getitem__, states.keys() - before)
        )
        was_missing = self.missing
        self._quiet = 0 if missed else self._quiet + 1
        self.missing = missed or (was_missing and self._quiet < _QUIET_SWEEPS)
        return self.missing and not was_missing


def existing(paths: Iterable[Path]) -> set[Path]:
    """Return those of `paths` that are there now."""
    # Not Path.exists, which raises where a folder above is closed to us.
    return {path for path in paths if os.path.exists(path)}
