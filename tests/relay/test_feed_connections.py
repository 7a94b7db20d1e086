"""The supabase feed's connections on bad days: raising callbacks, dead links, refused joins."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any

import psycopg
import pytest

from conv_realtime.core.pauses import pauses_between_attempts
from conv_realtime.edges.feed import wakeups
from conv_realtime.ports import Page
from conv_realtime.relay import service
from conv_realtime.testing import SupabaseLocal
from tests.relay.serving import eventually
from tests.relay.trial import CHANGES, NEVER, feed_of, live, proxied, trial

# realtime-py reads deprecated attributes when its connection breaks; as errors they would end it.
pytestmark = pytest.mark.filterwarnings("ignore:ConnectionClosed:DeprecationWarning")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait no longer than a second for Realtime, and hardly at all for its goodbye."""
    monkeypatch.setattr(wakeups, "CONNECT_SECONDS", 1)
    monkeypatch.setattr(wakeups, "_CLOSE_SECONDS", 0.1)


# Callbacks -----------------------------------------------------------------------------------


async def test_a_wake_up_that_raises_ends_nothing(
    supabase_local: SupabaseLocal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """realtime-py's listening would end without a word; the same connection goes on."""
    async with live(supabase_local, reconcile_interval=NEVER) as tried:
        wake = tried.feed._wakeups
        assert wake is not None
        raised, client = asyncio.Event(), wake._client

        def spoilt(_: Any) -> None:
            raised.set()
            raise LookupError("a wake-up of a test")

        with monkeypatch.context() as patch:
            patch.setattr(wake, "_wake", spoilt)
            await tried.say()
            await eventually(raised.is_set, "it has raised")
        await tried.say()
        await tried.hears_all()
        assert wake._client is client


async def test_a_handler_of_pages_that_raises_begins_anew_with_a_gap(
    supabase_local: SupabaseLocal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not taken is not passed over: everybody is told to read again."""
    monkeypatch.setattr(service, "_RESTART_SECONDS", 0.1)
    async with live(supabase_local) as tried:
        hub = tried.relay.manager.hub
        take, gaps = hub.take, 0

        def spoilt(page: Page) -> None:
            monkeypatch.setattr(hub, "take", watched)
            raise LookupError("a handler of a test")

        def watched(page: Page) -> None:
            nonlocal gaps
            gaps += page.resync
            take(page)

        monkeypatch.setattr(hub, "take", spoilt)
        await tried.say()
        await eventually(lambda: gaps == 1, "the gap is told")
        await tried.until("live")
        await tried.say()
        await eventually(lambda: tried.texts()[-1:] == ["2"], "what follows comes")


# Connections ---------------------------------------------------------------------------------


async def test_dead_sockets_are_replaced(supabase_local: SupabaseLocal) -> None:
    """Each time, and what was written meanwhile comes without a read by the clock."""
    async with live(supabase_local, reconcile_interval=NEVER) as tried:
        for _ in range(2):
            assert supabase_local.faults.drop_sockets(CHANGES) == 1
            await eventually(lambda: tried.state != "live", "the loss is noticed")
            await tried.say()
            await tried.hears_all()
            await tried.until("live")
        await tried.say()
        await tried.hears_all()


async def test_a_half_open_link_is_down_until_it_passes_again(
    supabase_local: SupabaseLocal,
) -> None:
    """Connections stay and nothing passes: reads time out, and health says so."""
    async with proxied(supabase_local, request_timeout=0.5) as (link, tried):
        link.proxy.silent = True
        await tried.say()
        await tried.until("down")
        link.proxy.silent = False
        link.cut()  # what was swallowed is missing in every stream
        await tried.hears_all()
        await tried.until("live")


async def test_stopping_over_a_half_open_link_leaves_nothing(
    supabase_local: SupabaseLocal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody answers the close frame: the socket is ended all the same, and who reads it."""
    monkeypatch.setattr(wakeups, "_CLOSE_SECONDS", 0.1)
    async with proxied(supabase_local, request_timeout=0.5) as (link, _):
        link.proxy.silent = True


async def test_a_half_open_socket_alone_is_found_out_by_reading(
    supabase_local: SupabaseLocal, impatient: None
) -> None:
    """The Data API answers and Realtime's open socket is mute: it costs the interval, no data."""
    async with proxied(supabase_local) as (link, tried):
        link.proxy.mute = True
        await tried.say(3)
        await tried.hears_all()
        await tried.until("polling")
        link.proxy.mute = False
        await tried.until("live")


async def test_joins_that_time_out_are_tried_again(
    supabase_local: SupabaseLocal, impatient: None
) -> None:
    """The socket opens and no join is answered: it polls, says so, and joins later."""
    async with proxied(supabase_local) as (link, tried):
        link.proxy.mute = True
        link.cut()
        await tried.until("polling")
        await tried.say()
        await tried.hears_all()
        link.proxy.mute = False
        await tried.until("live")


async def test_closed_channels_are_joined_again_on_a_new_socket(
    supabase_local: SupabaseLocal,
) -> None:
    """Too many messages: an error, the end of the channel, and an open socket that is no use."""
    async with live(supabase_local, reconcile_interval=NEVER) as tried:
        for _ in range(2):
            assert supabase_local.faults.close_channels(CHANGES) == 1
            await tried.until("polling")
            await tried.say()
            await tried.hears_all()
            await tried.until("live")
        assert supabase_local.faults.drop_sockets() == 1


async def test_refused_joins_that_are_allowed_later(supabase_local: SupabaseLocal) -> None:
    """It polls meanwhile, says so, and is live when it may be."""
    with supabase_local.faults.refuse_joins() as refusal:
        async with trial(supabase_local, feed_of(supabase_local)) as tried:
            await tried.until("polling")
            await tried.say(2)
            await tried.hears_all()
            refusal.undo()
            await tried.until("live")
            await tried.say()
            await tried.hears_all()


async def test_connections_that_end_at_once_are_made_ever_more_rarely(
    supabase_local: SupabaseLocal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame over the client's megabyte closes with 1009: no loop of joins, and reads go on."""
    made: list[Iterator[float]] = []

    def pauses() -> Iterator[float]:
        made.append(pauses_between_attempts(0.05, 0.4))
        return made[-1]

    monkeypatch.setattr(wakeups, "pauses_between_attempts", pauses)
    large = "select realtime.send(jsonb_build_object('x', repeat('x', 1100000)), 'e', %s, true)"
    async with live(supabase_local, reconcile_interval=NEVER) as tried:
        wake = tried.feed._wakeups
        assert wake is not None
        dsn = supabase_local.db_url
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as db:
            for _ in range(3):
                before = {wake._client}
                await db.execute(large.encode(), (CHANGES,))
                await eventually(partial(_another, wake, before), "it is closed")
                await tried.until("live")
                await tried.say()
                await tried.hears_all()
        assert len(made) == 1
        monkeypatch.setattr(wakeups, "STEADY_SECONDS", 0.0)
        supabase_local.faults.drop_sockets()
        await eventually(lambda: len(made) == 2, "one that lasted is followed by a short pause")


def _another(wake: wakeups.WakeUps, before: set[Any]) -> bool:
    return wake._client not in before
