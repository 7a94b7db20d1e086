"""From a change to the last client, less the time in which other processes had the CPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.harness import Figure
from tests.bench.relay_load.figures import QUIET, TEXT
from tests.bench.sinks import all_have, sinks
from tests.relay.rows import created, message
from tests.relay.serving import Served


@dataclass(frozen=True)
class Latency:
    """Milliseconds to the last client: as on a CPU of one's own, and by the clock."""

    clients: int
    broadcasts: int
    p50_ms: float
    p95_ms: float
    clock_p95_ms: float

    def figures(self) -> Sequence[Figure]:
        """Return its lines."""
        to = f"a change to the last of {self.clients} clients"
        return [
            Figure(f"{to}, p50", "ms", [self.p50_ms]),
            Figure(f"{to}, p95", "ms", [self.p95_ms], at_most=50),
            Figure(f"{to}, p95 by the clock", "ms", [self.clock_p95_ms]),
        ]


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
