"""Deliveries to fifty clients: whether the last minute is as good as the first.

The long form compares minutes. Nearly all of a delivery is the kernel's writing, whose cost moves
by a tenth with what else the machine does: beside each stretch stand bare writes to the same
sockets, and a delivery is told in these. The short form counts: function calls, which a busy
machine cannot change, and memory that is traced to the byte, because whatever makes a delivery
slower than those before it has to be kept somewhere.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from conv_realtime.core.wire import text_frames
from tests.bench.harness import Figure
from tests.bench.relay_load.figures import QUIET, TEXT
from tests.bench.sinks import distant_sinks
from tests.relay.rows import created, message
from tests.relay.serving import Served, eventually

REPLAYED = 1000


@dataclass(frozen=True)
class Steadiness:
    """What a delivery took in function calls, at first and at last; what broadcasts left behind."""

    clients: int
    deliveries: int
    first_calls: float
    last_calls: float
    bytes_each: float

    @property
    def ratio(self) -> float:
        """Deliveries for the same work: the end against the beginning."""
        return self.first_calls / self.last_calls

    def figures(self) -> Sequence[Figure]:
        """Return its lines."""
        return [
            Figure(f"{self.deliveries:,} deliveries: function calls each, at first", "",
                [self.first_calls]),
            Figure("at last", "", [self.last_calls]),
            Figure("deliveries for the same work, last / first", "x", [self.ratio], at_least=0.95),
            Figure("bytes left behind by each broadcast", "", [self.bytes_each], at_most=4),
        ]  # fmt: skip


async def measure_steadiness(clients: int, broadcasts: int = 500, windows: int = 4) -> Steadiness:
    """Broadcast in windows of as much work; compare the last with the first."""
    calls: list[float] = []
    held: list[tuple[int, int]] = []  # deliveries until then, and bytes
    async with _loaded(clients) as served:
        hub = served.relay.manager.hub
        tracemalloc.start()
        try:
            await _even(served)  # replaces what was there before anything was traced
            held.append((hub.delivered, _traced()))
            for _ in range(windows):
                with _counted_calls() as counted:
                    await _broadcast(served, broadcasts, counted)
                calls.append(counted.calls / (clients * broadcasts))
                await _even(served)
                held.append((hub.delivered, _traced()))
        finally:
            tracemalloc.stop()
    # Until then the log's table of rows grows to the size that it keeps.
    (before, at_first), (delivered, at_last) = held[2], held[-1]
    bytes_each = (at_last - at_first) / (delivered - before) * clients
    return Steadiness(clients, delivered, calls[0], calls[-1], bytes_each)


@dataclass(frozen=True)
class Throughput:
    """Deliveries a second in the first and the last minute: by the clock, and of the server's CPU.

    Of the CPU it is the median over the broadcasts of a moment, so that a minute in which others
    had the cores, and its caches, can be compared with one in which they had not. `first_writes`
    and `last_writes` are the bare writes that the CPU of a delivery would have been enough for.
    """

    clients: int
    deliveries: int
    seconds: float
    first: float
    last: float
    first_cpu: float
    last_cpu: float
    first_writes: float
    last_writes: float

    def figures(self) -> Sequence[Figure]:
        """Return its lines."""
        return [
            Figure(f"deliveries to {self.clients} clients in {self.seconds:.0f} s", "",
                [self.deliveries]),
            Figure("first minute", "a second", [self.first]),
            Figure("last minute", "a second", [self.last]),
            Figure("first minute, of CPU", "a second", [self.first_cpu]),
            Figure("last minute, of CPU", "a second", [self.last_cpu]),
            Figure("first minute, a delivery in bare writes", "", [self.first_writes]),
            Figure("last minute, a delivery in bare writes", "", [self.last_writes]),
            Figure("last / first minute", "x", [self.last / self.first]),
            Figure("last / first minute, of CPU", "x", [self.last_cpu / self.first_cpu]),
            Figure("last / first minute, beside bare writes", "x",
                [self.first_writes / self.last_writes], at_least=0.95),
        ]  # fmt: skip


@dataclass(frozen=True)
class _Stretch:
    """Some broadcasts, and the bare writes behind them."""

    at: float
    deliveries: int
    seconds: float
    cpu: float
    cpu_of_a_write: float

    @property
    def writes(self) -> float:
        return self.cpu / self.deliveries / self.cpu_of_a_write


async def measure_throughput(clients: int, seconds: float) -> Throughput:
    """Broadcast as fast as it goes until `seconds` are over."""
    minute = min(60.0, seconds / 2)
    stretches: list[_Stretch] = []
    async with _loaded(clients) as served:
        hub = served.relay.manager.hub
        begun = time.monotonic()
        while (at := time.monotonic() - begun) < seconds:
            before, cpu = hub.delivered, time.process_time()
            await _broadcast(served, 500)
            took, used = time.monotonic() - begun - at, time.process_time() - cpu
            a_write = await _bare_writes(served, 100)
            stretches.append(_Stretch(at, hub.delivered - before, took, used, a_write))
        delivered = hub.delivered
    first = [one for one in stretches if one.at < minute]
    last = [one for one in stretches if one.at >= seconds - minute]
    return Throughput(
        clients, delivered, seconds,
        _by_clock(first), _by_clock(last), _by_cpu(first), _by_cpu(last),
        statistics.median(one.writes for one in first),
        statistics.median(one.writes for one in last),
    )  # fmt: skip


def _by_clock(stretches: Sequence[_Stretch]) -> float:
    return sum(one.deliveries for one in stretches) / sum(one.seconds for one in stretches)


def _by_cpu(stretches: Sequence[_Stretch]) -> float:
    return statistics.median(one.deliveries / one.cpu for one in stretches)


async def _bare_writes(served: Served, rounds: int) -> float:
    """Write the last frame to every socket so often; return the CPU of one write, in seconds."""
    hub = served.relay.manager.hub
    frame = text_frames((hub.log.read(hub.log.head - 1, hub.log.head)[0].payload(False),))
    wires = [client.wire for client in hub.clients.values()]
    sockets = [wire.descriptor for wire in wires if wire is not None]
    cpu = time.process_time()
    for _ in range(rounds):
        for socket in sockets:
            await _write(socket, frame)
    return (time.process_time() - cpu) / (rounds * len(sockets))


async def _write(socket: int, frame: bytes) -> None:
    while frame:
        try:
            frame = frame[os.write(socket, frame) :]
        except BlockingIOError:  # the readers are starved of CPU
            await asyncio.sleep(0.01)


@asynccontextmanager
async def _loaded(clients: int) -> AsyncIterator[Served]:
    """Serve clients of another process, with a log that is as long as it ever gets."""
    quiet = {"replay_events": REPLAYED, "heartbeat_seconds": 3600.0}
    async with Served.run(QUIET, **quiet) as served:
        served.feed.publish(created(*[message(TEXT)] * (3 * REPLAYED)))
        async with distant_sinks(served.server.port, clients):
            hub = served.relay.manager.hub
            await eventually(lambda: len(hub.clients) == clients, "all are connected")
            await _even(served)
            yield served


class _Counted:
    """Function calls, of Python and of C, while it is told to count."""

    def __init__(self) -> None:
        self.calls = 0
        self.counts = False

    def heard(self, frame: Any, what: str, detail: Any) -> None:
        self.calls += self.counts and what in ("call", "c_call")


@contextmanager
def _counted_calls() -> Iterator[_Counted]:
    counted = _Counted()
    sys.setprofile(counted.heard)
    try:
        yield counted
    finally:
        sys.setprofile(None)


async def _broadcast(served: Served, broadcasts: int, counted: _Counted | None = None) -> None:
    """Publish so many events, each in a turn of its own; nobody may lose any.

    Every twenty the readers may take what is there: who is starved of CPU is not too slow.
    """
    hub = served.relay.manager.hub
    delivered = hub.delivered
    for first in range(0, broadcasts, 20):
        if counted is not None:
            counted.counts = True
        for number in range(first, first + 20):
            served.feed.publish(created(message(TEXT, number)))
            await asyncio.sleep(0)
        if counted is not None:
            counted.counts = False  # how often it looks whether they have is no work
        await taken(served)
    assert hub.delivered - delivered == len(hub.clients) * broadcasts, "nobody loses any"


async def taken(served: Served) -> None:
    """Wait until the kernel has taken everything that was written to anybody."""
    wires = [client.wire for client in served.relay.manager.hub.clients.values()]

    def is_taken() -> bool:
        return not any(wire.waiting_bytes for wire in wires if wire is not None)

    if not is_taken():
        await eventually(is_taken, "it is taken")


async def _even(served: Served) -> None:
    """Let the log be where it always is when old entries, which go together, just went."""
    log = served.relay.manager.hub.log
    first = True
    while first or log._first != log._offset:
        first = False
        served.feed.publish(created(message(TEXT)))
        await asyncio.sleep(0)
        await taken(served)


def _traced() -> int:
    for _ in range(3):
        gc.collect()
    return tracemalloc.get_traced_memory()[0]
