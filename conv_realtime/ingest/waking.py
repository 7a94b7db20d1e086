"""When a file is looked at: events wake at once, a slow sweep over all files guarantees."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Collection, Iterable
from pathlib import Path

from conv_realtime.edges import disk
from conv_realtime.edges.watch import Wakeup, Watcher
from conv_realtime.errors import SourceError
from conv_realtime.ingest.desk import Desk
from conv_realtime.ingest.tender import Tender

logger = logging.getLogger("conv_realtime.ingest")

APPEAR_SECONDS = 1.0
"""How often is looked whether a watched path is there, and still the same."""


class Waker:
    """Sends a tender to what changed below `paths`."""

    def __init__(
        self, desk: Desk, tender: Tender, watcher: Watcher, paths: Collection[Path]
    ) -> None:
        self._desk = desk
        self._tender = tender
        self._watcher = watcher
        self._paths = paths

    async def follow(self) -> None:
        """Look at what the watcher reports, until cancelled."""
        async for wakeup in self._watcher.wakeups():
            if wakeup.sweep:
                await self._sweep()
            await self._look(wakeup)

    async def sweep_for_ever(self) -> None:
        """Sweep now and then, and whenever a path appears or is replaced, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._desk.settings.sweep_seconds):
                    await self._until_outdated()
            await self._watcher.arm()
            await self._sweep()

    async def _look(self, wakeup: Wakeup) -> None:
        for folder in wakeup.folders:
            with contextlib.suppress(SourceError):  # it is gone again
                wakeup.files.update(await _walk([Path(folder)]))
        for path in wakeup.files:
            if disk.is_transcript_name(path) or path in self._desk.shelf.books:
                self._tender.look_soon(path, tell=True)

    async def _until_outdated(self) -> None:
        """Return when a watched path appears, vanishes or is replaced by another."""
        while not self._watcher.outdated:  # noqa: ASYNC110 - nothing tells of folders outside
            await asyncio.sleep(APPEAR_SECONDS)

    async def _sweep(self) -> None:
        """Look at every file whose state on disk is not the one last seen."""
        shelf = self._desk.shelf
        try:
            paths = await _walk(existing(self._paths))
        except SourceError as error:  # it went, or was closed, just now
            logger.warning("%s", error)
            return
        for path in paths:
            book = shelf.books.get(path)
            checkpoint = shelf.checkpoints.get(path)
            followed = book is not None and book.follower is not None
            if followed or checkpoint is None or checkpoint.stat != disk.stat(path):
                self._tender.look_soon(path)


def existing(paths: Iterable[Path]) -> set[Path]:
    """Return those of `paths` that are there now."""
    # Not Path.exists, which raises where a folder above is closed to us.
    return {path for path in paths if os.path.exists(path.expanduser())}


async def _walk(paths: Iterable[Path]) -> list[str]:
    return await asyncio.to_thread(lambda: list(disk.walk(paths)))
