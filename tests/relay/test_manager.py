"""`ConnectionManager` with WebSockets of any make, of hosts of any kind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from conv_realtime.ports import SnapshotPart
from conv_realtime.relay import ConnectionManager, LocalFeed, Relay, laggards
from tests.relay.hosted import FakeWebSocket, event
from tests.relay.rows import OWNER
from tests.relay.serving import eventually, serve, settings


async def test_a_host_can_connect_broadcast_and_disconnect() -> None:
    """The calls of a tutorial's manager work, with a fake WebSocket."""
    manager, websocket = ConnectionManager(), FakeWebSocket()
    id = await manager.connect(websocket)
    assert websocket.accepted
    assert dict(manager.active_connections) == {id: websocket}
    assert await manager.broadcast(event("one")) == 1
    assert await manager.send(id, event("two"))
    await eventually(lambda: len(websocket.sent) == 3, "all is sent")
    assert websocket.types == ["connection_established", "new_message", "new_message"]
    manager.disconnect(id)
    manager.disconnect(id)
    assert not manager.active_connections
    assert await manager.broadcast(event()) == 0
    assert not await manager.send(id, event())
    assert manager.stats()["accepted"] == 1


async def test_broadcast_counts_who_wants_the_event() -> None:
    """Subscriptions and owners decide; the count is that of clients queued."""
    manager = ConnectionManager()
    for options in ({}, {"subscriptions": ["project_update"]}, {"owner_id": str(OWNER)}):
        await manager.connect(FakeWebSocket(), **options)
    assert await manager.broadcast(event()) == 1
    with pytest.raises(ValueError, match="no such type: nonsense"):
        await manager.connect(FakeWebSocket(), subscriptions=["nonsense"])
    assert len(manager.active_connections) == 3


async def test_one_client_that_fails_or_hangs_harms_no_other() -> None:
    """A broken one is forgotten, a hanging one waits alone."""
    manager = ConnectionManager()
    broken, hanging, healthy = FakeWebSocket(), FakeWebSocket(), FakeWebSocket()
    for websocket in (broken, hanging, healthy):
        await manager.connect(websocket)
    await eventually(lambda: hanging.sent and broken.sent, "all are greeted")
    broken.failing = True
    hanging.reading.clear()
    for n in range(20):
        await manager.broadcast(event(str(n)))
    await eventually(lambda: len(healthy.sent) == 21, "the healthy one has all")
    await eventually(lambda: len(manager.active_connections) == 2, "the broken one is gone")
    assert len(hanging.sent) == 1
    hanging.reading.set()
    await eventually(lambda: len(hanging.sent) == 21, "the other one catches up")
    for id in list(manager.active_connections):
        manager.disconnect(id)


async def test_a_hanging_client_without_a_wire_is_bounded_too() -> None:
    """It gets resync in place of what was too much."""
    manager = ConnectionManager(settings(client_queue_events=10))
    websocket = FakeWebSocket()
    id = await manager.connect(websocket)
    await eventually(lambda: websocket.sent, "it is greeted")
    websocket.reading.clear()
    for n in range(100):
        await manager.broadcast(event(str(n)))
    websocket.reading.set()
    await eventually(lambda: "resync" in websocket.types, "it is told")
    await manager.broadcast(event("live"))
    await eventually(lambda: websocket.sent[-1]["data"].get("text") == "live", "it goes on")
    assert websocket.types.count("resync") == 1
    assert len(websocket.sent) < 20
    manager.disconnect(id)


async def test_a_slow_snapshot_is_not_the_clients_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it waits for us, events may overflow its queue: it gets resync, and no 1013."""
    monkeypatch.setattr(laggards, "STALL_SECONDS", 0.1)
    answered = asyncio.Event()

    class Feed(LocalFeed):
        async def snapshot(self, **selection: Any) -> AsyncIterator[SnapshotPart]:
            await answered.wait()
            yield SnapshotPart((), (), "s.1")

    manager = ConnectionManager(settings(client_queue_events=10), feed=Feed(settings()))
    websocket = FakeWebSocket()
    serving = asyncio.create_task(manager.run(websocket), name="endpoint")
    await websocket.inbox.put('{"type": "subscribe", "data": {"snapshot": true}}')
    await eventually(lambda: websocket.types[-1:] == ["subscribed"], "it is asked")
    for n in range(100):
        await manager.broadcast(event(str(n)))
    gap = next(iter(manager.hub.clients.values()))
    begun = asyncio.get_running_loop().time()
    assert gap.gap_at is not None
    await eventually(lambda: (gap.gap_at or 0) > begun + 0.3, "three times its patience is over")
    answered.set()
    await eventually(lambda: websocket.types[-2:] == ["snapshot", "resync"], "it is told")
    assert websocket.closed is None and manager.stats()["evicted"] == 0
    await websocket.inbox.put(None)
    await serving


async def test_what_a_feed_of_somebodys_own_raises_reaches_the_server() -> None:
    """A `TimeoutError`, too: it is no end of the client's, about which nobody would be told."""

    class Feed(LocalFeed):
        async def snapshot(self, **_: Any) -> AsyncIterator[SnapshotPart]:
            raise TimeoutError("its database does not answer")
            yield

    manager, websocket = ConnectionManager(feed=Feed(settings())), FakeWebSocket()
    await websocket.inbox.put('{"type": "subscribe", "data": {"snapshot": true}}')
    with pytest.raises(TimeoutError, match="its database does not answer"):
        await manager.run(websocket)
    assert not manager.active_connections


async def test_run_serves_an_endpoint_of_the_hosts_own() -> None:
    """run() connects, answers and disconnects, also where there is only receive_text."""
    manager, websocket = ConnectionManager(), FakeWebSocket()
    serving = asyncio.create_task(manager.run(websocket), name="endpoint")
    await websocket.inbox.put('{"type": "ping", "data": {"timestamp": 5}}')
    await eventually(lambda: websocket.types[-1:] == ["pong"], "it answers")
    await websocket.inbox.put(None)
    await serving
    assert not manager.active_connections


async def test_a_token_may_expire_while_a_client_is_being_closed() -> None:
    """It is closed for something else, without a wire, and takes its time over that."""

    class Slow(FakeWebSocket):
        closing, may_close = asyncio.Event(), asyncio.Event()

        async def close(self, code: int = 1000, reason: str | None = None) -> None:
            self.closing.set()
            await self.may_close.wait()
            await super().close(code, reason)

    manager, websocket = ConnectionManager(), Slow()
    serving = asyncio.create_task(manager.run(websocket), name="endpoint")
    await eventually(lambda: websocket.sent, "it is greeted")
    (client,) = manager.hub.clients.values()
    manager.hub.abort(client)
    await websocket.closing.wait()
    manager.hub.evict(client, 4401, "token expired")
    websocket.may_close.set()
    await serving
    assert websocket.closed == 1011


@pytest.mark.filterwarnings("ignore:Using `httpx` with")
def test_starlettes_test_client_is_served() -> None:
    """A host's tests need no server: no transport is there, and frames come all the same."""
    from starlette.testclient import TestClient

    manager = ConnectionManager()

    async def live(websocket: WebSocket) -> None:
        await manager.run(websocket)

    with TestClient(Starlette(routes=[WebSocketRoute("/live", live)])) as client:
        with client.websocket_connect("/live") as websocket:
            assert websocket.receive_json()["type"] == "connection_established"
            websocket.send_json({"type": "ping", "data": {"timestamp": 1}})
            assert websocket.receive_json() == {"type": "pong", "data": {"timestamp": 1}}
    assert not manager.active_connections


@pytest.mark.parametrize(
    ("offered", "answered"),
    [(["conv_realtime", "bearer.x"], "conv_realtime"), (["chat"], None), (None, None)],
)
async def test_an_endpoint_of_the_hosts_own_answers_our_subprotocol(
    offered: Any, answered: str | None
) -> None:
    """A browser that offers it, as our client does with a token, connects to nothing else."""
    from websockets.asyncio.client import connect

    manager = ConnectionManager()

    async def live(websocket: WebSocket) -> None:
        await manager.run(websocket)

    async with serve(Starlette(routes=[WebSocketRoute("/live", live)])) as server:
        url = f"ws://127.0.0.1:{server.port}/live"
        async with connect(url, subprotocols=offered) as websocket:
            assert websocket.subprotocol == answered
            assert json.loads(await websocket.recv())["type"] == "connection_established"


async def test_a_relay_mounts_under_a_path() -> None:
    """Mounted at /live it serves /live/ws and /live/healthz."""
    import httpx
    from starlette.routing import Mount
    from websockets.asyncio.client import connect

    feed = LocalFeed(settings())
    relay = Relay(feed=feed, settings=settings())
    app = Starlette(routes=[Mount("/live", relay.app)], lifespan=relay.lifespan)
    async with serve(app) as server, httpx.AsyncClient() as http:
        assert (await http.get(server.http + "/live/healthz")).json()["status"] == "ok"
        async with connect(f"ws://127.0.0.1:{server.port}/live/ws") as websocket:
            assert json.loads(await websocket.recv())["type"] == "connection_established"
            # Mounted too, frames go straight to the transport.
            (client,) = relay.manager.hub.clients.values()
            assert client.wire is not None
