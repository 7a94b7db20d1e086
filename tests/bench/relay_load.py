"""What clients cost, measured so that a loaded machine says the same as an idle one.

    python -m tests.bench.relay_load [--full]

prints one JSON object a measurement; `--full` takes about six minutes, without it half of
one. `tests/relay/test_scenarios.py` holds the short form to its bounds. Figures of this program
are in `conv_realtime/relay/README.md`.

* **leaks**: objects and memory blocks that a connection leaves behind, over many.
* **latency**: from a change to the last of 60 clients, less what this thread waited for a CPU.
* **throughput**: deliveries to 50 clients, at the end of a run against its beginning.
* **ingest**: work per line of everything but the fan-out, with 50 clients against none; and what
  the fan-out takes beside it, which is the kernel's price of so many writes.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from starlette.applications import Starlette

from conv_realtime import Bridge, testing
from conv_realtime.relay.hub import Hub
from tests.bench.sinks import Sink, all_have, distant_sinks, sinks
from tests.relay.rows import created, message
from tests.relay.serving import Served, eventually, serve

TEXT = "x" * 400
QUIET = {"ws_ping_interval": None}
"""The sinks answer no ping, neither uvicorn's nor the relay's."""


# Leaks ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Leaks:
    """What one connection leaves behind, on average."""

    connections: int
    objects_each: float
    blocks_each: float


async def measure_leaks(connections: int, warm_up: int = 200) -> Leaks:
    """Connect and go, politely or not, with events in between."""
    async with Served.run(replay_events=100) as served:
        await _come_and_go(served, warm_up)
        objects, blocks = _counted()
        await _come_and_go(served, connections)
        more_objects, more_blocks = _counted()
    return Leaks(
        connections,
        (more_objects - objects) / connections,
        (more_blocks - blocks) / connections,
    )


async def _come_and_go(served: Served, connections: int) -> None:
    for number in range(connections):
        sink = await Sink.open(served.server.port)
        if number % 3 == 0:
            sink.transport.write(b"\x81\x94" + bytes(4) + b'{"type":"subscribe"}')
        if number % 10 == 0:
            served.feed.publish(created(message(TEXT)))
        if number % 2:
            sink.transport.abort()
        else:
            sink.transport.write(b"\x88\x82" + bytes(4) + b"\x03\xe8")
            sink.transport.close()
    state = served.server.server.server_state
    await eventually(lambda: not state.connections and not state.tasks, "all have gone")
    log = served.relay.manager.hub.log
    served.feed.publish(created(*[message(TEXT)] * 200))
    while log._first != log._offset:  # old entries go together: until they just went
        served.feed.publish(created(message(TEXT)))


def _counted() -> tuple[int, int]:
    for _ in range(3):
        gc.collect()
    return len(gc.get_objects()), sys.getallocatedblocks()


# Latency --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Latency:
    """Milliseconds to the last client: as on a CPU of one's own, and by the clock."""

    clients: int
    broadcasts: int
    p50_ms: float
    p95_ms: float
    clock_p95_ms: float


async def measure_latency(clients: int, broadcasts: int) -> Latency:
    """Broadcast one message at a time; server and clients share a thread."""
    own: list[float] = []
    clock: list[float] = []
    async with (
        Served.run(QUIET, heartbeat_seconds=3600.0) as served,
        sinks(served.server.port, clients) as listening,
    ):
        for number in range(broadcasts):
            await all_have(listening, number + 1)  # the first frame is the welcome
            waited, begun = _waited_for_a_cpu(), time.perf_counter()
            served.feed.publish(created(message(TEXT, number)))
            await all_have(listening, number + 2)
            took = time.perf_counter() - begun
            clock.append(took * 1000)
            own.append((took - (_waited_for_a_cpu() - waited)) * 1000)
    p95 = statistics.quantiles(own, n=20)[-1]
    clock_p95 = statistics.quantiles(clock, n=20)[-1]
    return Latency(clients, broadcasts, statistics.median(own), p95, clock_p95)


def _waited_for_a_cpu() -> float:
    """Return seconds that this thread was ready and did not run; 0 where that is not told."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


# Throughput -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Throughput:
    """Deliveries per `unit`, at the beginning and at the end of a run."""

    clients: int
    deliveries: int
    unit: str
    first: float
    last: float

    @property
    def ratio(self) -> float:
        """The end against the beginning."""
        return self.last / self.first


async def measure_throughput(clients: int, *, seconds: float | None = None) -> Throughput:
    """Broadcast until `seconds` are over, and compare the first minute with the last.

    Without `seconds` a short run, of which the work is counted, in function calls: what the
    kernel takes for a write depends on who else wants the CPU, more than on anything of ours.
    """
    async with (
        Served.run(QUIET, replay_events=1000, heartbeat_seconds=3600.0) as served,
        AsyncExitStack() as stack,
    ):
        served.feed.publish(created(*[message(TEXT)] * 3000))  # the log is as long as ever
        await stack.enter_async_context(distant_sinks(served.server.port, clients))
        hub = served.relay.manager.hub
        await eventually(lambda: len(hub.clients) == clients, "all are connected")
        if seconds is None:
            first, _, _, last = [await _window(served, counting=True) for _ in range(4)]
            return Throughput(clients, hub.delivered, "thousand calls", first, last)
        rates: list[tuple[float, float]] = []
        begun = time.monotonic()
        while (now := time.monotonic() - begun) < seconds:
            rates.append((now, await _window(served)))
        first = statistics.mean(rate for at, rate in rates if at < 60)
        last = statistics.mean(rate for at, rate in rates if at > seconds - 60)
        return Throughput(clients, hub.delivered, "second", first, last)


async def _window(served: Served, broadcasts: int = 500, *, counting: bool = False) -> float:
    """Return the deliveries per second, or per thousand calls, of so many broadcasts.

    Every twenty the readers may take what is there: who is starved of CPU is not too slow.
    """
    hub = served.relay.manager.hub
    delivered, begun = hub.delivered, time.monotonic()
    calls = 0

    def count_call(frame: Any, what: str, detail: Any) -> None:
        nonlocal calls
        calls += what in ("call", "c_call")

    for first in range(0, broadcasts, 20):
        if counting:
            sys.setprofile(count_call)
        try:
            for number in range(first, first + 20):
                served.feed.publish(created(message(TEXT, number)))
                await asyncio.sleep(0)
        finally:
            if counting:
                sys.setprofile(None)
        await taken(served)
    deliveries = hub.delivered - delivered
    assert deliveries == len(hub.clients) * broadcasts, "nobody loses any"
    return deliveries / (calls / 1000 if counting else time.monotonic() - begun)


async def taken(served: Served) -> None:
    """Wait until the kernel has taken everything that was written to anybody."""
    wires = [client.wire for client in served.relay.manager.hub.clients.values()]
    await eventually(
        lambda: not any(wire.waiting_bytes for wire in wires if wire is not None), "it is taken"
    )


# Ingest ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class IngestCpu:
    """Per line, the least of all rounds, of all but the fan-out: function calls, CPU.

    Calls are counted, so they are the same on every machine. `total_us` is with the fan-out.
    """

    clients: int
    lines: int
    calls_without: float
    calls_with: float
    without_us: float
    with_us: float
    total_us: float

    @property
    def ratio(self) -> float:
        """What ingest does beside clients, against what it does alone."""
        return self.calls_with / self.calls_without


async def measure_ingest(clients: int, *, rounds: int = 6, lines: int = 100) -> IngestCpu:
    """Append lines one by one, in turns with and without clients, into a store in memory."""
    alone: list[_Spent] = []
    beside: list[_Spent] = []
    with _real_folder() as folder:
        async with _bridge(folder) as (bridge, projects, port):
            await _lines(bridge, projects, lines)
            for number in range(rounds + 2):
                counting = number < 2  # a profiler makes everything slow, so not in every round
                alone.append(await _lines(bridge, projects, lines, counting=counting))
                async with distant_sinks(port, clients):
                    beside.append(await _lines(bridge, projects, lines, counting=counting))
                await eventually(lambda: not bridge.manager.active_connections, "they have gone")
    return IngestCpu(
        clients,
        lines,
        min(spent.calls for spent in alone[:2]),
        min(spent.calls for spent in beside[:2]),
        min(spent.us for spent in alone[2:]),
        min(spent.us for spent in beside[2:]),
        min(spent.us + spent.fan_out_us for spent in beside[2:]),
    )


@contextmanager
def _real_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="conv_realtime-") as folder:
        yield Path(folder).resolve()  # a watcher reports real paths


@asynccontextmanager
async def _bridge(root: Path) -> AsyncIterator[tuple[Bridge, Path, int]]:
    projects = root / "projects" / "-bench"
    projects.mkdir(parents=True)
    bridge = Bridge(
        [projects.parent],
        store=testing.MemoryStore(),
        owner_id=testing.OWNER,
        state_dir=root / "state",
        machine="bench",
        heartbeat_seconds=3600.0,  # the sinks answer no ping
    )
    async with serve(Starlette(routes=bridge.routes, lifespan=bridge.lifespan), **QUIET) as server:
        yield bridge, projects, server.port


@dataclass
class _Spent:
    """Per line: calls and microseconds of everything else, and microseconds of the fan-out."""

    calls: float = 0.0
    us: float = 0.0
    fan_out_us: float = 0.0


async def _lines(bridge: Bridge, projects: Path, lines: int, *, counting: bool = False) -> _Spent:
    """Append line after line, each when the one before was heard of."""
    session = str(uuid4())
    heard = asyncio.Event()

    async def hear() -> None:
        async for event in bridge.events():
            if event.type == "new_message":
                heard.set()

    hearing = asyncio.create_task(hear(), name="hearing")
    await asyncio.sleep(0)
    with _measured(counting) as spent:
        for number in range(lines):
            heard.clear()
            with (projects / f"{session}.jsonl").open("ab") as file:
                file.write(testing.claude_line(f"{number} {TEXT}", session=session))
            await heard.wait()
    hearing.cancel()
    await asyncio.gather(hearing, return_exceptions=True)
    scale = 1e6 / lines
    return _Spent(
        spent.calls / lines, (spent.us - spent.fan_out_us) * scale, spent.fan_out_us * scale
    )


@contextmanager
def _measured(counting: bool) -> Iterator[_Spent]:
    """Measure this thread, and of it the hub's writes: these run per client, nothing else does."""
    flush = Hub.flush
    spent = _Spent()
    within = False

    def measured(self: Hub) -> None:
        nonlocal within
        within, begun = True, time.thread_time()
        flush(self)
        within, spent.fan_out_us = False, spent.fan_out_us + time.thread_time() - begun

    def count_call(frame: Any, what: str, detail: Any) -> None:
        if not within and what in ("call", "c_call"):
            spent.calls += 1

    Hub.flush = measured  # type: ignore[method-assign]
    begun = time.thread_time()
    if counting:
        sys.setprofile(count_call)
    try:
        yield spent
    finally:
        if counting:
            sys.setprofile(None)
        spent.us = time.thread_time() - begun
        Hub.flush = flush  # type: ignore[method-assign]


async def _main(full: bool) -> None:
    def say(measured: Any, **more: Any) -> None:
        values = {"what": type(measured).__name__, **asdict(measured), **more}
        rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}
        sys.stdout.write(json.dumps(rounded) + "\n")
        sys.stdout.flush()

    say(await measure_leaks(10_000 if full else 1_000))
    for clients in (60, 500) if full else (60,):
        say(await measure_latency(clients, 1_000 if full else 200))
    throughput = await measure_throughput(50, seconds=180.0 if full else None)
    say(throughput, ratio=throughput.ratio)
    ingest = await measure_ingest(50, rounds=30 if full else 6)
    say(ingest, ratio=ingest.ratio)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure what clients of /ws cost.")
    parser.add_argument("--full", action="store_true", help="ten thousand connects, three minutes")
    asyncio.run(_main(parser.parse_args().full))
