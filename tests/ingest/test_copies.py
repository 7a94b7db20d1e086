"""Several files with one conversation: it is written once, and no copy takes anything back."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from conv_realtime.models import Message
from conv_realtime.testing import MemoryStore
from tests.ingest.lines import SESSION, assistant, says, user
from tests.ingest.running import Heard, backfill, ingest, running, shelf_of, texts, until, write
from tests.ingest.stores import Shut


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


async def test_who_was_taken_over_from_says_nothing_any_more(tmp_path: Path) -> None:
    """A file is away for a moment, and its older copy asks the database what that has."""
    lines = [user("q"), assistant("a", "m", says("one")), assistant("b", "m", says("two"))]
    store, heard = Shut(), Heard()
    copy = write(tmp_path, *lines[:2], name=f"-p/{SESSION}.jsonl")
    await backfill(tmp_path, store)
    shutil.copytree(tmp_path / "state", tmp_path / "older")
    file = write(tmp_path, *lines, name=f"-q/{SESSION}.jsonl")
    await backfill(tmp_path, store)
    shutil.rmtree(tmp_path / "state")
    (tmp_path / "older").rename(tmp_path / "state")  # which knows of the copy alone
    rows = dict(store.messages)

    store.tells.clear()
    store.takes.clear()
    store.asked = 0
    async with running(ingest(tmp_path, store, heard)) as river:
        shelf = shelf_of(river)
        await until(lambda: shelf.book(str(file)).follower is not None and store.asked == 1)
        file.unlink()
        copy.write_bytes(b"".join(lines[:2]))
        await until(lambda: shelf.book(str(copy)).follower is not None and store.asked == 2)
        file.write_bytes(b"".join(lines))
        await until(lambda: shelf.book(str(copy)).follower is None)
        store.tells.set()
        store.takes.set()
        await until(lambda: river.caught_up and not river.health()["lag_seconds"])
        await asyncio.sleep(0.2)
    told = [change.row for change in heard.changes if isinstance(change.row, Message)]
    assert store.messages == rows
    assert {row.id: row.revision for row in told}.items() <= {
        id: row.revision for id, row in rows.items()
    }.items()
