"""Several files with one conversation: it is written once, and no copy takes anything back."""

from __future__ import annotations

from pathlib import Path

from conv_realtime.testing import MemoryStore
from tests.ingest.lines import assistant, says, user
from tests.ingest.running import backfill, texts, write


async def test_copies_are_named_and_written_once(tmp_path: Path) -> None:
    """Of several files with the same conversation the one named like it states it."""
    lines = [user("q"), assistant("a", "m")]
    owner = write(tmp_path, *lines)
    copy = write(tmp_path, lines[0], name="-p/backup/copy.jsonl")
    store = MemoryStore()
    summary = await backfill(tmp_path, store)
    assert summary.files == 1
    assert [(skip.path, skip.reason) for skip in summary.skips] == [(str(copy), f"copy of {owner}")]
    assert texts(store) == ["prompt q", "answer a"]


async def test_an_older_copy_alone_takes_nothing_back(tmp_path: Path) -> None:
    """A backup that is read where the original is not known changes no row."""
    lines = [user("q"), assistant("a", "m", says("one")), assistant("b", "m", says("two"))]
    write(tmp_path, *lines)
    store = MemoryStore()
    await backfill(tmp_path, store)
    before = dict(store.messages)
    write(tmp_path / "elsewhere", *lines[:2], name="-p/copy.jsonl")
    summary = await backfill(tmp_path / "elsewhere", store)
    assert (summary.changed, store.messages) == (0, before)


async def test_a_copy_that_grows_further_is_followed(tmp_path: Path) -> None:
    """A synchronised folder goes on where the original ended."""
    lines = [user("q"), assistant("a", "m")]
    write(tmp_path, *lines)
    store = MemoryStore()
    await backfill(tmp_path, store)
    write(tmp_path, *lines, user("r"), name="-synced/copy.jsonl")
    await backfill(tmp_path, store)
    assert texts(store) == ["prompt q", "answer a", "prompt r"]
    assert all(row.deleted_at is None for row in store.messages.values())
