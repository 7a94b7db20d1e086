"""`/ws` over real sockets: what clients may ask for, and frames that ask for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from conv_realtime.ports import SnapshotPart
from conv_realtime.relay.hub import ANSWER_BYTES
from tests.relay.raw import TEXT, Raw, masked
from tests.relay.rows import changed, conversation, created, message, project
from tests.relay.serving import Served, eventually


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


@pytest.mark.parametrize("asked", ["yes", 1.5, [1]])
async def test_what_a_snapshot_may_be_is_told_in_one_sentence(asked: object) -> None:
    """It names the field as the page does, and none of the types that it is tried as."""
    async with Served.run() as served, served.client() as client:
        await client.say("subscribe", {"snapshot": asked})
        said = (await client.got("error"))["message"]
    assert said == "snapshot: true, false or a number of messages"


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


async def test_who_follows_a_project_hears_of_what_has_lost_its_project() -> None:
    """A forgotten row says no more where it was; a relay that never knew tells whoever may see."""
    gone = conversation(revision=2, project_id=None, deleted_at="2026-01-02T03:04:05Z")
    async with Served.run() as served, served.client() as client:
        await client.say("subscribe", {"projects": [str(project().id)]})
        await client.got("subscribed")
        served.feed.publish(changed(gone, conversation("two", project_id=None)))
        assert [frame["type"] for frame in await client.sync()] == ["conversation_deleted"]


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


async def test_what_somebody_asked_for_who_is_sent_away_is_not_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It waits in the server: each snapshot would be read from the database, for nobody."""
    asked, answered = 0, asyncio.Event()

    async def snapshot(**_: Any) -> AsyncIterator[SnapshotPart]:
        nonlocal asked
        asked += 1
        await answered.wait()
        yield SnapshotPart((), (), "s.1")

    async with Served.run() as served:
        monkeypatch.setattr(served.feed, "snapshot", snapshot)
        hub = served.relay.manager.hub
        async with Raw.upgraded(served.server.port) as raw:
            # In one piece: the server reads no further while a request waits.
            await raw.send(masked(TEXT, b'{"type":"subscribe","data":{"snapshot":1}}') * 3)
            await eventually(lambda: asked, "the first one is answered")
            (there,) = hub.clients.values()
            hub.evict(there, 4401, "token expired")
            answered.set()
        connections = served.server.server.server_state.connections
        await eventually(lambda: not connections, "all that it asked for is done")
    assert asked == 1


async def test_who_leaves_with_answers_unread_is_forgotten_at_once() -> None:
    """And not only when it has not answered two pings."""
    question = masked(TEXT, b'{"type":"ping","data":{"timestamp":"%s"}}' % (b"x" * 60_000))
    async with Served.run() as served:
        hub = served.relay.manager.hub
        async with Raw.upgraded(served.server.port) as raw:
            await eventually(lambda: hub.clients, "it is connected")
            (there,) = hub.clients.values()
            while there.answer_bytes <= ANSWER_BYTES:
                await raw.send(question)
                await asyncio.sleep(0.001)
        await eventually(lambda: not hub.clients, "it is forgotten")
