"""Loads `postgres_changes` of the local Supabase, and says how it bears that.

First one transaction of many rows, on a table with policies, for one subscriber: how long until the
last row has arrived, how much memory the server took for it, and how long broadcasts from the
database took meanwhile. Then single rows that everybody may see, for so many users at once, each
with claims of their own, and for as many sockets of one user.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import psycopg
from websockets.asyncio.client import connect

from conv_realtime.local.keys import mint
from tests.bench.harness import Figure, Finding, Scale, benchmark
from tests.bench.local_realtime import server
from tests.bench.rig import resident_bytes

ROUNDS = 20
TABLE = """
create table load (id int primary key, v text, w text, at timestamptz default now());
alter table load enable row level security;
create policy everybody on load for select to anon, authenticated using (v <> auth.uid()::text);
alter publication supabase_realtime add table load;
"""
CHANGE = '"postgres_changes",{"data"'
READY_SECONDS = 60.0


@dataclass
class Audience:
    """What some sockets have received."""

    ready: int = 0
    changes: int = 0
    broadcasts: int = 0
    last_at: float = 0.0
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, name: str, count: int) -> None:
        """Waits until a count is reached."""
        async with asyncio.timeout(READY_SECONDS * 10):
            while getattr(self, name) < count:
                self.moved.clear()
                await self.moved.wait()


async def listen(said: dict[str, Any], token: str, audience: Audience) -> None:
    """Subscribes one socket and counts what arrives."""
    url = said["supabase_url"].replace("http", "ws") + "/realtime/v1/websocket"
    query = f"?apikey={said['publishable_key']}&vsn=2.0.0"
    binding = {"event": "*", "schema": "public", "table": "load"}
    payload = {"config": {"postgres_changes": [binding]}, "access_token": token}
    async with connect(url + query, compression=None, max_size=None, ping_interval=None) as one:
        await one.send(json.dumps(["1", "1", "realtime:load", "phx_join", payload]))
        async for data in one:
            if isinstance(data, bytes):
                audience.broadcasts += 1
            elif CHANGE in data[:80]:
                audience.changes += 1
            elif "Subscribed to PostgreSQL" in data:
                audience.ready += 1
            audience.last_at = time.monotonic()
            audience.moved.set()


@asynccontextmanager
async def listening(said: dict[str, Any], tokens: Sequence[str]) -> AsyncIterator[Audience]:
    """Holds a socket for each token."""
    audience = Audience()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(listen(said, token, audience)) for token in tokens]
        await audience.until("ready", len(tokens))
        yield audience
        for task in tasks:
            task.cancel()


async def huge(said: dict[str, Any], pid: int, rows: int) -> list[Figure]:
    """One transaction of many rows."""
    token = user(said)
    async with database(said) as db, listening(said, [token]) as audience:
        before = resident_bytes(pid)
        peak, waits = before, []
        insert = "insert into load select n, repeat('x', 50), repeat('y', 100)"
        await db.execute(f"{insert} from generate_series(1, {rows}) n".encode())
        committed = time.monotonic()
        while audience.changes < rows:
            started, heard = time.monotonic(), audience.broadcasts
            await db.execute("select realtime.send('{}', 'beside', 'load', false)")
            await audience.until("broadcasts", heard + 1)
            waits.append((audience.last_at - started) * 1000)
            await asyncio.sleep(0.1)
            peak = max(peak, resident_bytes(pid))
        seconds = audience.last_at - committed
    return [
        Figure(f"{rows:,} rows in one transaction, after its commit", "s", [seconds]),
        Figure("memory for them", "MB", [(peak - before) / 1e6]),
        *([Figure("broadcasts meanwhile", "ms", waits)] if waits else []),
    ]


async def single(said: dict[str, Any], tokens: Sequence[str]) -> list[float]:
    """Single rows for everybody; gives milliseconds."""
    waits = []
    async with database(said) as db, listening(said, tokens) as audience:
        for number in range(ROUNDS):
            await db.execute("insert into load values (-%s, 'x')", (number + 1,))
            committed = time.monotonic()
            await audience.until("changes", (number + 1) * len(tokens))
            waits.append((audience.last_at - committed) * 1000)
        await db.execute("delete from load where id < 0")
    return waits


def user(said: dict[str, Any]) -> str:
    """Makes a token of somebody new."""
    return mint(said["jwt_secret"], "authenticated", 3600, sub=str(uuid4()))


@asynccontextmanager
async def database(said: dict[str, Any]) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """Connects as `postgres`."""
    async with await psycopg.AsyncConnection.connect(said["db_url"], autocommit=True) as db:
        yield db


async def load(said: dict[str, Any], pid: int, rows: int, users: Sequence[int]) -> list[Figure]:
    """Runs everything, one after the other."""
    async with database(said) as db:
        await db.execute(TABLE.encode())
    found = await huge(said, pid, rows)
    for count in users:
        each = await single(said, [user(said) for _ in range(count)])
        same = await single(said, [user(said)] * count)
        found.append(Figure(f"a row to {count} users", "ms", each))
        found.append(Figure("to as many sockets of one", "ms", same))
    return found


@benchmark("changes")
def changes(scale: Scale) -> Iterator[Finding]:
    """`postgres_changes` of the local Supabase: a huge transaction, many users."""
    with server() as (pid, said):
        rows = scale.pick(200_000, 20_000, 100)
        yield from asyncio.run(load(said, pid, rows, scale.pick((1, 100, 500), (1, 100), (1,))))
