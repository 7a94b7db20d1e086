"""Files that are as an earlier run left them: nothing is made for each, and nothing is missed."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import pytest

from conv_realtime.core.checkpoint import Checkpoint, FileStat
from conv_realtime.edges.checkpoints import Checkpoints
from conv_realtime.edges.checkpoints.remembered import Remembered
from conv_realtime.ingest import Ingest
from conv_realtime.ingest.catching_up import Progress, Summary
from conv_realtime.ingest.shelf import Shelf
from conv_realtime.models import Conversation, Message, Project
from conv_realtime.testing import MemoryStore
from tests.ingest.lines import assistant, user, uuid
from tests.ingest.running import Heard, ingest, rested, running, shelf_of, texts, until, write
from tests.ingest.state_file import state_file
from tests.ingest.watching import NEVER

SECRET = "ghp_" + "a1B2" * 9


async def goes_on(path: Path, store: MemoryStore, before: Mapping[UUID, Message]) -> None:
    """Appends to session 1; returns when that is stored, and all else is as it was `before`."""
    with path.open("ab") as file:
        file.write(user("more", session=uuid(1)))
    await until(lambda: texts(store) == ["prompt 1", "prompt more"])
    assert {id: store.messages[id] for id in before} == before


async def backfill(folder: Path, store: MemoryStore) -> tuple[Summary, list[Progress], Shelf]:
    """Ingests once; gives the summary, how it went on, and what is known of files afterwards."""
    seen: list[Progress] = []
    async with ingest(folder, store) as river:
        summary = await river.backfill(on_progress=seen.append)
        return summary, seen, shelf_of(river)


async def test_for_a_file_that_did_not_change_nothing_is_made(tmp_path: Path) -> None:
    """It is counted as before, in one go; one that changed is looked at."""
    store = MemoryStore()
    paths = [rested(tmp_path, number) for number in range(5)]
    rested(tmp_path, 5, user("s", f"my key is {SECRET}", session=uuid(5)))
    first, _, _ = await backfill(tmp_path, store)
    second, seen, shelf = await backfill(tmp_path, store)
    assert not shelf.books
    assert len(shelf.resting) == 6
    for name in ("files", "conversations", "messages", "bytes", "redacted"):
        assert getattr(second, name) == getattr(first, name) != 0
    assert (second.unchanged, second.changed, second.skips) == (6, 0, [])
    assert [progress.done_files for progress in seen] == [6]
    with paths[0].open("ab") as file:
        file.write(user("more", session=uuid(0)))
    third, seen, shelf = await backfill(tmp_path, store)
    assert list(shelf.books) == [str(paths[0])]
    assert (third.messages, third.unchanged) == (7, 5)
    assert [progress.done_files for progress in seen] == [5, 6]
    assert seen[-1].done_bytes == seen[-1].total_bytes == third.bytes


async def test_of_a_file_that_is_done_nothing_stays_in_memory(tmp_path: Path) -> None:
    """Unless it may soon get another line."""
    store = MemoryStore()
    old, fresh = rested(tmp_path, 1), rested(tmp_path, 2)
    os.utime(old, (time.time() - 7 * 86_400,) * 2)
    async with running(ingest(tmp_path, store, sweep_seconds=NEVER)) as river:
        await until(lambda: river.caught_up)
        held = [path for path, book in shelf_of(river).books.items() if book.follower is not None]
        assert held == [str(fresh)]
        with old.open("ab") as file:
            file.write(assistant("a", "m", session=uuid(1)))
        await until(lambda: "answer a" in texts(store))
    os.utime(old, (time.time() - 7 * 86_400,) * 2)
    other = MemoryStore()
    async with ingest(tmp_path, other, state_dir=tmp_path / "other") as river:
        await river.backfill()
        assert sorted(texts(other)) == ["answer a", "prompt 1", "prompt 2"]
        held = [path for path, book in shelf_of(river).books.items() if book.follower is not None]
        assert held == [str(fresh)]


async def test_one_that_is_written_to_later_goes_on_where_it_was(tmp_path: Path) -> None:
    """What was sent is not sent again, what comes is."""
    store = MemoryStore()
    path = rested(tmp_path, 1)
    await backfill(tmp_path, store)
    before = dict(store.messages)
    async with running(ingest(tmp_path, store, sweep_seconds=NEVER)) as river:
        await until(lambda: river.caught_up)
        assert river.health()["files"] == 1
        assert not shelf_of(river).books
        with path.open("ab") as file:
            file.write(assistant("a", "m", session=uuid(1)))
        await until(lambda: texts(store) == ["prompt 1", "answer a"])
        assert river.health()["files"] == 1
    assert {id: store.messages[id] for id in before} == before


async def test_one_that_changes_without_an_event_is_found_by_a_sweep(tmp_path: Path) -> None:
    """A sweep looks at it although nobody has asked for it yet, and at no other."""
    store = MemoryStore()
    path = rested(tmp_path, 1)
    rested(tmp_path, 2)
    await backfill(tmp_path, store)
    async with running(ingest(tmp_path, store, sweep_seconds=NEVER)) as river:
        await until(lambda: river.caught_up)
        waker = river._waker
        assert waker is not None
        with path.open("ab") as file:
            file.write(user("more", session=uuid(1)))
        await waker._sweep()
        await until(lambda: len(store.messages) == 3)
        await waker._sweep()
        assert list(shelf_of(river).books) == [str(path)]


async def test_a_sweep_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be a hundred thousand files to compare."""
    rested(tmp_path, 1)
    compare, goes_on = Remembered.unchanged, threading.Event()

    def slow(remembered: Remembered, stats: Mapping[str, FileStat]) -> set[str]:
        assert goes_on.wait(5), "the loop stands still"
        return compare(remembered, stats)

    async with running(ingest(tmp_path, MemoryStore(), sweep_seconds=NEVER)) as river:
        await until(lambda: river.caught_up)
        assert river._waker is not None
        monkeypatch.setattr(Remembered, "unchanged", slow)
        asyncio.get_running_loop().call_later(0.01, goes_on.set)
        await river._waker._sweep()


async def test_a_copy_that_appears_beside_one_is_known_as_a_copy(tmp_path: Path) -> None:
    """Before the start or after it: no row is written twice, and the rows stay its own."""
    store = MemoryStore()
    path = rested(tmp_path, 1)
    await backfill(tmp_path, store)
    before = dict(store.messages)
    early = write(tmp_path, path.read_bytes(), name="-p/early.jsonl")
    summary, _, _ = await backfill(tmp_path, store)
    assert [(skip.path, skip.reason) for skip in summary.skips] == [(str(early), f"copy of {path}")]
    assert summary.changed == 0
    early.unlink()
    async with running(ingest(tmp_path, store, sweep_seconds=NEVER)) as river:
        await until(lambda: river.caught_up)
        late = write(tmp_path, path.read_bytes(), name="-p/late.jsonl")
        await until(lambda: shelf_of(river).book(str(late)).owner == str(path))
        await goes_on(path, store, before)


async def test_a_checkpoint_that_is_lost_meanwhile_is_none(tmp_path: Path) -> None:
    """It is read when the file changes; without it all of the file is sent again, as it was."""
    store = MemoryStore()
    path = rested(tmp_path, 1)
    await backfill(tmp_path, store)
    before = dict(store.messages)
    async with running(ingest(tmp_path, store, sweep_seconds=NEVER)) as river:
        await until(lambda: river.caught_up)
        with state_file(tmp_path) as db:
            assert db.execute("delete from checkpoints").rowcount == 1
        await goes_on(path, store, before)


async def test_a_file_that_moved_goes_on_without_a_checkpoint_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it is sent again, as it was; the ingest does not end."""
    store = MemoryStore()
    path = rested(tmp_path, 1)
    await backfill(tmp_path, store)
    before = dict(store.messages)
    moved = path.rename(path.parent.parent / path.name)
    read, faults = Checkpoints.load_one, [sqlite3.OperationalError("disk I/O error")]

    def failing(checkpoints: Checkpoints, of: str) -> Checkpoint | None:
        if of == str(path) and faults:
            raise faults.pop()
        return read(checkpoints, of)

    monkeypatch.setattr(Checkpoints, "load_one", failing)
    async with running(ingest(tmp_path, store, sweep_seconds=NEVER)) as river:
        await until(lambda: river.caught_up)
        assert not faults
        await goes_on(moved, store, before)


async def test_a_state_file_that_is_damaged_meanwhile_ends_nothing(tmp_path: Path) -> None:
    """Files go on, a new one and one that was at rest; /healthz says what is wrong."""
    store = MemoryStore()
    path = rested(tmp_path, 1)
    await backfill(tmp_path, store)
    async with running(ingest(tmp_path, store, sweep_seconds=NEVER)) as river:
        await until(lambda: river.caught_up)
        with state_file(tmp_path) as db:
            db.execute("drop table checkpoints")
        rested(tmp_path, 2)
        await until(lambda: len(store.messages) == 2)
        with path.open("ab") as file:
            file.write(user("more", session=uuid(1)))
        await until(lambda: len(store.messages) == 3)
        await until(lambda: "no such table" in str(river.health()["last_error"]))


async def test_conversations_of_an_earlier_run_are_counted_and_shown(tmp_path: Path) -> None:
    """A listener hears how many a project has; a snapshot has them, and says who states them."""
    store, heard = MemoryStore(), Heard()
    paths = [rested(tmp_path, number) for number in range(3)]
    await backfill(tmp_path, store)
    paths[0].rename(paths[0].parent.parent / paths[0].name)
    async with running(ingest(tmp_path, store, heard, sweep_seconds=NEVER)) as river:
        await until(lambda: river.caught_up)
        rested(tmp_path, 3)
        await until(lambda: any(isinstance(change.row, Project) for change in heard.changes))
        (project,) = (change.row for change in heard.changes if isinstance(change.row, Project))
        assert project.conversation_count == 4
        rows = {row.session_id: row for row in await river.conversations()}
        assert rows.keys() == {uuid(number) for number in range(4)}
        for row in rows.values():
            assert len(await river.messages(row.id, 9)) == 1
        await river.forget([rows[uuid(1)].id])
        assert uuid(1) not in {row.session_id for row in await river.conversations()}


async def test_the_first_snapshot_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier run has kept is read on a thread; where that fails, by the next one."""
    store = MemoryStore()
    for number in range(3):
        rested(tmp_path, number)
    await backfill(tmp_path, store)
    read, goes_on = Checkpoints.rows, threading.Event()
    faults = [sqlite3.OperationalError("disk I/O error")]

    def slow(checkpoints: Checkpoints) -> list[tuple[str, str]]:
        assert goes_on.wait(5), "the loop stands still"
        if faults:
            raise faults.pop()
        return read(checkpoints)

    monkeypatch.setattr(Checkpoints, "rows", slow)
    async with ingest(tmp_path, store, Heard()) as river, asyncio.TaskGroup() as tasks:
        failing = tasks.create_task(_failure(river))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.01, goes_on.set)
        assert "disk I/O" in await failing
        several = [tasks.create_task(river.conversations()) for _ in range(2)]
        assert [len(await one) for one in several] == [3, 3]


async def _failure(river: Ingest) -> str:
    with pytest.raises(sqlite3.OperationalError) as caught:
        await river.conversations()
    return str(caught.value)


async def test_what_another_process_has_sent_is_withdrawn_above_its_revision(
    tmp_path: Path,
) -> None:
    """The snapshot had the newer row: whoever got it drops what is below."""
    store, heard = MemoryStore(), Heard()
    path = rested(tmp_path, 1)
    await backfill(tmp_path, store)
    async with ingest(tmp_path, store, heard) as river:
        with path.open("ab") as file:
            file.write(user("more", session=uuid(1)))
        await backfill(tmp_path, store)
        (row,) = await river.conversations()
        await river.forget([row.id])
    (gone,) = (one.row for one in heard.changes if isinstance(one.row, Conversation))
    assert gone.revision > row.revision > 0


async def test_a_state_directory_of_version_7_goes_on(tmp_path: Path) -> None:
    """It did not say which project a conversation is of but in its row."""
    store = MemoryStore()
    rested(tmp_path, 1, user("s", f"my key is {SECRET}", session=uuid(1)))
    first, _, _ = await backfill(tmp_path, store)
    with state_file(tmp_path) as db:
        db.execute("drop index redacted")
        db.execute("drop index shown")
        for column in ("project", "revision"):
            db.execute(f"alter table conversations drop column {column}")
        db.execute("pragma user_version = 7")
    second, _, _ = await backfill(tmp_path, store)
    assert (second.unchanged, second.redacted) == (1, first.redacted)
    with state_file(tmp_path) as db:
        kept = db.execute("select project, revision from conversations").fetchall()
    (row,) = store.conversations.values()
    assert kept == [(str(row.project_id), row.revision)]
