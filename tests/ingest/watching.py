"""Transcripts that appear and grow while they are watched, without a sweep that would find them."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

import pytest

from conv_realtime.ingest import Ingest
from conv_realtime.testing import MemoryStore
from tests.ingest.lines import user
from tests.ingest.running import until

NEVER = 3600
"""Seconds between sweeps where events alone have to do."""

linux = pytest.mark.skipif(sys.platform != "linux", reason="is about inotify")


def new_session(folder: Path, name: object) -> Path:
    """Writes a transcript of a session of its own; gives its path."""
    session = str(uuid.uuid4())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{session}.jsonl"
    path.write_bytes(user(name, session=session))
    return path


async def grows(river: Ingest, path: Path, store: MemoryStore, messages: int) -> None:
    """Appends to a transcript that nobody is about to look at; returns when that is stored."""
    book = river._opened[0].shelf.book(str(path))
    await until(lambda: book.settling is not None and book.settling.done())
    with path.open("ab") as file:
        file.write(user(messages, session=path.stem))
    await until(lambda: len(store.messages) == messages)
