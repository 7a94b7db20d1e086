"""What connections leave behind: in a server's process, after thousands came and went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.harness import Figure
from tests.bench.relay_load.server import Child, Held
from tests.bench.sinks import Sink

LOOKS = 5
"""Times at which is counted what is there: a leak grows from each to the next."""

SUBSCRIBE = b"\x81\x94" + bytes(4) + b'{"type":"subscribe"}'
GOODBYE = b"\x88\x82" + bytes(4) + b"\x03\xe8"


@dataclass(frozen=True)
class Leaks:
    """What the server held at the beginning, and after each part of the connections."""

    connections: int
    held: Sequence[Held]

    def each(self, what: str) -> float:
        """Return how much of something a connection left behind, on average."""
        return float(getattr(self.held[-1], what) - getattr(self.held[0], what)) / self.connections

    def figures(self) -> Sequence[Figure]:
        """Return its lines."""
        first, last = self.held[0], self.held[-1]
        more = {
            name: getattr(last, name) - getattr(first, name) for name in ("descriptors", "tasks")
        }
        return [
            Figure("connections, politely or not", "", [self.connections]),
            Figure("objects left behind by each", "", [self.each("objects")], at_most=0.5),
            Figure("blocks of memory left behind by each", "", [self.each("blocks")], at_most=1.0),
            *(Figure(f"{name} more", "", [count], at_most=0) for name, count in more.items()),
            Figure("memory meanwhile", "MB", [held.rss_kb / 1024 for held in self.held]),
            Figure("memory more", "KB", [last.rss_kb - first.rss_kb], at_most=2048),
        ]


async def measure_leaks(connections: int, warm_up: int = 400) -> Leaks:
    """Connect and go, politely or not, with events in between."""
    async with Child.run() as server:
        await _come_and_go(server, warm_up)
        held = [await server.held()]
        for _ in range(LOOKS):
            await _come_and_go(server, connections // LOOKS)
            held.append(await server.held())
    return Leaks(connections // LOOKS * LOOKS, held)


async def _come_and_go(server: Child, connections: int) -> None:
    for number in range(connections):
        sink = await Sink.open(server.port)
        if number % 3 == 0:
            sink.transport.write(SUBSCRIBE)
        if number % 10 == 0:
            await server.ask("say")
        if number % 2:
            sink.transport.abort()
        else:
            sink.transport.write(GOODBYE)
            sink.transport.close()
