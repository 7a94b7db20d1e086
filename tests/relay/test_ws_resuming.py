"""`/ws` over real sockets: cursors, replays and snapshots, for who comes back and who is new."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr
from starlette.applications import Starlette

from conv_realtime.errors import StoreError
from conv_realtime.models import Conversation, Message
from conv_realtime.ports import Page, SnapshotPart
from conv_realtime.relay import Relay, replay
from tests.project import Owner, SupabaseProject
from tests.relay.rows import changed, conversation, created, message, project
from tests.relay.serving import Served, eventually, serve, settings
from tests.relay.test_supabase_feed import client_of, write


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


@pytest.mark.parametrize("cursor", ["", "x", "other.1", "other.9", "{stream}.7", "{stream}.99"])
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


async def test_what_cannot_be_read_now_is_told_to_the_client_and_to_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client is told what to do about it, and whoever runs the relay why."""
    away = StoreError("changes_since", "ConnectError", "no answer", retryable=True)

    async def since(cursor: str, limit: int = 500) -> Page:
        raise away

    async def snapshot(**_: Any) -> AsyncIterator[SnapshotPart]:
        raise away
        yield

    caplog.set_level(logging.INFO, "conv_realtime")
    async with Served.run() as served, served.client() as client:
        monkeypatch.setattr(served.feed, "since", since)
        monkeypatch.setattr(served.feed, "snapshot", snapshot)
        await client.say("subscribe", {"since": "other.1"})
        assert (await client.got("resync"))["reason"] == "unavailable"
        await client.say("subscribe", {"snapshot": True})
        assert (await client.got("error"))["code"] == "unavailable"
    why = "changes_since: ConnectError: no answer"
    told = [text.partition(" gets ")[2] for text in caplog.messages]
    assert f"resync: {why}" in told and f"no snapshot: {why}" in told


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
            hub.log.begin_anew()
        async with served.client() as client:
            await client.say("subscribe", {"since": start})
            await client.got("subscribed")
            frames = await client.sync()
    told = {frame["type"] for frame in frames}
    assert told == {"new_conversation", "new_message", "conversation_deleted"}
    assert "secret" not in json.dumps(frames) and "harmless" in json.dumps(frames)


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


@pytest.mark.parametrize(("talks", "messages", "most"), [(1000, 0, 100), (1, 20, 8)])
async def test_a_large_snapshot_leaves_others_their_turns(
    talks: int, messages: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However fast its client reads: only some of the rows are made in one turn of the loop."""
    loop, made, ended = asyncio.get_running_loop(), [0], False

    def turn() -> None:
        made.append(0)
        if not ended:
            loop.call_soon(turn)

    for name in ("conversation_data", "message_data"):
        make = getattr(replay, name)

        def counted(row: Any, cursor: str, make: Any = make) -> Any:
            made[-1] += 1
            return make(row, cursor)

        monkeypatch.setattr(replay, name, counted)
    async with Served.run() as served, served.client() as client:
        served.feed.attach(Files(*(conversation(str(number)) for number in range(talks))))
        turn()
        await client.say("subscribe", {"snapshot": messages})
        while (await client.got("snapshot"))["more"]:
            pass
        ended = True
    assert sum(made) == talks + messages
    assert max(made) <= most


async def test_a_title_of_megabytes_fits_into_a_frame() -> None:
    """What somebody wrote by hand into their rows ends nobody's connection."""
    talk = conversation("one", title="x" * 1_000_000)
    async with Served.run() as served, served.client() as client:
        served.feed.attach(Files(talk))
        await client.say("subscribe", {"snapshot": 0})
        await client.got("subscribed")
        served.feed.publish(changed(talk))
        frames = await client.sync()
    assert [frame["type"] for frame in frames] == ["snapshot", "conversation_update"]
    assert all(len(json.dumps(frame)) <= 512 * 1024 for frame in frames)


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
