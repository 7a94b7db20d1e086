"""What listeners are told of files that come and go while they are read for a snapshot."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from conv_realtime.edges.disk import OpenFile
from conv_realtime.errors import SourceError
from conv_realtime.ingest import stated
from conv_realtime.ingest.follow import Follower
from conv_realtime.testing import MemoryStore
from tests.ingest.running import Heard, ingest, running, until
from tests.ingest.test_resting import NEVER, backfill, rested, shelf_of


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
