"""What each way to send one frame to many clients costs, on the same server.

    python -m tests.bench.send_paths [--clients 50 500]

prints one JSON object for each number of clients: microseconds of this thread's CPU a delivery,
the least of all rounds, which are taken in turns. The clients read in a process of their own.

* **transport**: frames built once and written to uvicorn's transport (what the relay does there)
* **writers**: a writer task per client for its life (what the relay does elsewhere)
* **stepped**: `send_text` per client, its coroutine stepped by hand
* **awaited**: `await send_text` for one client after the other; a slow one holds up all
* **gather**: a task per client and message
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.applications import Starlette

from conv_realtime.core.envelope import encode, event_of
from conv_realtime.edges.asgi import step
from conv_realtime.relay import LocalFeed, Relay
from tests.bench.relay_load.figures import QUIET, TEXT
from tests.bench.sinks import distant_sinks
from tests.relay.host import Watching
from tests.relay.rows import created, message
from tests.relay.serving import eventually, serve, settings

BROADCASTS, AT_ONCE = 100, 10
Send = Callable[["Scene"], Awaitable[None]]


class Scene:
    """A served relay with its clients."""

    def __init__(self, relay: Relay, feed: LocalFeed) -> None:
        self.relay = relay
        self.feed = feed

    @property
    def websockets(self) -> list[object]:
        """The WebSockets of all clients."""
        return list(self.relay.manager.active_connections.values())

    @classmethod
    @asynccontextmanager
    async def run(cls, clients: int, *, wrapped: bool) -> AsyncIterator[Scene]:
        """Serve so many clients; `wrapped` in a middleware, which hides the transport."""
        chosen = settings(replay_events=1000, heartbeat_seconds=3600.0)
        feed = LocalFeed(chosen)
        relay = Relay(feed=feed, settings=chosen)
        app = Starlette(routes=relay.routes, lifespan=relay.lifespan)
        async with serve(
            Watching(app) if wrapped else app, ws_per_message_deflate=False, **QUIET
        ) as server:
            async with distant_sinks(server.port, clients):
                hub = relay.manager.hub
                await eventually(lambda: len(hub.clients) == clients, "all are connected")
                assert all((c.wire is None) == wrapped for c in hub.clients.values())
                yield cls(relay, feed)


async def publish(scene: Scene) -> None:
    """Send as the relay does, and wait until it has."""
    hub = scene.relay.manager.hub
    due = hub.delivered + len(hub.clients)
    scene.feed.publish(created(message(TEXT)))
    while hub.delivered < due:  # noqa: ASYNC110
        await asyncio.sleep(0)


def _text() -> str:
    return encode(event_of(created(message(TEXT))[0], "s.1")).decode()


async def stepped(scene: Scene) -> None:
    """Step each send by hand."""
    text = _text()
    for websocket in scene.websockets:
        step(websocket.send_text(text))  # type: ignore[attr-defined]
    await asyncio.sleep(0)


async def awaited(scene: Scene) -> None:
    """Await each send in turn."""
    text = _text()
    for websocket in scene.websockets:
        await websocket.send_text(text)  # type: ignore[attr-defined]
    await asyncio.sleep(0)


async def gathered(scene: Scene) -> None:
    """Make a task of each send."""
    text = _text()
    await asyncio.gather(*(w.send_text(text) for w in scene.websockets))  # type: ignore[attr-defined]


async def measure(clients: int, rounds: int) -> dict[str, float]:
    """Return microseconds a delivery, by the way to send."""
    least: dict[str, float] = {}
    async with AsyncExitStack() as stack:
        direct = await stack.enter_async_context(Scene.run(clients, wrapped=False))
        wrapped = await stack.enter_async_context(Scene.run(clients, wrapped=True))
        ways: dict[str, tuple[Scene, Send]] = {
            "transport": (direct, publish),
            "writers": (wrapped, publish),
            "stepped": (direct, stepped),
            "awaited": (direct, awaited),
            "gather": (direct, gathered),
        }
        for _ in range(rounds):
            for name, (scene, send) in ways.items():
                took = await _round(scene, send) / (BROADCASTS * clients) * 1e6
                least[name] = min(took, least.get(name, took))
    return least


async def _round(scene: Scene, send: Send) -> float:
    used = 0.0
    for _ in range(BROADCASTS // AT_ONCE):
        begun = time.thread_time()
        for _ in range(AT_ONCE):
            await send(scene)
        used += time.thread_time() - begun
        await asyncio.sleep(0.005)  # the readers take what is there
    return used


async def _main(clients: list[int], rounds: int) -> None:
    for count in clients:
        least = await measure(count, rounds)
        figures = {name: round(us, 1) for name, us in least.items()}
        sys.stdout.write(json.dumps({"clients": count, "us_a_delivery": figures}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure ways to send to many clients.")
    parser.add_argument("--clients", type=int, nargs="+", default=[50, 500])
    parser.add_argument("--rounds", type=int, default=8)
    given = parser.parse_args()
    asyncio.run(_main(given.clients, given.rounds))
