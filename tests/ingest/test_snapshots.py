"""What a snapshot shows of the files, and what is told of those that come and go meanwhile."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from conv_realtime.edges.disk import OpenFile
from conv_realtime.errors import FeedError, SourceError
from conv_realtime.ingest import stated
from conv_realtime.ingest.follow import Follower
from conv_realtime.models import Message
from conv_realtime.testing import MemoryStore
from tests.ingest.lines import OTHER, SESSION, assistant, prompts, user
from tests.ingest.running import Heard, backfill, ingest, rested, running, shelf_of, until, write
from tests.ingest.watching import NEVER


async def test_what_a_snapshot_went_without_stays_owed_until_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file came back, and was away again before anything was read of it."""
    store, heard = MemoryStore(), Heard()
    path = rested(tmp_path, 1)
    await backfill(tmp_path, store)
    read, vanishes = Follower.read, [True]

    def vanishing(follower: Follower, file: OpenFile, limit: int) -> bool:
        if vanishes:
            vanishes.clear()
            path.unlink()
            raise SourceError(str(path), "it is away")
        return read(follower, file, limit)

    async with running(ingest(tmp_path, store, heard, sweep_seconds=NEVER)) as river:
        await until(lambda: river.caught_up)
        (row,) = await river.conversations()
        text = path.read_bytes()
        path.unlink()
        assert await river.messages(row.id, 9) == []
        monkeypatch.setattr(Follower, "read", vanishing)
        path.write_bytes(text)
        await until(lambda: not vanishes)
        await until(lambda: shelf_of(river).book(str(path)).follower is None)
        path.write_bytes(text)
        await until(lambda: heard.texts() == ["prompt 1"])


async def test_many_messages_are_made_beside_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks for thousands holds up nobody else; a few are made at once."""
    made, on_loop = Follower.last_messages, list[bool]()

    def noted(follower: Follower, *args: Any) -> list[Message]:
        on_loop.append(threading.current_thread() is threading.main_thread())
        return made(follower, *args)

    monkeypatch.setattr(Follower, "last_messages", noted)
    write(tmp_path, *prompts(*map(str, range(30))))
    async with running(ingest(tmp_path, MemoryStore(), Heard(), sweep_seconds=NEVER)) as river:
        await until(lambda: river.caught_up)
        (row,) = await river.conversations()
        assert [len(await river.messages(row.id, last)) for last in (9, 30)] == [9, 30]
    assert on_loop == [True, False]


async def test_what_is_withdrawn_while_another_is_read_is_withdrawn_once(tmp_path: Path) -> None:
    """Two are erased for good; the database refuses the second at the same moment."""
    store, heard = MemoryStore(), Heard()
    for number in range(2):
        rested(tmp_path, number)
    await backfill(tmp_path, store)
    async with running(ingest(tmp_path, store, heard, sweep_seconds=NEVER)) as river:
        await until(lambda: river.caught_up)
        desk, tender = river._opened
        ids = [row.id for row in await river.conversations()]
        async with AsyncExitStack() as held:
            for id in ids:
                await held.enter_async_context(desk.shelf.book(desk.announcer.rows[id].path).lock)
            erasing = asyncio.create_task(stated.forget(desk, tender, ids))
            await asyncio.sleep(0)
            for id in ids:
                desk.announcer.drop(id)
        await erasing
    assert len({change.row.id for change in heard.changes} & set(ids)) == 1


async def test_a_snapshot_comes_from_the_files(tmp_path: Path) -> None:
    """Also for conversations that an earlier run has read, without reading them all again."""
    store = MemoryStore()
    write(tmp_path, user("q"), user("r"), assistant("a", "m"))
    write(tmp_path, user("x", session=OTHER, at=99), name=f"-p/{OTHER}.jsonl")
    await backfill(tmp_path, store)
    async with ingest(tmp_path, store, Heard()) as river:
        old, new = await river.transcripts.conversations()
        assert (old.session_id, new.session_id) == (SESSION, OTHER)
        messages = await river.transcripts.messages(old.id, 2)
        assert [row.text for row in messages] == ["prompt r", "answer a"]
        assert await river.transcripts.messages(old.id, 0) == []


async def test_a_file_that_vanished_has_an_empty_snapshot(tmp_path: Path) -> None:
    """The database still has it; the files do not."""
    store = MemoryStore()
    path = write(tmp_path, user("q"))
    await backfill(tmp_path, store)
    async with ingest(tmp_path, store, Heard()) as river:
        (row,) = await river.transcripts.conversations()
        path.unlink()
        assert await river.transcripts.messages(row.id, 5) == []


async def test_what_was_acknowledged_just_before_a_crash_is_in_the_snapshot(
    tmp_path: Path,
) -> None:
    """The file never came to rest; the next run announces nothing of it, and shows it."""
    write(tmp_path, user("q"), assistant("a", "m"))
    store = MemoryStore()
    async with running(ingest(tmp_path, store, rest_seconds=60.0)):
        await until(lambda: len(store.messages) == 2)
        await until(lambda: any(row.message_count for row in store.conversations.values()))
    async with running(ingest(tmp_path, store, Heard(), rest_seconds=60.0)) as river:
        (row,) = await river.transcripts.conversations()
        assert (row.title, row.message_count) == ("prompt q", 2)
        assert len(await river.transcripts.messages(row.id, 9)) == 2


async def test_what_moved_in_an_earlier_run_is_in_snapshots(tmp_path: Path) -> None:
    """A file goes on where it was moved to, and nothing of it is told again."""
    path, store, sink = write(tmp_path, user("q")), MemoryStore(), Heard()
    place = tmp_path / "projects" / "-elsewhere" / path.name
    place.parent.mkdir()
    async with running(ingest(tmp_path, store, sink, sweep_seconds=0.1)) as river:
        checkpoints = river._opened[0].shelf.checkpoints
        await until(lambda: str(path) in checkpoints and river.health()["queue"] == 0)
        path.rename(place)
        await until(lambda: str(place) in checkpoints)
    async with running(ingest(tmp_path, store, sink)) as river:
        (row,) = await river.transcripts.conversations()
        rows = await river.transcripts.messages(row.id, 9)
    assert [one.text for one in rows] == sink.texts() == ["prompt q"]


async def test_a_copy_that_stated_it_once_has_no_messages_for_a_snapshot(tmp_path: Path) -> None:
    """What it states is a later part by now, and nobody remembers which."""
    store, sink = MemoryStore(), Heard()
    write(tmp_path, user("q"))
    await backfill(tmp_path, store)
    (earlier,) = store.conversations
    path = write(tmp_path, user("x"), user("y"))
    await backfill(tmp_path, store)
    path.unlink()
    write(tmp_path, user("x"), user("z"), name=f"-q/{SESSION}.jsonl")
    await backfill(tmp_path, store)
    write(tmp_path, user("x"), user("y"))
    async with running(ingest(tmp_path, store, sink)) as river:
        assert await river.transcripts.messages(earlier, 9) == []


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_what_a_snapshot_went_without_is_told_when_it_is_there_again(
    tmp_path: Path, elsewhere: bool
) -> None:
    """A file that is away for a moment, or moved, is not missing for ever."""
    path, store, sink = write(tmp_path, user("q")), MemoryStore(), Heard()
    async with running(ingest(tmp_path, store, sink)) as river:
        await until(lambda: store.messages)
        await until(lambda: sink.texts() == ["prompt q"])
        (row,) = await river.transcripts.conversations()
        away = path.rename(tmp_path / "away")
        assert await river.transcripts.messages(row.id, 9) == []
        back = tmp_path / "projects" / "-elsewhere" / path.name if elsewhere else path
        back.parent.mkdir(exist_ok=True)
        away.rename(back)
        await until(lambda: sink.texts() == ["prompt q", "prompt q"])
        assert len(await river.transcripts.messages(row.id, 9)) == 1


async def test_a_snapshot_that_misses_a_file_on_its_way_back_is_made_up_for(
    tmp_path: Path,
) -> None:
    """It was sent from both places, so nothing is new where it is found again."""
    path, store, sink = write(tmp_path, user("q")), MemoryStore(), Heard()
    place = tmp_path / "projects" / "-elsewhere" / path.name
    place.parent.mkdir()
    store.down = True
    async with running(ingest(tmp_path, store, sink)) as river:
        await until(lambda: sink.texts() == ["prompt q"])
        path.rename(place)
        await until(lambda: sink.texts() == ["prompt q"] * 2)
        store.down = False
        checkpoints = river._opened[0].shelf.checkpoints
        await until(lambda: {str(path), str(place)} <= checkpoints.keys())
        await until(lambda: river.health()["queue"] == 0)
        (row,) = await river.transcripts.conversations()
        place.rename(path)
        await until(lambda: river._opened[0].shelf.book(str(place)).owner == str(path))
        assert await river.transcripts.messages(row.id, 9) == []
        await until(lambda: sink.texts() == ["prompt q"] * 3)
        assert len(await river.transcripts.messages(row.id, 9)) == 1


async def test_who_asks_while_ingest_ends_is_told_so(tmp_path: Path) -> None:
    """A relay beside it may live a little longer, and one of its clients may just ask."""
    write(tmp_path, user("q"))
    await backfill(tmp_path, store := MemoryStore())
    async with ingest(tmp_path, store, Heard()) as river:
        transcripts = river.transcripts
        (row,) = await transcripts.conversations()
    with pytest.raises(FeedError):
        await transcripts.messages(row.id, 9)
