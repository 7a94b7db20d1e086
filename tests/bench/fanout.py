"""The fan-out against the least that it can cost, and against what others take for it.

All servers get the same lines, send the same bytes, to the same kind of clients, in one run and in
turns. What is compared is the CPU of the server's process, which does not depend on who else wants
the machine. The others are handed the frame's text; ours makes it from a row.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from tests.bench.harness import Figure, Finding, Plot, Scale, benchmark, by_chance, in_turns, ratios
from tests.bench.rig import Clients, Report, Server, Stamped, module, native, node

EACH, JOINED = "C, a write a frame", "C, frames joined"
SERVE, SWITCHED = "serve", "serve, switched"
MOUNTED, WRAPPED = "mounted in FastAPI", "behind a middleware"
GATHER, WEBSOCKETS, WS = "FastAPI, gather", "websockets.broadcast", "ws (Node.js)"

NAP_US = 300


def commands() -> dict[str, Sequence[str]]:
    """Return how each server is started."""
    return {
        EACH: [native("writer"), "each"],
        JOINED: [native("writer"), "joined"],
        SERVE: module("relay", "serve"),
        SWITCHED: module("relay", "switched"),
        MOUNTED: module("relay", "mounted"),
        WRAPPED: module("relay", "wrapped"),
        GATHER: module("fastapi_gather"),
        WEBSOCKETS: module("websockets_broadcast"),
        WS: node("ws_broadcast.mjs"),
    }


@dataclass
class Scene:
    """A server and its clients."""

    server: Server
    clients: Clients
    lines: Stamped = field(default_factory=Stamped)

    def broadcast(self, count: int, together: int) -> float:
        """Send messages, so many together, each time all have the last; return µs a delivery."""
        before = self.server.cpu_seconds()
        for _ in range(count // together):
            self.server.say(self.lines.next(together))
            self.clients.last_ms(self.lines.number - 1)
        spent = self.server.cpu_seconds() - before
        return spent / (count // together * together * self.clients.count) * 1e6

    def pace(self, rate: float, seconds: float) -> Report:
        """Send so many messages a second; return what all clients got."""
        began = time.monotonic()
        for number in range(int(rate * seconds)):
            self.clients.wait(began + number / rate)
            self.server.say(self.lines.next())
        self.clients.last_ms(self.lines.number - 1)
        return self.clients.report()


@contextmanager
def scenes(
    names: Sequence[str], clients: int, nap_us: int = NAP_US
) -> Iterator[Mapping[str, Scene]]:
    """Run servers, each with so many clients."""
    with ExitStack() as stack:
        servers = stack.enter_context(Server.run_all([commands()[name] for name in names]))
        running = {}
        for name, server in zip(names, servers, strict=True):
            reading = Clients.run(server.port, clients, nap_us=nap_us)
            running[name] = Scene(server, stack.enter_context(reading))
        for scene in running.values():
            scene.broadcast(20, 1)  # what is done once is done
        yield running


@benchmark("fanout")
def fan_out(scale: Scale) -> Iterator[Finding]:
    """A server's CPU for one delivery, one message at a time."""
    rounds = scale.pick(7, 3, 1)
    names = [EACH, SERVE, MOUNTED, WRAPPED, GATHER, WEBSOCKETS, WS]
    lines: dict[str, dict[float, Sequence[float]]] = {name: {} for name in names}
    for clients in scale.pick((50, 500, 2000), (500, 2000), (5,)):
        took: dict[str, list[float]] = {name: [] for name in names}
        messages = scale.pick(60_000, 30_000, 50) // clients
        with scenes(names, clients) as running:
            for _, name in in_turns(names, rounds):
                took[name].append(running[name].broadcast(messages, 1))
        for name in names:
            yield Figure(f"{name}, {clients} clients", "µs a delivery", took[name])
            lines[name][clients] = took[name]
        # With few clients, most of what a message costs is not its fan-out.
        judged = clients >= 500
        for name, bar in ((SERVE, 1.25), (MOUNTED, 1.6)):
            against = ratios(took[name], took[EACH])
            yield Figure(
                f"{name} / C, {clients} clients", "x", against, at_most=bar if judged else None
            )
    yield Plot("CPU of one delivery", "clients", "µs", lines)


@benchmark("burst")
def burst(scale: Scale) -> Iterator[Finding]:
    """A server's CPU for one delivery when messages come together, and the load it bears."""
    clients, rounds = scale.pick(500, 500, 5), scale.pick(7, 3, 1)
    names = [EACH, JOINED, SERVE, MOUNTED, WEBSOCKETS]
    sizes = scale.pick((1, 3, 10, 30, 100), (1, 10, 30), (1, 30))
    took: dict[str, dict[float, list[float]]] = {n: {size: [] for size in sizes} for n in names}
    with scenes(names, clients) as running:
        for size in sizes:
            for _, name in in_turns(names, rounds):
                messages = max(size, scale.pick(60, 60, 2) * min(size, 10))
                took[name][size].append(running[name].broadcast(messages, size))
        for name in names:
            yield Figure(f"{name}, 30 together", "µs a delivery", took[name][30])
        borne = {n: [1e6 / (us * clients) for us in took[n][30]] for n in (EACH, SERVE)}
        for name, rates in borne.items():
            yield Figure(f"{name}: messages in a second of CPU", "1/s", rates)
        for name, bar in ((EACH, 5.0), (WEBSOCKETS, 10.0)):
            against = ratios(took[name][30], took[SERVE][30])
            yield Figure(f"load of serve / {name}", "x", against, at_least=bar)
        yield Figure("serve / C, frames joined", "x", ratios(took[SERVE][30], took[JOINED][30]),
                  at_most=1.5)  # fmt: skip
    yield Plot(f"CPU of one delivery to one of {clients} clients", "messages together", "µs", took)
    # A tenth of ours may be more than the loop bears that joins nothing.
    yield from _paced(clients, min(*borne[SERVE], *(5 * one for one in borne[EACH])) / 10, scale)


def _paced(clients: int, rate: float, scale: Scale) -> Iterator[Finding]:
    """What joining frames does to the latency, at a load that needs none joined.

    Two processes that do the same differ for as long as they live: it is one that changes its way.
    The one way comes twice: by how much it seems worse than itself is what "no worse" can mean.
    """
    joined, apart, again = "frames joined", "a write a frame", "a write a frame, once more"
    p99: dict[str, list[float]] = {apart: [], joined: [], again: []}
    for _ in range(scale.pick(4, 1, 1)):
        with scenes([SWITCHED], clients, nap_us=0) as running:
            scene = running[SWITCHED]
            for _, way in in_turns(list(p99), scale.pick(40, 20, 1)):
                scene.server.say(b"joined\n" if way == joined else b"apart\n")
                scene.clients.report()
                p99[way].append(scene.pace(rate, scale.pick(0.5, 0.5, 0.1)).p99_ms)
    for way, values in p99.items():
        yield Figure(f"{way}, {rate:.0f} messages a second: p99", "ms", values)
    alike, against = ratios(p99[again], p99[apart]), ratios(p99[joined], p99[apart])
    yield Figure("a write a frame, once more / a write a frame: p99", "x", alike)
    yield Figure("frames joined / a write a frame: p99", "x", against, at_most=by_chance(alike))
