"""`client.js` against a server that says what a test tells it to."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any
from unittest.mock import patch

import pytest

from conv_realtime.core.envelope import as_json, conversation_data, message_data
from conv_realtime.core.pauses import Returns
from tests.node import NodeProgram
from tests.relay.rows import conversation, message
from tests.relay.serving import DEADLINE
from tests.shipped.scripted import Line, Scripted
from tests.shipped.test_javascript import Browser

pytestmark = pytest.mark.node

TALK = conversation()


def talk(cursor: str, revision: int = 1) -> Any:
    """The data of the conversation."""
    return json.loads(as_json(conversation_data(conversation(revision=revision), cursor)))


def row(number: int, cursor: str) -> Any:
    """The data of one of its messages."""
    return json.loads(as_json(message_data(message(str(number), number, of=TALK), cursor)))


@asynccontextmanager
async def scripted() -> AsyncIterator[tuple[Scripted, Browser]]:
    """A server to be told what to say, and Node.js to connect to it."""
    async with Scripted.run() as server, NodeProgram.run("shipped.mjs") as node:
        yield server, Browser(node, server.url)


async def live_line(server: Scripted, live: Browser, *rows: Any, **options: Any) -> Line:
    """Connect, and send a snapshot."""
    await live.begin(**options)
    line = await server.line()
    await line.welcomes()
    await line.confirms()
    await line.says(
        "snapshot", conversations=[talk("s.5")], messages=rows, more=False, cursor="s.5"
    )
    await line.barrier()
    return line


async def test_half_a_snapshot_is_not_shown_and_not_gone_on_from() -> None:
    """Its cursor would skip the other half: a cut one is asked for again, whole."""
    async with scripted() as (server, live):
        await live.begin(subscribe={"snapshot": 3})
        line = await server.line()
        await line.welcomes()
        assert await line.confirms() == {"snapshot": 3}
        await line.says(
            "snapshot", conversations=[talk("s.5")], messages=[], more=True, cursor="s.5"
        )
        await line.barrier()
        assert await live.node.do("rows", name="live") == {}
        await line.closes(1012)
        line = await server.line()
        await line.welcomes("s.9")
        assert await line.confirms() == {"snapshot": 3}


async def test_events_before_the_answer_are_of_no_filter_that_was_asked_for() -> None:
    """Neither their rows nor their cursors count, nor that of a ping: a replay is to come."""
    async with scripted() as (server, live):
        line = await live_line(server, live, row(1, "s.5"))
        await line.says("new_message", **row(2, "s.6"))
        await live.shows("1", "2")
        await line.closes(1012)
        line = await server.line()
        await line.welcomes("s.9")
        assert (await line.hears())["data"] == {"since": "s.6"}
        await line.says("new_message", **row(4, "s.8"))
        await line.says("ping", timestamp="2026-01-02T03:04:05Z", cursor="s.9")
        assert (await line.hears())["type"] == "pong"
        assert await live.texts() == ["1", "2"]
        await line.closes(1012)
        line = await server.line()
        await line.welcomes("s.9")
        assert await line.confirms() == {"since": "s.6"}
        for number, cursor in ((3, "s.7"), (4, "s.8")):
            await line.says("new_message", **row(number, cursor))
        await live.shows("1", "2", "3", "4")
        assert (await live.seen())["cursor"] == "s.8"


async def test_a_second_gap_waits() -> None:
    """The first is closed at once; a server that only has gaps to tell is not asked ever again."""
    async with scripted() as (server, live):
        line = await live_line(server, live, firstPauseMs=600_000, longestPauseMs=600_000)
        await line.says("resync", reason="too_slow", cursor="s.6")
        assert await line.confirms() == {"snapshot": 50}
        await line.says("resync", reason="too_slow", cursor="s.7")
        await line.barrier()
        assert (await live.seen())["resyncs"] == 2


@pytest.mark.parametrize("code", [1008, 1013])
async def test_who_is_sent_away_again_and_again_comes_ever_more_rarely(code: int) -> None:
    """Longer than after a line that was cut, and longer each time, though it was live between."""
    async with scripted() as (server, live):
        await live.begin(firstPauseMs=1, longestPauseMs=600_000)
        for end in (1012, code, code, code):
            line = await server.line()
            await line.welcomes()
            await line.confirms()
            await line.closes(end)
        await (await server.line()).welcomes()
        pauses = await live.node.do("pauses")
        for pause, most in zip(pauses, (1, 40, 80, 160), strict=True):
            assert most / 2 <= pause <= most


async def test_pauses_follow_the_same_rule_in_both_languages() -> None:
    """Whatever ended, after whatever time, and whatever the server asked for."""
    rng = Random(1)
    codes, times = (1000, 1006, 1008, 1012, 1013), (0.0, 5.0, 10.5, 59.0, 61.0)
    ends = [
        (rng.choice(codes), rng.choice(times), rng.choice((None, None, None, 1.0, 100.0)))
        for _ in range(200)
    ]
    with patch.object(random, "uniform", lambda low, high: high):
        returns = Returns(0.25, 15.0)
        expected = [returns.after(*end) * 1000 for end in ends]
    in_ms = [
        (code, lived * 1000, asked if asked is None else asked * 1000)
        for code, lived, asked in ends
    ]
    async with NodeProgram.run("shipped.mjs") as node:
        assert await node.do("returns", first=250, longest=15_000, ends=in_ms) == expected
    assert len(set(expected)) > 8


async def test_a_snapshot_that_fails_is_asked_for_again() -> None:
    """An error after the answer is about the snapshot, and no reason to end."""
    async with scripted() as (server, live):
        await live.begin()
        line = await server.line()
        await line.welcomes()
        await line.confirms()
        await line.says("error", code="unavailable", message="the source does not answer")
        assert await line.confirms() == {"snapshot": 50}
        await line.says(
            "snapshot", conversations=[talk("s.5")], messages=[], more=False, cursor="s.5"
        )
        assert (await live.becomes("live"))["errors"] == [
            "Error: unavailable: the source does not answer"
        ]


async def test_a_snapshot_that_fails_is_no_refusal_of_what_was_asked_for_since() -> None:
    """The answers come in order: this one is of the subscription before."""
    async with scripted() as (server, live):
        await live.begin()
        line = await server.line()
        await line.welcomes()
        await line.confirms()
        await live.node.do("subscribe", name="live", to={"snapshot": 3})
        assert (await line.hears())["data"] == {"snapshot": 3}
        await line.says("error", code="unavailable", message="the source does not answer")
        await line.says("subscribed", subscriptions=[], filter={})
        await line.says(
            "snapshot", conversations=[talk("s.5")], messages=[], more=False, cursor="s.5"
        )
        assert (await live.becomes("live"))["errors"] == []


async def test_a_server_that_says_nothing_is_asked_and_then_given_up() -> None:
    """Without an answer there is another line."""
    async with scripted() as (server, live):
        await live.begin()
        line = await server.line()
        await line.welcomes(heartbeat_seconds=0.1)
        await line.confirms()
        assert (await line.hears())["type"] == "ping"
        async with asyncio.timeout(DEADLINE):
            await line.ended.wait()
        await (await server.line()).welcomes()


async def test_what_a_newer_server_says_is_no_trouble() -> None:
    """Unknown types are told as events, unknown fields are kept, and the rest goes on."""
    async with scripted() as (server, live):
        line = await live_line(server, live)
        await line.says("new_thing", id="x", revision=1, cursor="s.6")
        await line.says("conversation_update", **talk("s.7", revision=2), novelty=1)
        await line.barrier()
        seen = await live.seen()
        assert [name for name, _, _ in seen["events"]] == ["new_thing", "conversation_update"]
        assert (seen["cursor"], seen["errors"]) == ("s.7", [])
