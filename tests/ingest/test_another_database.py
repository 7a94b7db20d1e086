"""Another database behind the address, or one that lost its rows, or has not our schema."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from uuid import UUID

import pytest

from conv_realtime.edges.checkpoints import Checkpoints
from conv_realtime.errors import MigrationError
from conv_realtime.ingest import database
from conv_realtime.models import Row, Table
from conv_realtime.ports import KnownConversation
from conv_realtime.testing import MemoryStore
from tests.ingest.folding import IDENTITY
from tests.ingest.lines import user
from tests.ingest.running import Heard, backfill, ingest, running, texts, until, write
from tests.ingest.stores import Strict


async def test_another_database_behind_the_address_gets_everything(tmp_path: Path) -> None:
    """After a reset the old checkpoints say nothing: no row is missing because of them."""
    write(tmp_path, user("q"))
    await backfill(tmp_path, MemoryStore())
    fresh = MemoryStore()
    assert (await backfill(tmp_path, fresh)).changed == 3
    assert texts(fresh) == ["prompt q"]


async def test_a_database_replaced_while_running_gets_everything(tmp_path: Path) -> None:
    """`supabase db reset` under a running ingest loses nothing either."""
    store = MemoryStore()
    write(tmp_path, user("q"))
    async with running(ingest(tmp_path, store, sweep_seconds=0.05)):
        await until(lambda: texts(store) == ["prompt q"])
        store.__init__()  # type: ignore[misc]
        await until(lambda: texts(store) == ["prompt q"])


class Unhurried(MemoryStore):
    """A store that ends a request in order when it is cancelled, as soon as it may.

    Attributes:
        asked: set when rows have come.
        cancelled: set when that was cancelled.
        may_end: whether that has an end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.may_end = asyncio.Event()

    async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
        """Take none before that."""
        self.asked.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            await self.may_end.wait()
            raise
        return await super().write(table, rows, **hints)


async def test_what_is_cancelled_while_it_turns_to_another_database_ends(tmp_path: Path) -> None:
    """Until Python 3.12 a group of tasks forgets a cancellation over an error of one of them."""
    store = Unhurried()
    write(tmp_path, user("q"))
    async with ingest(tmp_path, store, sweep_seconds=0.05) as river:
        run = asyncio.create_task(river.run())
        await asyncio.wait_for(store.asked.wait(), 60)
        store._name = "another"
        await asyncio.wait_for(store.cancelled.wait(), 60)
        run.cancel()
        await asyncio.sleep(0)
        store.may_end.set()
        _, goes_on = await asyncio.wait({run}, timeout=20)
        run.cancel()
        await asyncio.wait({run})
    assert not goes_on and run.cancelled()


class Asked(MemoryStore):
    """A store that says which database it is while `answers` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()

    async def database(self) -> str:
        """Say it."""
        await self.answers.wait()
        return await super().database()

    async def met_by_another(self, folder: Path) -> None:
        """Have another process on the same state directory note it, as `retry` does."""
        whose = f"{IDENTITY.owner_id} {IDENTITY.machine}"
        with Checkpoints(folder / "state", type(self).__name__, whose) as theirs:
            theirs.met_database(await super().database())


async def test_one_that_another_process_met_first_gets_everything(tmp_path: Path) -> None:
    """A running ingest asks what it knew itself, not what the state directory has meanwhile."""
    store = Asked()
    store.answers.set()
    write(tmp_path, user("q"))
    async with running(ingest(tmp_path, store, sweep_seconds=0.05)):
        await until(lambda: texts(store) == ["prompt q"])
        store.__init__()  # type: ignore[misc]
        await store.met_by_another(tmp_path)
        store.answers.set()
        await until(lambda: texts(store) == ["prompt q"])


async def test_what_was_noted_before_another_process_met_it_is_known_as_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first start while the database is away: what is sent later is not read once more."""
    monkeypatch.setattr(database, "_ASK_SECONDS", 0)
    store = Asked()
    path = write(tmp_path, user("q"))
    async with running(ingest(tmp_path, store, sweep_seconds=0.05)) as river:
        await store.met_by_another(tmp_path)
        await until(lambda: texts(store) == ["prompt q"])
        assert river._desk is not None
        kept = river._desk.checkpoints
        await until(lambda: (of := kept.load_one(str(path))) and of.stat)
        store.answers.set()
        await until(lambda: kept.database)
    assert (await backfill(tmp_path, store)).unchanged == 1


async def test_rows_that_the_database_lost_are_sent_again(tmp_path: Path) -> None:
    """Where a parent row is missing, the whole file is sent once more."""
    store = Strict()
    path = write(tmp_path, user("q"))
    async with running(ingest(tmp_path, store)):
        await until(lambda: texts(store) == ["prompt q"])
        for table in (store.projects, store.conversations, store.messages):
            table.clear()
        with path.open("ab") as file:
            file.write(user("r"))
        await until(lambda: texts(store) == ["prompt q", "prompt r"])
    assert len(store.projects) == 1


class Unprepared(MemoryStore):
    """A database without our schema."""

    async def database(self) -> str:
        """Say what is missing."""
        raise MigrationError("schema", "is not in this database")

    async def known(self, conversations: Collection[UUID]) -> Mapping[UUID, KnownConversation]:
        """Never asked."""
        raise AssertionError


async def test_a_database_without_the_schema_is_refused_at_once(tmp_path: Path) -> None:
    """The user is told before anything is read."""
    with pytest.raises(MigrationError):
        await backfill(tmp_path, Unprepared())


async def test_listeners_hear_while_the_schema_is_gone(tmp_path: Path) -> None:
    """Somebody at work on the database neither ends ingest nor stays unnoticed in its health."""

    class Bare(MemoryStore):
        bare = False

        async def database(self) -> str:
            if self.bare:
                raise MigrationError("schema", "is not in this database")
            return await super().database()

    store, heard = Bare(), Heard()
    (tmp_path / "projects").mkdir()
    async with running(ingest(tmp_path, store, heard, sweep_seconds=0.02)) as river:
        store.bare = True
        await until(lambda: river.health()["last_error"] == "schema: is not in this database")
        write(tmp_path, user("q"))
        await until(lambda: heard.texts() == ["prompt q"])
        store.bare = False
        await until(lambda: river.health()["last_error"] is None)
