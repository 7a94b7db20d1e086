"""Loads the local Supabase's Realtime with a thousand clients and says how it bears that.

    python -m tests.bench.local_realtime [--seconds 60] [--sockets 1000]

Each client has joined two private channels, one of its own and one of all. First 200 database
broadcasts a second go to the channels of single clients, one after the other; then 50 a second to
the channel of all, which makes 50,000 frames a second. Latency is counted from inside the
transaction that broadcasts, just before it commits, to the client's `recv`: so it has the disk in
it, and the time until the commit was acknowledged is shown beside it.

The listeners are one process of raw sockets (listening.py), the writer another, the server a
third. The last line is the floor: the same listeners at a loop that does nothing but write the same
frames to as many sockets. What lies between the floor and the server is the server's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psycopg

from conv_realtime.local.keys import mint
from tests.bench.listening import Heard, Order, run

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
def server(folder: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Runs `conv-realtime local`; gives its pid and what it says of itself."""
    command = [sys.executable, "-m", "conv_realtime", "local", "--json", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--state-dir", str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process.pid, json.loads(process.stdout.readline())
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


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
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


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


def rss_mb(pid: int) -> float:
    """Gives the memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


def quantiles(milliseconds: Sequence[float]) -> str:
    """Gives p50, p95 and p99."""
    cuts = statistics.quantiles(milliseconds, n=100)
    return " / ".join(f"{cuts[at - 1]:.1f}" for at in (50, 95, 99))


def measure(
    pid: int, told: dict[str, Any], pipe: Connection, phase: Phase, first: int, seconds: float
) -> bool:
    """Runs one phase and prints it; gives whether nothing was lost."""
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
    milliseconds = [one / 1e3 for one in heard.microseconds]
    p95 = statistics.quantiles(milliseconds, n=100)[94]
    own, postgres = (100 * (b - a) / took for a, b in zip(before, after, strict=True))
    print(
        f"\n{phase.name}: {count} broadcasts in {took:.1f} s, {wanted / took:,.0f} frames a second"
    )
    print(f"  lost {lost}, doubled {doubled}")
    print(f"  to the client   {quantiles(milliseconds)} ms (p50 / p95 / p99)")
    print(f"  to the writer   {quantiles(acknowledged)} ms: with the disk, and the statement")
    verdict = "holds" if p95 <= phase.bar_ms else "is missed"
    print(f"  the bar of p95 below {phase.bar_ms:.0f} ms {verdict}")
    print(
        f"  CPU of one core: server {own:.0f} %, PostgreSQL {postgres:.0f} %,"
        f" listeners {100 * heard.cpu_seconds / took:.0f} %; server's memory {rss_mb(pid):.0f} MB"
    )
    return (lost, doubled) == (0, 0)


def floor(sockets: int, rate: float, seconds: float) -> None:
    """Prints what the listeners measure at a loop that only writes."""
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
    milliseconds = [one / 1e3 for one in heard.microseconds]
    print(f"\nthe floor, a loop that only writes: {count * sockets / took:,.0f} frames a second")
    print(f"  to the client   {quantiles(milliseconds)} ms (p50 / p95 / p99)")
    print(
        f"  writing took {100 * busy / took:.0f} % of the time,"
        f" listeners {100 * heard.cpu_seconds / took:.0f} % of one core"
    )


def main() -> int:
    """Runs all of it; 1 if something was lost."""
    parser = argparse.ArgumentParser(description="Loads the local Realtime server.")
    parser.add_argument("--sockets", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each phase")
    parser.add_argument("--single-rate", type=float, default=200.0, help="broadcasts a second")
    parser.add_argument("--common-rate", type=float, default=50.0, help="broadcasts a second")
    chosen = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    single = [f"load:{number}" for number in range(chosen.sockets)]
    phases = [
        Phase("each its own topic", chosen.single_rate, single, 1, SINGLE_BAR_MS),
        Phase("one topic for all", chosen.common_rate, [ALL], chosen.sockets, COMMON_BAR_MS),
    ]
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    whole = True
    with tempfile.TemporaryDirectory(prefix="conv_rt_load-") as folder:
        Path(folder).chmod(0o755)
        with server(Path(folder)) as (pid, told):
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
                print(
                    f"{chosen.sockets} sockets connected in {connecting:.1f} s,"
                    f" {2 * chosen.sockets} private channels joined in {joining:.1f} s"
                )
                first = 0
                for phase in phases:
                    whole &= measure(pid, told, pipe, phase, first, chosen.seconds)
                    first += int(phase.rate * chosen.seconds)
    floor(chosen.sockets, chosen.common_rate, min(chosen.seconds, 10.0))
    print(f"\nload average {os.getloadavg()[0]:.1f}")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
