"""A bridge without server and database."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid5

from conv_realtime.bridge import Bridge
from conv_realtime.core.log import Entry
from conv_realtime.events import DATA_TYPES, Event
from conv_realtime.events.matching import matches, values_of
from conv_realtime.models import NAMESPACE
from conv_realtime.testing.lines import session_of
from conv_realtime.testing.memory_store import MemoryStore

OWNER = uuid5(NAMESPACE, "testing")
"""Who owns the rows of `bridge()`."""


class TestBridge:
    """What `bridge()` gives: transcripts to append to, and the events that follow."""

    __test__ = False  # pytest looks for classes of this name

    def __init__(self, running: Bridge, store: MemoryStore, transcripts: Path) -> None:
        self.bridge = running
        self.store = store
        self.transcripts = transcripts
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def append(self, line: str | bytes, *, session: str | None = None) -> Path:
        """Append `line` to the transcript of its session; return the file."""
        data = line.encode() if isinstance(line, str) else line
        folder = self.transcripts / "-project"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{session or session_of(data)}.jsonl"
        with path.open("ab") as file:
            file.write(data)
        return path

    async def next(self, type: str, within: float = 10.0, **match: Any) -> Any:
        """Return the next event of `type` whose data has the given values; skips others.

        Raises:
            TimeoutError: none came within `within` seconds.
            ValueError: there is no such event type, or no event of it could have these values.
        """
        values = values_of(type, match)
        async with asyncio.timeout(within):
            while True:
                event = await self._events.get()
                if event.type == type and matches(event.data, values):
                    return event

    def hear(self, entry: Entry) -> None:
        """Take an event in the order of `/ws`; unlike `events()`, this has `file_update` too."""
        if entry.event.type in DATA_TYPES and not entry.late:
            self._events.put_nowait(entry.event)


@asynccontextmanager
async def bridge(**settings: Any) -> AsyncIterator[TestBridge]:
    """Run a bridge on a temporary folder and a `MemoryStore`; keywords are `Settings` fields."""
    with tempfile.TemporaryDirectory(prefix="conv_realtime-") as folder:
        root, transcripts = _folders(folder)
        store = MemoryStore()
        values = {"state_dir": root / "state", "owner_id": OWNER, "machine": "testing", **settings}
        running = Bridge([transcripts], store=store, **values)
        tested = TestBridge(running, store, transcripts)
        async with running:
            running.manager.hub.appended.append(tested.hear)
            yield tested


def _folders(folder: str) -> tuple[Path, Path]:
    # Resolved, because a watcher reports real paths and a temporary folder may be a link.
    root = Path(folder).resolve()
    transcripts = root / "projects"
    transcripts.mkdir()
    return root, transcripts
