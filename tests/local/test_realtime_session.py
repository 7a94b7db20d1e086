"""What one socket does while the database takes its time; everything around it is made up."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, cast

from conv_realtime.local.keys import make_keys
from conv_realtime.local.realtime.access import Access
from conv_realtime.local.realtime.channels import Channel, Topics
from conv_realtime.local.realtime.frames import Version, Wire
from conv_realtime.local.realtime.rules import Rules, Surroundings
from conv_realtime.local.realtime.session import Session
from conv_realtime.local.realtime.tokens import read_token

TOPIC = "realtime:room"


class Policies:
    """They allow everything, but answer only while `open` is set."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.asked = asyncio.Event()

    async def check(self, name: str, token: object) -> Access:
        """Answers in their time."""
        self.asked.set()
        await self.open.wait()
        return Access(read=True, write=True)


class Changes:
    """Notes for which channels it is asked to go on under a new token."""

    def __init__(self) -> None:
        self.refreshed: list[Channel] = []

    def subscribe(self, channel: Channel, asked: object, *, is_legacy: bool) -> None:
        """Nobody asks for anything."""

    def discard(self, channel: Channel) -> None:
        """Has nothing to end."""

    def refresh(self, channel: Channel) -> None:
        """Takes a note."""
        self.refreshed.append(channel)


class Wires:
    """An outbox that keeps what was pushed."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def push(self, wire: Wire) -> None:
        """Keeps the event of a frame."""
        self.events.append(json.loads(wire.data)[3])


async def test_a_channel_that_expires_while_its_new_token_is_checked_has_ended_once() -> None:
    """It is not told so again, neither then nor when the new token ends, and nothing goes on."""
    keys, policies, changes, wires = make_keys(), Policies(), Changes(), Wires()
    clock = time.time()
    around = Surroundings(
        Topics(),
        cast(Any, policies),
        cast(Any, changes),
        cast(Any, None),
        keys.verify,
        Rules(),
        lambda: clock,
        lambda: True,
    )
    key = read_token(keys.publishable_key, keys.verify, clock)
    session = Session(cast(Any, wires), Version.V2, key, around)
    join = {"config": {"private": True}, "access_token": keys.token(expires_in=60)}
    await session.receive(json.dumps(["1", "1", TOPIC, "phx_join", join]))
    policies.open.clear()
    policies.asked.clear()
    renewal = {"access_token": keys.token(expires_in=120)}
    frame = json.dumps(["1", "2", TOPIC, "access_token", renewal])
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(session.receive(frame))
        await policies.asked.wait()
        clock += 61
        session.recheck()
        policies.open.set()
    clock += 120
    session.recheck()
    assert wires.events == ["phx_reply", "system", "phx_close"]
    assert changes.refreshed == []
    session.end()
