"""Nothing lost, nothing doubled, whatever fails and in whatever order."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conv_realtime.edges.feed import supabase as feed
from tests.model.processes import PROJECTS, Client, Server, World, bridge, relay
from tests.model.supabase import ModelWakeUps, Supabase
from tests.model.virtual import run
from tests.relay.rows import conversation

EXAMPLES = 10_000 if os.environ.get("CI") else 500
HEALING_SECONDS = 25.0
HEALINGS = 20  # one answer in ten is lost, so nobody knows how long it takes

sessions = st.sampled_from(sorted(PROJECTS))
places = st.sampled_from(["bridge", "relay", "other relay"])
filters = st.sampled_from(
    [
        {},
        {"conversations": [str(conversation("a").id)]},
        {"projects": [str(PROJECTS["a"])]},
        {"projects": [str(PROJECTS["c"])], "conversations": [str(conversation("c").id)]},
    ]
)
clients = st.integers(0, 5)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("line"), sessions, st.integers(1, 4), st.booleans()),
        st.tuples(st.just("burst"), sessions),
        st.tuples(st.just("pass"), st.sampled_from([0.0, 0.01, 0.5, 6.0])),
        st.tuples(st.just("join"), filters, places),
        st.tuples(st.just("hop"), clients, places),
        st.tuples(st.just("leave"), clients),
        st.tuples(st.just("stall"), clients, st.integers(0, 6)),
        st.tuples(st.just("read"), clients),
        st.tuples(st.just("cut off"), clients, st.integers(0, 6), sessions, places),
        st.tuples(st.just("end"), places, st.booleans()),
        st.tuples(st.just("network"), st.booleans()),
        st.tuples(st.just("silence")),
        st.tuples(st.just("backup")),
        st.tuples(st.just("restore")),
    ),
    max_size=25,
)


class Day:
    """A world with a bridge, two relays and clients, and what happens to them."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        random.seed(seed)  # what the library itself leaves to chance
        self.supabase = ModelWakeUps.supabase = Supabase(self.chance)
        self.world = World(self.supabase)
        self.servers = {name: self._start(name) for name in ("bridge", "relay", "other relay")}
        self.clients = [Client({}), Client({})]
        self.backup = dict(self.supabase.database.rows)

    async def live(self, script: list[Any]) -> None:
        """Let the script happen, then all faults end; compare everything with the files."""
        await self.clients[0].connect(self.servers["bridge"])
        await self.clients[1].connect(self.servers["relay"])
        for step in script:
            await self._happen(step)
        await self._heal()
        for server in self.servers.values():
            server.check()
        assert self.world.stored() == self.world.state({})
        for client in self.clients:
            await client.settle()
            assert client.state == self.world.state(client.wanted), client.wanted
        for client in self.clients:
            await client.leave()
        for server in self.servers.values():
            await server.end(in_order=False)

    async def _happen(self, step: Any) -> None:
        world, supabase = self.world, self.supabase
        match step:
            case ("line", session, seq, gone):
                world.files[session].append(seq, gone=gone)
            case ("burst", session):
                for seq in range(12):
                    world.files[session].append(seq, gone=False)
            case ("pass", seconds):
                await asyncio.sleep(seconds)
            case ("join", wanted, place) if len(self.clients) < 5:
                self.clients.append(Client(wanted))
                await self.clients[-1].connect(self.servers[place])
            case ("hop", number, place):
                await self.clients[number % len(self.clients)].connect(self.servers[place])
            case ("leave", number):
                await self.clients[number % len(self.clients)].leave()
            case ("stall", number, frames):
                self.clients[number % len(self.clients)].patience = frames
            case ("cut off", number, frames, session, place):
                client = self.clients[number % len(self.clients)]
                client.patience = frames
                for seq in range(6):
                    world.files[session].append(seq, gone=False)
                await asyncio.sleep(0.5)
                await client.connect(self.servers[place])
            case ("read", number):
                self.clients[number % len(self.clients)].patience = None
                self.clients[number % len(self.clients)].reading.set()
            case ("end", place, in_order):
                await self.servers[place].end(in_order=in_order)
                self.servers[place] = self._start(place)
            case ("network", up):
                supabase.up = up
            case ("silence",):
                supabase.silent = True
            case ("backup",):
                self.backup = dict(supabase.database.rows)
            case ("restore",):
                supabase.database.restore(self.backup)

    async def _heal(self) -> None:
        """The network is back, everybody is connected and reads; wake-ups go on being lost."""
        self.supabase.up = True
        for client in self.clients:
            client.patience = None
            client.reading.set()
        for _ in range(HEALINGS):
            await asyncio.sleep(HEALING_SECONDS)
            if self.world.stored() == self.world.state({}):
                break
        await asyncio.sleep(HEALING_SECONDS)
        for client in self.clients:
            while not client.connected:
                await client.connect(self.servers[self.chance.choice(["bridge", "relay"])])
                await asyncio.sleep(HEALING_SECONDS)

    def _start(self, place: str) -> Server:
        return bridge(self.world) if place == "bridge" else relay(self.world)


@pytest.mark.timeout(900)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(script=steps, seed=st.integers(0, 2**32))
def test_everybody_ends_in_what_the_files_say(script: list[Any], seed: int) -> None:
    """The database, and each client whatever it selected, lost and heard twice."""

    async def day() -> None:
        await Day(seed).live(script)

    with patch.object(feed, "WakeUps", ModelWakeUps):
        run(day())


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Ten thousand days of trouble fill no log."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
