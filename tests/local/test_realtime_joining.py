"""Joining and leaving channels of the Realtime server, frame by frame, and frames that are none."""

from __future__ import annotations

from typing import Any

import pytest

from conv_realtime.local import LocalSupabase
from tests.local.realtime_client import socket
from tests.local.rooms import fresh


async def test_joining_twice_answers_the_new_join_and_then_closes_the_old(
    local_supabase: LocalSupabase,
) -> None:
    """The close names the old ref; a frame with the stale join_ref is ignored."""
    name = fresh()
    async with socket(local_supabase) as member:
        first, _ = await member.join(name, broadcast={"ack": True})
        second, _ = await member.join(name, broadcast={"ack": True})
        closed = await member.event(f"realtime:{name}", "phx_close")
        assert (closed.ref, closed.join_ref) == (first, first)
        events = [(frame.event, frame.ref) for frame in member.received]
        assert events.index(("phx_reply", second)) < events.index(("phx_close", first))
        body = {"type": "broadcast", "event": "x", "payload": {}}
        stale = await member.send(f"realtime:{name}", "broadcast", body, join_ref=first)
        live = await member.send(f"realtime:{name}", "broadcast", body, join_ref=second)
        await member.reply(live)
        assert not [frame for frame in member.received if frame.ref == stale]


async def test_leaving_is_answered_and_then_closed(local_supabase: LocalSupabase) -> None:
    """The reply has the leave's ref, the close the join's; then the topic is unmatched."""
    name = fresh()
    topic = f"realtime:{name}"
    async with socket(local_supabase) as member:
        join_ref, _ = await member.join(name)
        leave = await member.send(topic, "phx_leave", {}, join_ref=join_ref)
        closed = await member.event(topic, "phx_close")
        assert [f.ref for f in member.received if f.topic == topic] == [join_ref, leave, join_ref]
        assert closed.payload == {}
        again = await member.send(topic, "broadcast", {})
        assert await member.reply(again) == {
            "status": "error",
            "response": {"reason": "unmatched topic"},
        }


@pytest.mark.parametrize(
    ("topic", "event", "status"),
    [
        ("phoenix", "heartbeat", "ok"),
        ("phoenix", "other", "unmatched topic"),
        ("foo:bar", "phx_join", "unmatched topic"),
        ("realtime:never", "broadcast", "unmatched topic"),
        ("realtime:never", "phx_leave", "ok"),
        ("realtime:", "phx_join", "TopicNameRequired: You must provide a topic name"),
    ],
)
async def test_topics_that_nobody_joined_are_answered(
    local_supabase: LocalSupabase, topic: str, event: str, status: str
) -> None:
    """As captured from a real server."""
    async with socket(local_supabase) as client:
        reply = await client.reply(await client.send(topic, event, {"config": {}}))
        assert status == (reply["response"] or {"reason": reply["status"]})["reason"]


@pytest.mark.parametrize("garbage", ["hello", '{"a":1}', "", b"\x09abc", '["1","2","3"]'])
async def test_malformed_frames_are_ignored(
    local_supabase: LocalSupabase, garbage: str | bytes
) -> None:
    """Neither an answer nor a close follows."""
    async with socket(local_supabase) as client:
        await client.connection.send(garbage)
        await client.settle()
        assert len(client.received) == 1


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("str", 'UnknownErrorOnChannel: expected params to be a :map, got: `"str"`'),
        (
            {"config": {}, "access_token": "garbage"},
            "MalformedJWT: The token provided is not a valid JWT",
        ),
        (
            {"config": {}, "access_token": ""},
            "MalformedJWT: The token provided is not a valid JWT",
        ),
        (
            {"config": {"broadcast": {"replay": {"since": 0}}}},
            "UnableToReplayMessages: Replay is not allowed for public channels",
        ),
        (
            {"config": {"private": True, "broadcast": {"replay": {"since": "yesterday"}}}},
            "UnableToReplayMessages: Replay params are not valid",
        ),
    ],
)
async def test_a_bad_join_is_refused_by_code(
    local_supabase: LocalSupabase, payload: object, reason: str
) -> None:
    """The reasons of a real server."""
    async with socket(local_supabase) as client:
        ref = await client.send(f"realtime:{fresh()}", "phx_join", payload)
        assert await client.reply(ref) == {"status": "error", "response": {"reason": reason}}


@pytest.mark.parametrize(
    "config",
    [
        {"broadcast": None, "presence": {"key": "", "enabled": False}, "postgres_changes": []},
        {"private": 1},
        {"postgres_changes": {}},
        {},
    ],
)
async def test_odd_joins_that_real_servers_accept_are_accepted(
    local_supabase: LocalSupabase, config: dict[str, Any]
) -> None:
    """A null broadcast is what supabase-py sends; `"private": 1` joins as public."""
    async with socket(local_supabase) as client:
        _, reply = await client.join(fresh(), **config)
        assert reply == {"status": "ok", "response": {"postgres_changes": []}}


async def test_the_channel_after_the_hundredth_is_refused(local_supabase: LocalSupabase) -> None:
    """As many channels as hosted projects have on one socket."""
    async with socket(local_supabase) as client:
        refs = [
            await client.send(f"realtime:many{n}", "phx_join", {"config": {}}) for n in range(101)
        ]
        replies = [await client.reply(ref) for ref in refs]
    assert [reply["status"] for reply in replies] == ["ok"] * 100 + ["error"]
    assert replies[-1]["response"] == {"reason": "ChannelRateLimitReached: Too many channels"}
