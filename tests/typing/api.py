"""The public API as a type checker sees it. Checked by mypy, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, assert_type
from uuid import UUID

from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.websockets import WebSocket

from conv_realtime import (
    Bridge,
    ConfigError,
    ConnectionManager,
    Event,
    Feed,
    Ingest,
    Live,
    LocalFeed,
    NewMessage,
    Relay,
    Rows,
    Settings,
    Store,
    SupabaseFeed,
    SupabaseStore,
    connect,
    conversation_id,
    message_id,
    project_id,
    testing,
)

bridge = Bridge(paths=["~/.claude/projects", Path("/transcripts")], machine="laptop")
assert_type(bridge.routes, list[BaseRoute])
application = Starlette(lifespan=bridge.lifespan, routes=bridge.routes)
application.mount("/live", bridge.app)


@bridge.on("new_message", role="assistant")
async def notify(event: NewMessage) -> None:
    assert_type(event.data.text, str)
    assert_type(event.data.conversation_id, UUID)


async def follow() -> None:
    async with bridge as entered:
        assert_type(entered, Bridge)
        async for event in bridge.events(since="stream.1"):
            frame: str = event.to_json()
            assert frame
            if event.type == "new_message":
                assert_type(event, NewMessage)


async def fresh_token() -> str:
    return "token"


async def follow_from_afar(id: UUID) -> None:
    rows = Rows(messages=200)
    wanted = {"conversations": [id], "snapshot": 200}
    async with connect("wss://host/ws", token=fresh_token, subscribe=wanted) as live:
        assert_type(live, Live)
        await live.subscribe({"types": ["new_message"]})
        async for event in live:
            rows.apply(event)
            assert_type(live.cursor, str | None)
            if event.type == "new_message":
                assert_type(event, NewMessage)
    assert_type([row.text for row in rows.messages(id)], list[str])


async def write_only(store: Store) -> None:
    async with Ingest(store=store, paths=[Path("/transcripts")]) as ingest:
        summary = await ingest.backfill([Path("/transcripts")])
        assert_type(summary.messages, int)
        await ingest.run()


async def look_after(ingest: Ingest, id: UUID) -> None:
    assert_type([letter.reason for letter in await ingest.retry([id])], list[str])
    assert_type(ingest.discard(), int)
    await ingest.forget([id])
    different = [found async for found in ingest.verify() if found.state == "different"]
    assert_type(different[0].differences, Sequence[str])
    await ingest.repair(different)
    assert_type(bridge.health(), tuple[int, dict[str, Any]])


async def read_only(feed: Feed) -> AsyncIterator[Event]:
    async with Relay(feed=feed, settings=Settings.load()) as relay:
        assert_type(relay.manager, ConnectionManager)
        async for event in relay.events():
            yield event


async def own_endpoint(manager: ConnectionManager, websocket: WebSocket, event: Event) -> None:
    client: str = await manager.connect(websocket)
    assert_type(await manager.broadcast(event), int)
    await manager.send(client, event)
    manager.disconnect(client)
    await manager.run(websocket)


def stores_and_feeds(local: LocalFeed, supabase: SupabaseFeed, store: SupabaseStore) -> None:
    feeds: list[Feed] = [local, supabase]
    stores: list[Store] = [store, testing.MemoryStore()]
    assert feeds and stores


def identity(owner: UUID) -> None:
    conversation = conversation_id(owner, "claude_code", "laptop", "session")
    assert_type(message_id(conversation, "msg_1"), UUID)
    assert_type(project_id(owner, "laptop", "/project"), UUID)
    assert_type(ConfigError("paths", "name one").name, str)


async def in_a_users_test() -> None:
    tested: AbstractAsyncContextManager[testing.TestBridge] = testing.bridge()
    async with tested as b:
        b.append(testing.claude_line("hi"))
        event = await b.next("new_message")
        assert event.data.text == "hi"


async def own_tests(supabase_local: testing.SupabaseLocal) -> None:
    """The pytest fixture, and the same without pytest."""
    assert_type(supabase_local.url, str)
    assert_type(supabase_local.token(sub=UUID(int=1), plan="pro"), str)
    faults = supabase_local.faults
    with faults.answer(503, times=1, retry_after=1.5) as fault:
        assert_type(fault, testing.Fault)
        assert_type(fault.hits, int)
    assert_type(faults.drop_sockets("room"), int)
    async with faults.postgres_down(kill=True):
        pass
    async with testing.supabase_local(migrations="supabase/migrations") as one:
        assert_type(one, testing.SupabaseLocal)
    with testing.SupabaseServer() as server, server.project(schema=False) as other:
        assert_type(other, testing.SupabaseLocal)
