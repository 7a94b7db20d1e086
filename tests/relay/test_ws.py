"""`/ws` over real sockets: what a client sees of the protocol."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette

from conv_realtime.events import DATA_TYPES, parse_event
from conv_realtime.models import Conversation, Message
from conv_realtime.relay import LocalFeed, Relay
from tests.project import Owner, SupabaseProject
from tests.relay.rows import changed, conversation, created, message, project
from tests.relay.serving import Served, eventually, serve, settings
from tests.relay.test_supabase_feed import client_of, write


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
        assert json.loads(parse_event(json.dumps(frame)).to_json()) == frame
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


@pytest.mark.parametrize("forgets", [False, True])
async def test_who_comes_back_hears_nothing_of_what_was_forgotten_meanwhile(forgets: bool) -> None:
    """Neither from the relay's memory nor from the feed's: it is gone, and others are there."""
    talk, other = conversation(title="a secret"), conversation("two")
    async with Served.run() as served:
        hub = served.relay.manager.hub
        start = hub.log.cursor
        served.feed.publish(created(talk, other, message("a secret", of=talk)))
        served.feed.publish(created(message("harmless", of=other)))
        gone = talk.model_copy(update={"revision": 9, "deleted_at": talk.updated_at})
        served.feed.publish(changed(gone))
        if forgets:
            hub.log.forget_marks()
        async with served.client() as client:
            await client.say("subscribe", {"since": start})
            await client.got("subscribed")
            frames = await client.sync()
    told = {frame["type"] for frame in frames}
    assert told == {"new_conversation", "new_message", "conversation_deleted"}
    assert "secret" not in json.dumps(frames) and "harmless" in json.dumps(frames)


async def test_who_follows_a_project_hears_of_what_has_lost_its_project() -> None:
    """A forgotten row says no more where it was; a relay that never knew tells whoever may see."""
    gone = conversation(revision=2, project_id=None, deleted_at="2026-01-02T03:04:05Z")
    async with Served.run() as served, served.client() as client:
        await client.say("subscribe", {"projects": [str(project().id)]})
        await client.got("subscribed")
        served.feed.publish(changed(gone, conversation("two", project_id=None)))
        assert [frame["type"] for frame in await client.sync()] == ["conversation_deleted"]


@pytest.mark.parametrize(("stay", "remembers"), [(3, True), (30, False)])
async def test_who_never_stays_for_a_page_gets_through_it(
    stay: int, remembers: bool, supabase: SupabaseProject, member: Owner
) -> None:
    """A thousand rows of one transaction, some at a time, each once: from memory, or read anew."""
    me = UUID(member.id)
    talk = conversation(owner=me)
    rows = [message(str(number), number, of=talk) for number in range(1, 1001)]
    chosen = settings(
        supabase_url=supabase.url,
        supabase_key=SecretStr(supabase.secret_key),
        replay_events=2000 if remembers else 1,
    )
    async with Relay(settings=chosen) as relay, client_of(supabase, supabase.secret_key) as writer:
        await write(writer, project(owner=me), talk)
        log = relay.manager.hub.log
        async with serve(Starlette(routes=relay.routes)) as server:
            wanted = {"conversations": [str(talk.id)], "types": ["new_message"]}
            await eventually(lambda: log.head >= 2, "the beginning is there")
            cursor, texts = log.cursor, list[str]()
            by_id = sorted((row.to_row() for row in rows), key=lambda row: str(row["id"]))
            upsert = writer.table("messages").upsert(by_id, on_conflict="id,owner_id")
            await upsert.execute()
            await eventually(lambda: log.head >= 1002, "all is there")
            while len(texts) < 1000:
                async with server.client() as client:
                    await client.say("subscribe", {**wanted, "since": cursor})
                    await client.got("subscribed")
                    for _ in range(min(stay, 1000 - len(texts))):
                        data = await client.got("new_message")
                        texts.append(data["text"])
                        cursor = data["cursor"]
                    client.connection.transport.abort()
    assert texts == [row.text for row in rows]


@pytest.mark.parametrize("timestamp", [1, 1.5, "x", None, [1], {"a": 1}, 12345678901234567890123])
async def test_ping_gets_its_timestamp_back(timestamp: object) -> None:
    """A pong carries the client's timestamp in its own JSON type."""
    async with Served.run() as served, served.client() as client:
        await client.say("ping", {"timestamp": timestamp})
        data = await client.got("pong")
    assert data == {"timestamp": timestamp}
    assert type(data["timestamp"]) is type(timestamp)


async def test_the_older_form_has_a_timestamp_beside() -> None:
    """With ?timestamp=1 every frame has a third field, in milliseconds."""
    async with Served.run() as served, served.client("?timestamp=1") as client:
        served.feed.publish(created(conversation()))
        await client.say("ping", {"timestamp": 1})
        frames = await client.until("pong")
    assert {frame["type"] for frame in frames} >= {"connection_established", "pong"}
    assert all(set(frame) == {"type", "data", "timestamp"} for frame in frames)
    assert all(isinstance(frame["timestamp"], int) for frame in frames)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("{", "invalid_json"),
        ("[1]", "invalid_message"),
        ('{"data": {}}', "invalid_message"),
        ('{"type": 1}', "invalid_message"),
        ('{"type": "nonsense"}', "unknown_type"),
        ('{"type": "nonsense", "data": []}', "unknown_type"),
        ('{"type": "subscribe", "data": []}', "invalid_data"),
        ('{"type": "subscribe", "data": {"conversations": ["x"]}}', "invalid_data"),
        ('{"type": "subscribe", "data": {"types": ["nonsense"]}}', "invalid_data"),
        ('{"type": "subscribe", "data": {"snapshot": -1}}', "invalid_data"),
        ('{"type": "subscribe", "data": {"snapshot": "yes"}}', "invalid_data"),
        ("[" * 60000, "invalid_json"),
    ],
)
async def test_a_bad_frame_is_answered_and_the_connection_lives_on(frame: str, code: str) -> None:
    """An error names what was wrong, and the next frame is served as before."""
    async with Served.run() as served, served.client() as client:
        await client.connection.send(frame)
        assert (await client.got("error"))["code"] == code
        await client.sync()


async def test_a_filter_lets_through_what_it_names_and_nothing_else() -> None:
    """Types, conversations and projects are ANDed; the answer is a barrier."""
    one, two = conversation("one"), conversation("two")
    async with Served.run() as served, served.client() as client:
        await client.next()
        served.feed.publish(created(two))
        wanted = {"conversations": [str(one.id)], "types": ["new_message"], "unknown": 1}
        await client.say("subscribe", wanted)
        before = await client.until("subscribed")
        assert [frame["type"] for frame in before] == ["new_conversation", "subscribed"]
        assert before[-1]["data"]["filter"]["conversations"] == [str(one.id)]
        served.feed.publish(created(one, two, message(of=two), message("mine", of=one)))
        frames = await client.sync()
    assert [frame["data"]["text"] for frame in frames] == ["mine"]


async def test_unsubscribe_excludes_ids_or_ends_everything() -> None:
    """With ids those are left out; with nothing no data event follows."""
    one, two = conversation("one"), conversation("two")
    async with Served.run() as served, served.client() as client:
        await client.say("unsubscribe", {"conversations": [str(one.id)]})
        await client.got("unsubscribed")
        served.feed.publish(created(one, two))
        assert [frame["data"]["title"] for frame in await client.sync()] == ["two"]
        await client.say("unsubscribe")
        assert (await client.got("unsubscribed"))["subscriptions"] == []
        served.feed.publish(changed(one, two))
        assert await client.sync() == []


async def test_excluded_ids_are_bounded() -> None:
    """A client that excludes ever more ids is told so; what it had excluded stays."""
    async with Served.run() as served, served.client() as client:
        await client.got("connection_established")
        answers = []
        for frame in range(8):
            ids = [str(UUID(int=frame * 1500 + n)) for n in range(1500)]
            await client.say("unsubscribe", {"conversations": ids})
            answers.append((await client.next())["type"])
        await client.sync()
    assert answers == ["unsubscribed"] * 6 + ["error"] * 2


async def test_a_project_filter_knows_a_message_by_its_conversation() -> None:
    """A message has no project of its own; its conversation's decides."""
    mine, other = conversation("one"), conversation("two", project_id=project("/else").id)
    async with Served.run() as served, served.client() as client:
        served.feed.publish(created(mine, other))
        await client.say("subscribe", {"projects": [str(mine.project_id)]})
        await client.got("subscribed")
        served.feed.publish(created(message("a", of=mine), message("b", of=other)))
        assert [frame["data"]["text"] for frame in await client.sync()] == ["a"]


async def test_file_updates_are_for_who_asks() -> None:
    """Only a client that names the type hears of files."""
    async with Served.run() as served, served.client() as one, served.client() as two:
        await two.say("subscribe", {"types": ["file_update"]})
        await two.got("subscribed")
        served.feed.file_changed("/x.jsonl", "created", 10)
        assert (await two.got("file_update")) == {
            "path": "/x.jsonl",
            "change": "created",
            "size": 10,
        }
        assert [frame["type"] for frame in await one.sync()] == ["connection_established"]


async def test_since_replays_what_was_missed() -> None:
    """Who goes on from a cursor gets every later event once, then live ones."""
    async with Served.run() as served:
        async with served.client() as client:
            await client.next()
            served.feed.publish(created(message("1", 1)))
            cursor = (await client.got("new_message"))["cursor"]
        served.feed.publish(created(message("2", 2), message("3", 3)))
        async with served.client() as client:
            await client.next()
            await client.say("subscribe", {"since": cursor})
            await client.got("subscribed")
            served.feed.publish(created(message("4", 4)))
            texts = [frame["data"]["text"] for frame in await client.sync()]
    assert texts == ["2", "3", "4"]


@pytest.mark.parametrize("cursor", ["", "x", "other.1", "{stream}.7", "{stream}.99"])
async def test_a_cursor_that_is_not_covered_gets_resync(cursor: str) -> None:
    """Foreign, future and too old cursors are answered with where to go on from."""
    async with Served.run(replay_events=3) as served, served.client() as client:
        established = (await client.next())["data"]["cursor"]
        stream = established.split(".")[0]
        served.feed.publish(created(*(message(str(n), n) for n in range(1, 12))))
        await client.say("subscribe", {"since": cursor.format(stream=stream)})
        data = await client.got("resync")
        assert data == {"reason": "unknown_cursor", "cursor": f"{stream}.11"}
        await client.say("subscribe", {"since": f"{stream}.8"})
        await client.got("subscribed")
        assert len(await client.sync()) == 3


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


class Files:
    """The state of two conversations, as ingest would tell it."""

    def __init__(self, *talks: Conversation) -> None:
        self.talks = talks

    async def conversations(self) -> Sequence[Conversation]:
        """Return them."""
        return self.talks

    async def messages(self, conversation: UUID, last: int) -> Sequence[Message]:
        """Return up to `last` of twenty long messages."""
        (talk,) = (talk for talk in self.talks if talk.id == conversation)
        return [message("x" * 100_000, n, of=talk) for n in range(21 - last, 21)]


async def test_a_snapshot_comes_in_frames_before_later_events() -> None:
    """The last n messages of each selected conversation, at most 512 KB a frame."""
    one, two = conversation("one"), conversation("two")
    async with Served.run() as served, served.client() as client:
        served.feed.attach(Files(one, two))
        served.feed.publish(created(message("before", 99)))
        await client.say("subscribe", {"conversations": [str(one.id)], "snapshot": 12})
        await client.got("subscribed")
        served.feed.publish(created(message("later", 100, of=one)))
        frames = await client.sync()
    parts, events = frames[:-1], frames[-1:]
    assert [frame["type"] for frame in parts] == ["snapshot"] * 3
    assert [frame["data"]["more"] for frame in parts] == [True, True, False]
    assert all(len(json.dumps(frame)) <= 512 * 1024 for frame in parts)
    rows = [row for frame in parts for row in frame["data"]["messages"]]
    assert [row["seq"] for row in rows] == list(range(9, 21))
    assert [row["id"] for f in parts for row in f["data"]["conversations"]] == [str(one.id)]
    assert events[0]["data"]["text"] == "later"


async def test_relays_accept_each_others_cursors(supabase: SupabaseProject, member: Owner) -> None:
    """A client that comes back to another relay of the same Supabase misses nothing."""
    me = UUID(member.id)
    talk = conversation(owner=me)
    chosen = settings(
        supabase_url=supabase.url,
        supabase_key=SecretStr(supabase.secret_key),
        reconcile_interval=60.0,
    )
    wanted = {"conversations": [str(talk.id)], "types": ["new_message"]}
    async with AsyncExitStack() as stack:
        relays = [Relay(settings=chosen) for _ in range(2)]
        servers = [
            await stack.enter_async_context(
                serve(Starlette(routes=relay.routes, lifespan=relay.lifespan))
            )
            for relay in relays
        ]
        writer = await stack.enter_async_context(client_of(supabase, supabase.secret_key))
        async with servers[0].client() as client:
            cursor = (await client.got("connection_established"))["cursor"]
            await client.say("subscribe", wanted)
            await client.got("subscribed")
            await write(writer, project(owner=me), talk, message("1", 1, of=talk))
            assert (await client.got("new_message"))["text"] == "1"
        await write(writer, message("2", 2, of=talk))
        for server in servers:
            async with server.client() as client:
                await client.say("subscribe", {**wanted, "since": cursor})
                await client.got("subscribed")
                assert (await client.got("new_message"))["text"] == "1"
                assert (await client.got("new_message"))["text"] == "2"


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
