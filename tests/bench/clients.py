"""What single clients cost: memory, and what one that never reads does to the others."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

from tests.bench.fanout import MOUNTED, SERVE, Scene, commands, scenes
from tests.bench.harness import Figure, Finding, Scale, benchmark, in_turns, ratios
from tests.bench.rig import Clients, Server
from tests.relay.raw import request


@benchmark("memory")
def memory(scale: Scale) -> Iterator[Finding]:
    """A server's memory for one connection."""
    count, warm_up = scale.pick(2000, 1000, 5), scale.pick(200, 100, 1)
    for name in (SERVE, MOUNTED):
        each = []
        for _ in range(scale.pick(3, 2, 1)):
            with Server.run(commands()[name]) as server, ExitStack() as stack:
                stack.enter_context(Clients.run(server.port, warm_up))
                before = server.resident_bytes()
                stack.enter_context(Clients.run(server.port, count))
                each.append((server.resident_bytes() - before) / count / 1024)
        yield Figure(f"{name}, {count} connections", "KiB each", each, at_most=40.0)


@benchmark("stalled")
def stalled(scale: Scale) -> Iterator[Finding]:
    """What one client that never reads does to 50 others."""
    messages, rate = scale.pick(20_000, 5_000, 50), 2_000.0
    p95: dict[bool, list[float]] = {False: [], True: []}
    lost: list[float] = []
    with scenes([SERVE], scale.pick(50, 50, 3), nap_us=0) as running:
        scene = running[SERVE]
        scene.clients.report()
        for _, beside in in_turns([False, True], scale.pick(5, 3, 1)):
            with ExitStack() as stack:
                if beside:
                    stack.enter_context(closing(_one_that_never_reads(scene)))
                report = scene.pace(rate, messages / rate)
            p95[beside].append(report.p95_ms)
            lost.append(messages * scene.clients.count - report.deliveries)
    yield Figure(f"{messages:,} messages without it: p95", "ms", p95[False])
    yield Figure("beside it: p95", "ms", p95[True])
    yield Figure("deliveries that the others miss", "", lost, at_most=0)
    yield Figure("p95 beside it / without it", "x", ratios(p95[True], p95[False]), at_most=1.2)


def _one_that_never_reads(scene: Scene) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", scene.server.port))
    client.sendall(request())
    time.sleep(0.2)  # until it is one of the clients
    return client
