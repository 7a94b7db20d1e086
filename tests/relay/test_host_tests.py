"""What the tests of a host do: fake WebSockets, and one application in several event loops."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from unittest.mock import AsyncMock

import pytest
from starlette.applications import Starlette
from starlette.websockets import WebSocket

from conv_realtime import Bridge, ConnectionManager, LocalFeed, NewMessage, Relay, testing
from conv_realtime.testing import SESSION, claude_line
from tests.relay.hosted import FakeWebSocket, event
from tests.relay.rows import created, message
from tests.relay.serving import settings

pytestmark = pytest.mark.filterwarnings("ignore:Using `httpx` with")


async def test_what_is_sent_to_one_that_takes_it_is_there_at_once() -> None:
    """Each call returns behind the frame, as in a manager that awaits every client."""
    manager, websocket = ConnectionManager(), FakeWebSocket()
    id = await manager.connect(websocket)
    assert websocket.types == ["connection_established"]
    await manager.broadcast(event())
    await manager.send(id, event())
    assert websocket.types == ["connection_established", "new_message", "new_message"]
    manager.disconnect(id)


async def test_one_that_takes_nothing_is_not_waited_for() -> None:
    """It is connected all the same, and reads later."""
    manager, websocket = ConnectionManager(), FakeWebSocket()
    websocket.reading.clear()
    async with asyncio.timeout(20):
        id = await manager.connect(websocket)
    assert list(manager.active_connections) == [id] and websocket.sent == []
    manager.disconnect(id)


async def test_who_is_cancelled_while_connecting_leaves_nobody_behind() -> None:
    """No client stays that nobody has an id of."""
    manager, websocket = ConnectionManager(), FakeWebSocket()
    connecting = asyncio.create_task(manager.connect(websocket), name="connecting")
    await asyncio.sleep(0)
    assert manager.active_connections
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    assert not manager.active_connections


@pytest.mark.parametrize("spec", [None, WebSocket])
async def test_a_mock_can_be_connected(spec: type | None) -> None:
    """Whatever it answers to, it is no server's protocol."""
    manager, websocket = ConnectionManager(), AsyncMock(spec=spec)
    id = await manager.connect(websocket)
    websocket.accept.assert_awaited_once_with()
    (text,) = websocket.send_text.await_args.args
    assert json.loads(text)["data"]["client_id"] == id
    manager.disconnect(id)


def test_one_application_runs_in_several_event_loops(tmp_path: Path) -> None:
    """Each test of a host begins the same application anew: bridge, handlers and clients work."""
    from starlette.testclient import TestClient

    heard: list[str] = []
    folder = tmp_path / "projects"
    folder.mkdir()
    bridge = Bridge(
        [folder], store=testing.MemoryStore(), state_dir=tmp_path / "s", owner_id=testing.OWNER
    )

    @bridge.on("new_message")
    async def note(event: NewMessage) -> None:
        heard.append(event.data.text)

    app = Starlette(routes=bridge.routes, lifespan=bridge.lifespan)
    for text in ("one", "two"):
        with TestClient(app) as client, client.websocket_connect("/ws") as websocket:
            assert websocket.receive_json()["type"] == "connection_established"
            with (folder / f"{SESSION}.jsonl").open("ab") as file:
                file.write(claude_line(text))
            while (frame := websocket.receive_json())["type"] != "new_message":
                pass
            assert frame["data"]["text"] == text
            while text not in heard:
                websocket.send_json({"type": "ping"})
                websocket.receive_json()
    assert heard == ["one", "two"]


async def test_what_came_between_two_lives_of_a_relay_is_not_skipped() -> None:
    """Whoever goes on from a cursor of the first hears it in the second."""
    feed = LocalFeed(settings())
    relay = Relay(feed=feed, settings=settings())
    async with relay:
        feed.publish(created(message("told")))
        cursor = relay.manager.hub.log.cursor
    feed.publish(created(message("missed", 2)))
    async with relay, asyncio.timeout(20):
        async for found in relay.events(cursor):
            assert isinstance(found, NewMessage) and found.data.text == "missed"
            break
