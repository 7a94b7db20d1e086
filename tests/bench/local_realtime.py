"""Loads the local Supabase's Realtime with a thousand clients and says how it bears that.

Each client has joined two private channels, one of its own and one of all. First 200 database
broadcasts a second go to the channels of single clients, one after the other; then 50 a second to
the channel of all, which makes 50,000 frames a second. Latency is counted from inside the
transaction that broadcasts, just before it commits, to the client's `recv`: so it has the disk in
it, and the time until the commit was acknowledged is shown beside it.

The listeners are one process of raw sockets (listening.py), the writer another, the server a
third. The last rows are the floor: the same listeners at a loop that does nothing but write the
same frames to as many sockets. What lies between the floor and the server is the server's.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import statistics
import struct
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psycopg

from conv_realtime.local.keys import mint
from tests.bench.harness import Figure, Finding, Scale, benchmark
from tests.bench.listening import Heard, Order, run
from tests.bench.rig import cpu_seconds, program, resident_bytes

ALL = "load:all"
PADDING = 400
WRITERS = 8
SINGLE_BAR_MS, COMMON_BAR_MS = 20.0, 100.0
POLICY = """
create policy "load listens" on realtime.messages for select to authenticated
  using (starts_with(realtime.topic(), 'load:'))
"""
SEND = """
select realtime.send(
  jsonb_build_object('n', %s::int, 'at', (extract(epoch from clock_timestamp()) * 1e6)::bigint,
                     'padding', repeat('x', %s)),
  'tick', %s, true)
"""


@dataclass(frozen=True)
class Phase:
    """So many broadcasts a second, each on one of these topics, in turn."""

    name: str
    rate: float
    topics: Sequence[str]
    hearers: int
    bar_ms: float


@contextmanager
def server() -> Iterator[tuple[int, dict[str, Any]]]:
    """Runs a new `conv-realtime local`; gives its pid and what it says of itself."""
    with tempfile.TemporaryDirectory(prefix="conv_rt_load-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL may run as another account
        with program("local", "--port", "0", "--state-dir", folder) as started:
            yield started


@contextmanager
def listeners(order: Order) -> Iterator[tuple[Connection, tuple[int, float, float]]]:
    """Runs the listening process; gives its pipe, its pid and how long it took to get ready."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=run, args=(order, theirs), name="listeners")
    process.start()
    theirs.close()
    try:
        yield ours, ours.recv()
        ours.send(False)
    finally:
        ours.close()
        process.join(10)
        if process.is_alive():
            process.kill()


async def broadcast(db_url: str, phase: Phase, first: int, count: int) -> tuple[list[float], float]:
    """Sends on time, whatever earlier ones take; gives milliseconds to each acknowledgement, and
    how many seconds all of them took."""
    took: list[float] = []
    async with AsyncExitStack() as stack:
        idle: asyncio.Queue[psycopg.AsyncConnection[Any]] = asyncio.Queue()
        for _ in range(WRITERS):
            connection = await psycopg.AsyncConnection.connect(db_url, autocommit=True)
            idle.put_nowait(await stack.enter_async_context(connection))

        async def send(connection: psycopg.AsyncConnection[Any], number: int) -> None:
            began = time.perf_counter()
            topic = phase.topics[number % len(phase.topics)]
            await connection.execute(SEND, (number, PADDING, topic))
            took.append((time.perf_counter() - began) * 1e3)
            idle.put_nowait(connection)

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                await asyncio.sleep(max(0.0, began + number / phase.rate - time.perf_counter()))
                group.create_task(send(await idle.get(), first + number))
        return took, time.perf_counter() - began


def spent(pids: Sequence[int]) -> float:
    """Gives the CPU seconds that processes have used."""
    seconds = 0.0
    for pid in pids:
        with suppress(FileNotFoundError):
            seconds += cpu_seconds(pid)
    return seconds


def children(pid: int) -> list[int]:
    """Gives the processes below one: PostgreSQL's."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            child = int(stat.parent.name)
            found += [child, *children(child)]
    return found


def measure(
    pid: int, told: dict[str, Any], pipe: Connection, phase: Phase, first: int, seconds: float
) -> Iterator[Figure]:
    """Runs one phase; gives what was found."""
    count = int(phase.rate * seconds)
    wanted = count * phase.hearers
    database = children(pid)
    before = spent([pid]), spent(database)
    pipe.send(True)
    acknowledged, took = asyncio.run(broadcast(told["db_url"], phase, first, count))
    after = spent([pid]), spent(database)
    pipe.send(wanted)
    heard: Heard = pipe.recv()
    lost = wanted - len(heard.microseconds)
    doubled = sum(max(0, times - phase.hearers) for times in heard.counts.values())
    own, postgres = (100 * (b - a) / took for a, b in zip(before, after, strict=True))
    yield Figure(f"{phase.name}: frames", "a second", [wanted / took])
    yield Figure("lost", "", [lost], at_most=0)
    yield Figure("doubled", "", [doubled], at_most=0)
    yield from _quantiles("to the client", [us / 1e3 for us in heard.microseconds], phase.bar_ms)
    yield from _quantiles("to the writer, with the disk", acknowledged)
    yield Figure("CPU of one core: server", "%", [own])
    yield Figure("CPU of one core: PostgreSQL", "%", [postgres])
    yield Figure("CPU of one core: listeners", "%", [100 * heard.cpu_seconds / took])
    yield Figure("the server's memory", "MB", [resident_bytes(pid) / 2**20])


def _quantiles(what: str, ms: Sequence[float], bar: float | None = None) -> Iterator[Figure]:
    cuts = statistics.quantiles(ms, n=100)
    for at in (50, 95, 99):
        yield Figure(f"{what}: p{at}", "ms", [cuts[at - 1]], at_most=bar if at == 95 else None)


def floor(sockets: int, rate: float, seconds: float) -> Iterator[Figure]:
    """Gives what the listeners measure at a loop that only writes."""
    with socket.create_server(("127.0.0.1", 0), backlog=sockets) as listener:
        order = Order(listener.getsockname()[1], None, [[]] * sockets, [""] * sockets)
        accepted: list[socket.socket] = []
        accepting = threading.Thread(
            target=lambda: accepted.extend(listener.accept()[0] for _ in range(sockets))
        )
        accepting.start()
        with listeners(order) as (pipe, _):
            accepting.join()
            pipe.send(True)
            count, began, busy = int(rate * seconds), time.perf_counter(), 0.0
            for number in range(count):
                time.sleep(max(0.0, began + number / rate - time.perf_counter()))
                started = time.perf_counter()
                body = f'{{"n": {number}, "at": {time.time_ns() // 1000}}}{"x" * (PADDING + 180)}'
                frame = struct.pack("!BBH", 0x81, 126, len(body)) + body.encode()
                for one in accepted:
                    one.sendall(frame)
                busy += time.perf_counter() - started
            pipe.send(count * sockets)
            heard: Heard = pipe.recv()
        for one in accepted:
            one.close()
    took = time.perf_counter() - began
    yield Figure("the floor, a loop that only writes: frames", "a second", [count * sockets / took])
    yield from _quantiles("the floor, to the client", [us / 1e3 for us in heard.microseconds])
    yield Figure("CPU of one core: the loop", "%", [100 * busy / took])
    yield Figure("CPU of one core: listeners", "%", [100 * heard.cpu_seconds / took])


@benchmark("local_realtime")
def local_realtime(scale: Scale) -> Iterator[Finding]:
    """The local Supabase's Realtime, with a thousand clients of two private channels each."""
    sockets, seconds = scale.pick((1000, 60.0), (1000, 10.0), (20, 1.0))
    single = [f"load:{number}" for number in range(sockets)]
    phases = [
        Phase("200 a second, each its own topic", 200.0, single, 1, SINGLE_BAR_MS),
        Phase("50 a second, one topic for all", 50.0, [ALL], sockets, COMMON_BAR_MS),
    ]
    with server() as (pid, told):
        with psycopg.connect(told["db_url"]) as connection:
            connection.execute(POLICY.encode())
        order = Order(
            int(told["supabase_url"].rpartition(":")[2]),
            f"/realtime/v1/websocket?apikey={told['publishable_key']}&vsn=2.0.0",
            [[name, ALL] for name in single],
            [
                mint(told["jwt_secret"], "authenticated", 7200, sub=str(uuid.uuid4()))
                for _ in single
            ],
        )
        with listeners(order) as (pipe, (_, connecting, joining)):
            yield Figure(f"{sockets} sockets connect", "s", [connecting])
            yield Figure(f"{2 * sockets} private channels are joined", "s", [joining])
            first = 0
            for phase in phases:
                yield from measure(pid, told, pipe, phase, first, seconds)
                first += int(phase.rate * seconds)
    yield from floor(sockets, 50.0, min(seconds, 10.0))
