"""The logical replication client against a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from conv_realtime.local import LocalSupabase
from conv_realtime.local.postgres.server import Postgres
from conv_realtime.local.wal.pgoutput import Decoder, Relation, Transaction
from conv_realtime.local.wal.source import WalSource
from tests.local.own_postgres import kill_postmaster, open_folder

PATIENCE = 30.0

Connection = psycopg.AsyncConnection[tuple[object, ...]]


class Table:
    """A published table of one test, and its changes as they stream in."""

    def __init__(self, dsn: str, db: Connection) -> None:
        self.dsn = dsn
        self.db = db
        self.name = f"wal_{uuid.uuid4().hex}"
        self.transactions: asyncio.Queue[Transaction] = asyncio.Queue()
        self.states: asyncio.Queue[bool] = asyncio.Queue()
        self.task: asyncio.Task[None] | None = None

    async def execute(self, statement: str) -> None:
        """Runs SQL in which `@` stands for the table."""
        await self.db.execute(statement.replace("@", self.name).encode())

    async def next(self) -> Transaction:
        """Waits for the next transaction."""
        async with asyncio.timeout(PATIENCE):
            return await self.transactions.get()

    async def state(self) -> bool:
        """Waits for the next change of the connection's state."""
        async with asyncio.timeout(PATIENCE):
            return await self.states.get()

    @asynccontextmanager
    async def streaming(self, **more: Any) -> AsyncIterator[None]:
        """Runs a source and waits until it streams."""
        source = WalSource(
            self.dsn,
            [self.name],
            self.transactions.put_nowait,
            connected=self.states.put_nowait,
            **more,
        )
        self.task = asyncio.create_task(source.run(), name="test.wal")
        try:
            assert await self.state() is True
            yield
        finally:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task


@asynccontextmanager
async def published(dsn: str) -> AsyncIterator[Table]:
    """Makes a table with a publication of its own, and drops both."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as db:
        table = Table(dsn, db)
        await table.execute("create table @ (id int primary key, v text, w text)")
        await table.execute("alter table @ alter w set storage external")
        await table.execute("create publication @ for table @")
        yield table
        with contextlib.suppress(psycopg.OperationalError):  # a test may have killed the server
            await table.execute("drop publication @")
            await table.execute("drop table @")


@pytest.fixture
async def table(local_supabase: LocalSupabase) -> AsyncIterator[Table]:
    """A table of the shared database."""
    async with published(local_supabase.postgres.dsn()) as made:
        yield made


@pytest.fixture
def folder() -> Iterator[Path]:
    """A place for a PostgreSQL of this test's own."""
    with open_folder() as path:
        yield path


async def test_a_committed_transaction_arrives_whole_and_in_order(table: Table) -> None:
    """Every row with its text values, nulls, the transaction's id and its time."""
    async with table.streaming():
        async with table.db.transaction():
            for number in range(3):
                await table.execute(f"insert into @ values ({number}, 'é{number}', null)")
            cursor = await table.db.execute("select pg_current_xact_id()::text")
            row = await cursor.fetchone()
        transaction = await table.next()
    assert [dict(change.new) for change in transaction.changes] == [
        {"id": str(number), "v": f"é{number}", "w": None} for number in range(3)
    ]
    assert {change.kind for change in transaction.changes} == {"INSERT"}
    assert row is not None
    assert str(transaction.xid) == row[0]
    assert abs(transaction.committed_at - time.time()) < 60


async def test_what_is_rolled_back_never_arrives(table: Table) -> None:
    """Neither a transaction nor the part of one after a savepoint."""
    async with table.streaming():
        async with table.db.transaction(force_rollback=True):
            await table.execute("insert into @ values (1)")
        async with table.db.transaction():
            await table.execute("insert into @ values (2)")
            async with table.db.transaction(force_rollback=True):
                await table.execute("insert into @ values (3)")
        transaction = await table.next()
    assert [change.new["id"] for change in transaction.changes] == ["2"]


async def test_transactions_arrive_in_the_order_of_their_commits(table: Table) -> None:
    """The one that began first and commits last comes last."""
    slow = await psycopg.AsyncConnection.connect(table.dsn)
    async with table.streaming(), slow:
        await slow.execute(f"insert into {table.name} values (1)".encode())
        await table.execute("insert into @ values (2)")
        await slow.commit()
        arrived = [(await table.next()).changes[0].new["id"] for _ in range(2)]
    assert arrived == ["2", "1"]


async def test_updates_deletes_and_truncates_are_told(table: Table) -> None:
    """An unchanged TOASTed value is left out, and a delete names the key."""
    async with table.streaming():
        await table.execute("insert into @ values (1, 'a', repeat('x', 20000))")
        await table.execute("update @ set v = null")
        await table.execute("delete from @")
        await table.execute("truncate @")
        inserted, updated, deleted, truncated = [(await table.next()).changes[0] for _ in range(4)]
    assert len(inserted.new["w"] or "") == 20000
    assert (updated.kind, dict(updated.new)) == ("UPDATE", {"id": "1", "v": None})
    assert (deleted.kind, deleted.old["id"], dict(deleted.new)) == ("DELETE", "1", {})
    assert (truncated.kind, truncated.relation.name) == ("TRUNCATE", table.name)
    assert [column.name for column in inserted.relation.columns if column.is_key] == ["id"]


async def test_a_column_added_while_streaming_is_seen(table: Table) -> None:
    """The relation is described anew after DDL."""
    async with table.streaming():
        await table.execute("insert into @ values (1)")
        await table.execute("alter table @ add n numeric")
        await table.execute("insert into @ values (2, null, null, 1.50)")
        await table.next()
        assert (await table.next()).changes[0].new["n"] == "1.50"


async def test_a_large_transaction_arrives_in_parts(table: Table) -> None:
    """Bounded by rows and by bytes; what is not wanted is not even decoded."""
    async with table.streaming(part_rows=10, part_bytes=5000):
        await table.execute("insert into @ select n from generate_series(1, 25) n")
        few = [await table.next() for _ in range(3)]
        await table.execute(
            "insert into @ select n, repeat('x', 3000) from generate_series(31, 33) n"
        )
        large = [await table.next() for _ in range(2)]
    assert [len(part.changes) for part in few + large] == [10, 10, 5, 2, 1]
    assert [part.is_whole for part in few + large] == [False, False, True, False, True]
    assert len({(part.xid, part.committed_at) for part in few}) == 1
    assert all(part.lsn <= few[-1].lsn for part in few)
    wanted = [change.new["id"] for part in few for change in part.changes]
    assert wanted == [str(number) for number in range(1, 26)]


async def test_tables_that_nobody_wants_are_left_out(table: Table) -> None:
    """The transaction comes, without their rows."""
    async with table.streaming(wants=lambda relation: relation.name != table.name):
        await table.execute("insert into @ values (1)")
        assert (await table.next()).changes == ()


async def test_nothing_more_is_read_while_the_reader_is_not_ready(table: Table) -> None:
    """PostgreSQL keeps it, and is told that somebody is there; then it goes on where it was."""
    ready = asyncio.Event()
    async with table.streaming(ready=ready.wait, part_rows=1):
        await table.execute("insert into @ select n from generate_series(1, 5000) n")
        await table.next()
        await table.execute("select pg_sleep(0.05)")
        assert table.transactions.empty()
        ready.set()
        ids = [(await table.next()).changes[0].new["id"] for _ in range(4999)]
    assert ids == [str(number) for number in range(2, 5001)]


async def test_what_cannot_be_read_costs_a_gap_and_not_the_stream(table: Table) -> None:
    """Whatever goes wrong with a row, the stream is back, and its readers are told."""
    broken: list[str] = []

    def wants(relation: Relation) -> bool:
        if not broken:
            broken.append(relation.name)
            raise LookupError("odd")
        return True

    async with table.streaming(wants=wants):
        await table.execute("insert into @ values (1)")
        assert [await table.state(), await table.state()] == [False, True]
        await table.execute("insert into @ values (2)")
        assert [row.new["id"] for row in (await table.next()).changes] == ["2"]


async def test_values_have_one_form_whatever_the_database_prefers(table: Table) -> None:
    """Times in UTC and ISO order, bytes in hex."""
    await table.execute("alter table @ add t timestamptz, add b bytea, add i interval")
    await table.execute("alter database postgres set timezone = 'Asia/Tokyo'")
    await table.execute("alter database postgres set datestyle = 'German'")
    try:
        async with table.streaming():
            await table.execute(
                "insert into @ (id, t, b, i) values (1, '2024-01-02 03:04Z', '\\x00', '1 day')"
            )
            row = (await table.next()).changes[0].new
    finally:
        await table.execute("alter database postgres reset all")
    assert (row["t"], row["b"], row["i"]) == ("2024-01-02 03:04:00+00", "\\x00", "1 day")


async def test_cancelling_frees_the_walsender_and_the_slot(table: Table) -> None:
    """Nothing of ours is left to hold WAL or a shutdown up."""

    async def slots() -> set[object]:
        cursor = await table.db.execute("select slot_name from pg_replication_slots")
        return {row[0] for row in await cursor.fetchall()}

    before = await slots()
    async with table.streaming():
        mine = await slots() - before
        assert mine
    async with asyncio.timeout(PATIENCE):
        while mine & await slots():
            await table.execute("select pg_sleep(0.01)")


async def test_streaming_goes_on_after_postgresql_died(folder: Path) -> None:
    """The loss and the return are told, and changes after the return arrive."""
    async with Postgres(folder) as postgres:
        async with published(postgres.dsn()) as table, table.streaming():
            await table.execute("insert into @ values (1)")
            await table.next()
            await asyncio.to_thread(kill_postmaster, postgres.dsn())
            assert await table.state() is False
            assert await table.state() is True
            async with await psycopg.AsyncConnection.connect(
                postgres.dsn(), autocommit=True
            ) as again:
                await again.execute(f"insert into {table.name} values (2)".encode())
                assert (await table.next()).changes[0].new["id"] == "2"


async def test_a_fast_shutdown_is_not_held_up_by_a_live_stream(folder: Path) -> None:
    """The client confirms what the server sends on its way out."""
    async with contextlib.AsyncExitStack() as streams:
        async with Postgres(folder) as postgres:
            async with published(postgres.dsn()) as table:
                await streams.enter_async_context(table.streaming())
                await table.execute("insert into @ values (1)")
                await table.next()
            started = time.monotonic()
        assert time.monotonic() - started < 8
        assert await table.state() is False


@pytest.mark.parametrize(
    "message", [b"?", b"S" + struct.pack("!IB", 1, 1), b"I" + struct.pack("!I", 99)]
)
def test_a_message_that_protocol_1_does_not_know_ends_the_stream(message: bytes) -> None:
    """Unknown kinds, streamed transactions that nobody asked for, and undescribed tables."""
    with pytest.raises(ValueError, match="pgoutput"):
        Decoder().feed(message)
