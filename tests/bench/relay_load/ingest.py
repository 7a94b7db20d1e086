"""Work per line of transcript beside fifty clients, in one process.

Reading, parsing and upserting share a thread with the fan-out. What runs per client is one method,
`Hub.flush`: it is measured apart, and the rest is what ingest costs. Function calls are counted,
so they are the same on every machine; CPU is the thread's own, in turns with and without clients.
The store is one in memory, so that nothing hides what clients add.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from starlette.applications import Starlette

from conv_realtime import Bridge, testing
from conv_realtime.relay.hub import Hub
from tests.bench.harness import Figure, ratios
from tests.bench.relay_load.figures import QUIET, TEXT
from tests.bench.sinks import distant_sinks
from tests.relay.serving import eventually, serve

COUNTED_ROUNDS = 2


@dataclass
class Spent:
    """Per line: calls and microseconds of all but the fan-out, and microseconds of the fan-out."""

    calls: float = 0.0
    us: float = 0.0
    fan_out_us: float = 0.0


@dataclass(frozen=True)
class IngestWork:
    """What was spent in turns, alone and beside clients; in the first rounds calls were counted."""

    clients: int
    lines: int
    alone: Sequence[Spent]
    beside: Sequence[Spent]

    @property
    def calls_without(self) -> float:
        """Function calls a line without clients: the least, for nothing is done less often."""
        return min(spent.calls for spent in self.alone[:COUNTED_ROUNDS])

    @property
    def calls_with(self) -> float:
        """The same beside clients."""
        return min(spent.calls for spent in self.beside[:COUNTED_ROUNDS])

    @property
    def ratio(self) -> float:
        """What ingest does beside clients, against what it does alone."""
        return self.calls_with / self.calls_without

    def figures(self) -> Sequence[Figure]:
        """Return its lines."""
        alone = [spent.us for spent in self.alone[COUNTED_ROUNDS:]]
        beside = [spent.us for spent in self.beside[COUNTED_ROUNDS:]]
        fan_out = [spent.fan_out_us for spent in self.beside[COUNTED_ROUNDS:]]
        all_of_it = [own + more for own, more in zip(beside, fan_out, strict=True)]
        return [
            Figure("function calls a line, alone", "", [self.calls_without]),
            Figure(f"beside {self.clients} clients, but the fan-out", "", [self.calls_with]),
            Figure("calls beside clients / alone", "x", [self.ratio], at_most=1.1),
            Figure("CPU a line, alone", "µs", alone),
            Figure("beside clients, but the fan-out", "µs", beside),
            Figure("the fan-out", "µs", fan_out),
            Figure("CPU beside clients / alone, but the fan-out", "x", ratios(beside, alone)),
            Figure("CPU beside clients / alone", "x", ratios(all_of_it, alone)),
        ]


async def measure_ingest(clients: int, *, rounds: int, lines: int = 100) -> IngestWork:
    """Append lines one by one, in turns with and without clients."""
    alone: list[Spent] = []
    beside: list[Spent] = []
    with real_folder() as folder:
        async with _bridge(folder) as (bridge, projects, port):
            await _lines(bridge, projects, lines)
            for number in range(rounds + COUNTED_ROUNDS):
                counting = number < COUNTED_ROUNDS  # a profiler makes everything slow
                alone.append(await _lines(bridge, projects, lines, counting=counting))
                async with distant_sinks(port, clients):
                    beside.append(await _lines(bridge, projects, lines, counting=counting))
                await eventually(lambda: not bridge.manager.active_connections, "they have gone")
    return IngestWork(clients, lines, alone, beside)


@contextmanager
def real_folder() -> Iterator[Path]:
    """Make a folder and remove it."""
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


async def _lines(bridge: Bridge, projects: Path, lines: int, *, counting: bool = False) -> Spent:
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
    return Spent(
        spent.calls / lines, (spent.us - spent.fan_out_us) * scale, spent.fan_out_us * scale
    )


@contextmanager
def _measured(counting: bool) -> Iterator[Spent]:
    """Measure this thread, and of it the hub's writes: these run per client, nothing else does."""
    flush = Hub.flush
    spent = Spent()
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
