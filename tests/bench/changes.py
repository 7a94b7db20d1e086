"""Loads `postgres_changes` of the local Supabase, and says how it bears that.

    python -m tests.bench.changes [--rows 200000] [--users 1 100 500]

First one transaction of many rows, on a table with policies, for one subscriber: how long until the
last row has arrived, how much memory the server took for it, and how long broadcasts from the
database took meanwhile. Then single rows that everybody may see, for so many users at once, each
with claims of their own, and for as many sockets of one user.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from websockets.asyncio.client import connect

from conv_realtime.local.keys import mint
from tests.bench.local_realtime import server

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


async def huge(said: dict[str, Any], pid: int, rows: int) -> str:
    """One transaction of many rows."""
    token = user(said)
    async with database(said) as db, listening(said, [token]) as audience:
        before = resident(pid)
        peak, waits = before, []
        insert = "insert into load select n, repeat('x', 50), repeat('y', 100)"
        await db.execute(f"{insert} from generate_series(1, {rows}) n".encode())
        committed = time.monotonic()
        while audience.changes < rows:
            started, heard = time.monotonic(), audience.broadcasts
            await db.execute("select realtime.send('{}', 'beside', 'load', false)")
            await audience.until("broadcasts", heard + 1)
            waits.append(audience.last_at - started)
            await asyncio.sleep(0.1)
            peak = max(peak, resident(pid))
        seconds = audience.last_at - committed
    return (
        f"{rows} rows in one transaction: {seconds:.1f} s after its commit, "
        f"{(peak - before) / 1e6:.0f} MB more memory; broadcasts meanwhile: "
        f"median {statistics.median(waits) * 1000:.0f} ms, worst {max(waits) * 1000:.0f} ms"
    )


async def single(said: dict[str, Any], tokens: Sequence[str]) -> str:
    """Single rows for everybody."""
    waits = []
    async with database(said) as db, listening(said, tokens) as audience:
        for number in range(ROUNDS):
            await db.execute("insert into load values (-%s, 'x')", (number + 1,))
            committed = time.monotonic()
            await audience.until("changes", (number + 1) * len(tokens))
            waits.append((audience.last_at - committed) * 1000)
        await db.execute("delete from load where id < 0")
    return f"median {statistics.median(waits):.0f} ms, worst {max(waits):.0f} ms"


def user(said: dict[str, Any]) -> str:
    """Makes a token of somebody new."""
    return mint(said["jwt_secret"], "authenticated", 3600, sub=str(uuid4()))


@asynccontextmanager
async def database(said: dict[str, Any]) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """Connects as `postgres`."""
    async with await psycopg.AsyncConnection.connect(said["db_url"], autocommit=True) as db:
        yield db


def resident(pid: int) -> int:
    """Gives how many bytes of memory a process uses."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * 4096


async def load(said: dict[str, Any], pid: int, rows: int, users: Sequence[int]) -> None:
    """Runs everything, one after the other."""
    async with database(said) as db:
        await db.execute(TABLE.encode())
    print(await huge(said, pid, rows))
    for count in users:
        each = await single(said, [user(said) for _ in range(count)])
        same = await single(said, [user(said)] * count)
        print(f"a row to {count} users: {each}; to as many sockets of one: {same}")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.changes", description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--users", type=int, nargs="*", default=[1, 100, 500])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="conv_rt_load-") as folder:
        Path(folder).chmod(0o755)
        with server(Path(folder)) as (pid, said):
            asyncio.run(load(said, pid, asked.rows, asked.users))


if __name__ == "__main__":
    main()
