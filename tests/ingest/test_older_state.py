"""The state directory was lost, or is a backup's: revisions count from what the database has."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from conv_realtime.models import Message, Row
from conv_realtime.testing import MemoryStore
from tests.ingest.lines import SESSION, assistant, user
from tests.ingest.running import (
    Heard,
    backfill,
    ingest,
    rows_of,
    running,
    shelf_of,
    texts,
    until,
    write,
)
from tests.ingest.stores import Shut, Strict


def _refused_anew(row: Row) -> bool:
    """Find prompts of a rewritten file."""
    return isinstance(row, Message) and row.text == "prompt q" and row.revision > 1000


async def _grows_and_is_cut(folder: Path, store: MemoryStore) -> Path:
    """Have a file be in the end what it was at first; gives its path."""
    write(folder, user("q"))
    await backfill(folder, store)
    shutil.copytree(folder / "state", folder / "kept")
    write(folder, user("q"), assistant("a", "m"), user("r"), user("s"))
    await backfill(folder, store)
    path = write(folder, user("q"))
    await backfill(folder, store)
    assert texts(store) == ["prompt q"]
    return path


def _restore(folder: Path) -> None:
    shutil.rmtree(folder / "state")
    (folder / "kept").rename(folder / "state")


async def _totals_follow(folder: Path, path: Path, store: MemoryStore) -> None:
    await backfill(folder, store)
    (row,), (live,) = store.conversations.values(), _live(store)
    assert row.revision == live.revision
    with path.open("ab") as file:
        file.write(user("t"))
    await backfill(folder, store)
    (row,) = store.conversations.values()
    assert (row.message_count, row.revision) == (2, max(one.revision for one in _live(store)))


def _live(store: MemoryStore) -> list[Message]:
    return [row for row in store.messages.values() if row.deleted_at is None]


@pytest.mark.parametrize("kept", [False, True])
async def test_totals_above_all_messages_say_that_a_file_was_rewritten(
    tmp_path: Path, kept: bool
) -> None:
    """Its messages were refused then; counted as before, its further totals would be dropped."""
    store = Strict(_refused_anew)
    path = await _grows_and_is_cut(tmp_path, store)
    store.poison = lambda row: False
    if kept:
        _restore(tmp_path)
    else:
        shutil.rmtree(tmp_path / "state")
    await _totals_follow(tmp_path, path, store)


async def test_what_is_as_an_older_state_has_it_is_told_as_the_database_does(
    tmp_path: Path,
) -> None:
    """That it grew, and was cut again, only the database knows; nothing is to be sent."""
    store, heard = MemoryStore(), Heard()
    await _grows_and_is_cut(tmp_path, store)
    _restore(tmp_path)
    async with running(ingest(tmp_path, store, heard)) as river:
        (known,) = _live(store)
        await until(lambda: heard.texts() and river.health()["queue"] == 0)
        (row,) = await river.transcripts.conversations()
        (message,) = await river.transcripts.messages(row.id, 9)
    assert known.revision <= message.revision
    assert [(row.revision, message.revision)] == [
        (row.revision, live.revision)
        for row, live in zip(store.conversations.values(), _live(store), strict=True)
    ]


async def test_a_file_begun_again_is_another_conversation_by_what_the_database_has(
    tmp_path: Path,
) -> None:
    """A state of when it had been cut and nothing was sent, from before it was replaced."""
    store = Shut()
    write(tmp_path, user("q"), assistant("a", "m"))
    await backfill(tmp_path, store)
    write(tmp_path, user("q"))
    store.takes.clear()
    async with running(ingest(tmp_path, store)) as river:
        path = str(tmp_path / "projects" / f"-p/{SESSION}.jsonl")
        await until(lambda: shelf_of(river).checkpoints[path].rewritten)
    store.takes.set()
    shutil.copytree(tmp_path / "state", tmp_path / "kept")
    await backfill(tmp_path, store)
    write(tmp_path, user("r"), assistant("b", "n"))
    await backfill(tmp_path, store)
    assert len(store.conversations) == 2
    rows = rows_of(store)
    _restore(tmp_path)
    await backfill(tmp_path, store)
    assert rows_of(store) == rows
