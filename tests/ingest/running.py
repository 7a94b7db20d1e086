"""An ingest on a folder of the test's own, and what is asked of it again and again."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from conv_realtime.ingest import Ingest, Summary
from conv_realtime.ingest.shelf import Shelf
from conv_realtime.models import Change, Message, StoredFault
from conv_realtime.testing import MemoryStore
from tests.ingest.folding import IDENTITY
from tests.ingest.lines import SESSION, user, uuid


class Heard:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.files: list[tuple[str, str, int]] = []

    def publish(self, changes: Sequence[Change]) -> None:
        """Keep changes."""
        self.changes.extend(changes)

    def file_changed(self, path: str, change: str, size: int) -> None:
        """Keep a file's change."""
        self.files.append((path, change, size))

    def texts(self) -> list[str]:
        """Return the texts of the messages heard, in order."""
        return [c.row.text for c in self.changes if isinstance(c.row, Message)]


def ingest(folder: Path, store: Any, sink: Heard | None = None, **settings: Any) -> Ingest:
    """Makes an ingest of `folder/projects` with its state beside it."""
    values: dict[str, Any] = {
        "state_dir": folder / "state",
        "owner_id": IDENTITY.owner_id,
        "machine": IDENTITY.machine,
        "paths": [folder / "projects"],
        "rest_seconds": 0.05,
        **settings,
    }
    return Ingest(store=store, sink=sink, **values)


async def backfill(folder: Path, store: Any, **settings: Any) -> Summary:
    """Reads everything once, as a process of its own does."""
    async with ingest(folder, store, **settings) as river:
        return await river.backfill()


def write(folder: Path, *lines: bytes, name: str = f"-p/{SESSION}.jsonl") -> Path:
    """Writes a transcript anew; gives its path."""
    path = folder / "projects" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(lines))
    return path


@asynccontextmanager
async def running(river: Ingest) -> AsyncIterator[Ingest]:
    """Runs an ingest; gives it when it watches, and checks at the end that it still does."""
    async with river:
        task = asyncio.create_task(river.run(), name="ingest under test")
        try:
            await until(lambda: task.done() or river.health()["watcher"] != "stopped")
            yield river
            assert not task.done(), task
        finally:
            task.cancel()
            await asyncio.wait({task})


async def until(holds: Callable[[], object], within: float = 20.0) -> None:
    """Returns as soon as it holds."""
    async with asyncio.timeout(within):
        while not holds():  # noqa: ASYNC110 (what is waited for has no event)
            await asyncio.sleep(0.002)


def rested(folder: Path, number: int, *lines: bytes) -> Path:
    """Writes a transcript of a session of its own that has rested for long; gives its path."""
    session = uuid(number)
    path = write(folder, *(lines or [user(number, session=session)]), name=f"-p/{session}.jsonl")
    old = time.time() - 1000
    os.utime(path, (old, old))
    return path


def shelf_of(river: Ingest) -> Shelf:
    """Gives what an ingest knows of files."""
    return river._opened[0].shelf


def letters(river: Ingest) -> list[StoredFault]:
    """Gives the dead letters."""
    assert river._desk is not None
    return list(river._desk.checkpoints.letters.faults.values())


def rows_of(store: MemoryStore) -> list[dict[str, Any]]:
    """Gives every row of a store as the database would have it, by id."""
    rows = [*store.projects.values(), *store.conversations.values(), *store.messages.values()]
    return sorted((row.to_row() for row in rows), key=lambda row: str(row["id"]))


def texts(store: MemoryStore) -> list[str]:
    """Gives the texts of the live messages, by their place in the file."""
    live = [row for row in store.messages.values() if row.deleted_at is None]
    return [row.text for row in sorted(live, key=lambda row: row.seq)]
