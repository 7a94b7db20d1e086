"""`/ws` over real sockets: what a client hears, and how a connection ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from conv_realtime.core.following import read_event
from conv_realtime.events import DATA_TYPES
from conv_realtime.ports import Page, SnapshotPart
from conv_realtime.relay import LocalFeed, Relay
from tests.relay.rows import changed, conversation, created, message, project
from tests.relay.serving import Served, eventually, serve, settings


async def test_the_first_frame_says_who_and_what() -> None:
    """A new client gets every type but file_update, a cursor and its id."""
    async with Served.run() as served, served.client() as client:
        frame = await client.next()
    assert set(frame) == {"type", "data"}
    assert frame["type"] == "connection_established"
    assert frame["data"]["subscriptions"] == [t for t in DATA_TYPES if t != "file_update"]
    assert frame["data"]["filter"] == {"conversations": None, "projects": None}
    assert frame["data"]["cursor"].endswith(".0")


async def test_changes_arrive_in_order_and_parse_as_events() -> None:
    """Rows of each table arrive as the documented events, in the order of publishing."""
    talk = conversation()
    async with Served.run() as served, served.client() as client:
        await client.next()
        served.feed.publish(created(project(), talk, message(of=talk)))
        served.feed.publish(changed(message("hello there", of=talk), conversation(revision=2)))
        frames = [await client.next() for _ in range(5)]
    assert [frame["type"] for frame in frames] == [
        "project_update",
        "new_conversation",
        "new_message",
        "message_update",
        "conversation_update",
    ]
    for frame in frames:
        event = read_event(json.dumps(frame))
        assert event is not None and json.loads(event.to_json()) == frame
    assert frames[2]["data"]["conversation"]["title"] == "one"


async def test_a_message_taken_back_is_message_deleted() -> None:
    """A row with deleted_at is told by id alone."""
    gone = message(deleted_at="2026-01-02T03:04:05Z")
    async with Served.run() as served, served.client() as client:
        await client.next()
        served.feed.publish(changed(gone))
        frame = await client.next()
    assert frame["type"] == "message_deleted"
    assert set(frame["data"]) == {"id", "conversation_id", "revision", "cursor"}


async def test_a_conversation_that_is_gone_is_conversation_deleted() -> None:
    """By id alone, to who follows it or its project; others and other types hear nothing."""
    talk, gone = conversation(), conversation(revision=2, project_id=None, title="a secret")
    gone = gone.model_copy(update={"deleted_at": gone.updated_at})
    elsewhere = str(project("/else").id)
    wanted: list[dict[str, Any]] = [
        {}, {"conversations": [str(talk.id)]}, {"projects": [str(talk.project_id)]},
    ]  # fmt: skip
    unwanted = [{"projects": [elsewhere]}, {"types": ["conversation_update"]}]
    async with Served.run() as served, AsyncExitStack() as stack:
        served.feed.publish(created(talk))
        clients = []
        for data in (*wanted, *unwanted):
            client = await stack.enter_async_context(served.client())
            await client.say("subscribe", data)
            await client.got("subscribed")
            clients.append(client)
        served.feed.publish(changed(gone))
        for client in clients[: len(wanted)]:
            (frame,) = await client.sync()
            assert frame["type"] == "conversation_deleted"
            assert frame["data"] | {"cursor": ""} == {
                "id": str(talk.id), "revision": 2, "cursor": ""
            }  # fmt: skip
        for client in clients[len(wanted) :]:
            assert await client.sync() == []


async def test_a_large_message_is_cut_to_half_a_megabyte() -> None:
    """Content goes first, then the end of the text; the frame says so."""
    async with Served.run() as served, served.client() as client:
        await client.next()
        served.feed.publish(created(message("\x01é" * 400_000, content=["x" * 10])))
        data = await client.got("new_message")
        size = len(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode())
        assert data["truncated"] and data["content"] is None
        assert 500 * 1024 < size + 40 <= 512 * 1024
        served.feed.publish(created(message("é" * 100_000, 2, content=["y" * 200_000])))
        whole = await client.got("new_message")
        assert whole["content"] == ["y" * 200_000] and not whole["truncated"]


async def test_frames_over_64_kib_close_with_1009() -> None:
    """A giant request ends the connection."""
    async with Served.run() as served, served.client() as client:
        await client.connection.send("x" * 65537)
        assert await client.closed() == 1009


async def test_a_flood_closes_with_1008() -> None:
    """More frames than anybody needs end the connection."""
    async with Served.run() as served, served.client() as client:
        with pytest.raises(Exception, match="1008"):
            for _ in range(20_000):
                await client.connection.send('{"type":"pong"}')
            await client.closed()
            await client.connection.send("x")
        assert client.connection.close_code == 1008


async def test_shutdown_is_announced_and_closes_with_1012() -> None:
    """A client hears server_shutdown before the close frame."""
    async with Served.run() as served:
        async with served.client() as client:
            await client.next()
            served.server.server.should_exit = True
            assert await client.got("server_shutdown") == {"reconnect_after_ms": 1000}
            assert await client.closed() == 1012


@pytest.mark.parametrize("asked", [{"snapshot": True}, {"since": "an.other"}])
async def test_a_server_that_stops_waits_for_no_answer_of_the_feed(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A client whose answer does not come is told, too, and the server ends without an error."""

    async def never(*args: Any) -> Page:
        return await asyncio.Future[Page]()

    async def none(feed: LocalFeed, **selection: Any) -> AsyncIterator[SnapshotPart]:
        await never()
        yield SnapshotPart((), (), "")

    monkeypatch.setattr(LocalFeed, "since", never)
    monkeypatch.setattr(LocalFeed, "snapshot", none)
    async with Served.run({"timeout_graceful_shutdown": None}) as served:
        async with served.client() as client:
            await client.say("subscribe", asked)
            await client.got("subscribed")
            served.server.server.should_exit = True
            assert await client.got("server_shutdown") == {"reconnect_after_ms": 1000}
            assert await client.closed() == 1012
        await eventually(lambda: not served.relay.manager.active_connections, "it is forgotten")
    assert [record.getMessage() for record in caplog.records] == []


async def test_a_closed_client_is_forgotten() -> None:
    """The manager counts connections that are there, and no others."""
    async with Served.run() as served:
        async with served.client() as client:
            id = (await client.next())["data"]["client_id"]
            assert list(served.relay.manager.active_connections) == [id]
        await eventually(lambda: not served.relay.manager.active_connections, "it is forgotten")


async def test_healthz_tells_local_peers_the_details() -> None:
    """Loopback sees state and clients; a forwarded request only the word."""
    async with Served.run() as served, served.client() as client, httpx.AsyncClient() as http:
        await client.next()
        answer = await http.get(served.server.http + "/healthz")
        assert answer.status_code == 200
        assert answer.json()["status"] == "ok"
        assert answer.json()["clients"] == 1
        assert answer.json()["feed"]["kind"] == "local"
        forwarded = await http.get(
            served.server.http + "/healthz", headers={"X-Forwarded-For": "203.0.113.1"}
        )
        assert forwarded.json() == {"status": "ok"}


async def test_a_hosts_middleware_sees_every_frame() -> None:
    """Where `send` is wrapped by others, frames go through it, in the same order."""
    chosen = settings()
    feed = LocalFeed(chosen)
    relay = Relay(feed=feed, settings=chosen)
    app = Starlette(routes=relay.routes, lifespan=relay.lifespan)
    seen: list[str] = []

    async def watching(scope: Any, receive: Any, send: Any) -> None:
        async def watched(event: Any) -> None:
            seen.append(event["type"])
            await send(event)

        await app(scope, receive, watched if scope["type"] == "websocket" else send)

    async with serve(watching) as server, server.client() as client:
        await client.next()
        (connected,) = relay.manager.hub.clients.values()
        assert connected.wire is None
        feed.publish(created(*(message(str(n), n) for n in range(50))))
        assert [frame["data"]["seq"] for frame in await client.sync()] == list(range(50))
    assert seen.count("websocket.send") == 52
