"""What the supabase feed reads on bad days: wake-ups that lie, a database that is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from uuid import UUID

import psycopg
import pytest

from conv_realtime.edges.feed import wakeups
from conv_realtime.local import LocalSupabase
from conv_realtime.relay import Relay
from conv_realtime.testing import SupabaseLocal
from conv_realtime.testing.faults import Fault
from tests.local.own_postgres import open_folder
from tests.relay.serving import eventually
from tests.relay.test_supabase_feed import client_of
from tests.relay.trial import NEVER, Trial, feed_of, live

# realtime-py reads deprecated attributes when its connection breaks; as errors they would end it.
pytestmark = pytest.mark.filterwarnings("ignore:ConnectionClosed:DeprecationWarning")


READING = "/rest/v1/rpc/changes_since"
TROUBLE: dict[str, Callable[[SupabaseLocal], Fault]] = {
    "html": lambda supabase: supabase.faults.captive_portal(path=READING),
    "cut": lambda supabase: supabase.faults.cut(10, path=READING),
    "broken": lambda supabase: supabase.faults.disconnect(path=READING, done=True),
    "503": lambda supabase: supabase.faults.answer(503, path=READING, retry_after=1),
    "429": lambda supabase: supabase.faults.answer(429, path=READING),
    "502 in html": lambda supabase: supabase.faults.answer(502, path=READING, body="<html>"),
}


# Wake-ups ------------------------------------------------------------------------------------


async def test_with_every_message_lost_all_is_told_in_order(supabase_local: SupabaseLocal) -> None:
    """The interval alone delivers."""
    async with live(supabase_local) as tried:
        with supabase_local.faults.lose_messages() as lost:
            await tried.say(40)
            await tried.hears_all()
            assert lost.hits


async def test_wake_ups_that_come_twice_and_late_change_nothing(
    supabase_local: SupabaseLocal,
) -> None:
    """What they announce was read long ago, or is read now."""
    async with live(supabase_local, reconcile_interval=NEVER) as tried:
        supabase_local.faults.duplicate_messages()
        with supabase_local.faults.delay_messages(0.3, times=5):
            await tried.say(10)
        await tried.say()
        await tried.hears_all()


async def test_what_is_announced_before_it_can_be_read_is_waited_for(
    supabase_local: SupabaseLocal,
) -> None:
    """An older transaction holds the horizon back: the target stands until it is reached."""
    async with live(supabase_local, reconcile_interval=NEVER) as tried:
        async with await psycopg.AsyncConnection.connect(supabase_local.db_url) as older:
            await older.execute(b"select pg_current_xact_id()")
            await tried.say()
            await eventually(lambda: tried.feed._target is not None, "it is announced")
            await asyncio.sleep(0.5)  # it reads, more than once
            assert tried.feed._target is not None
            assert tried.texts() == []
            await older.commit()
            await tried.hears_all()


@pytest.mark.parametrize("told", ["nonsense", "0123456789abcdef.17"])
async def test_a_target_of_no_use_hides_no_other(supabase_local: SupabaseLocal, told: str) -> None:
    """Neither what is no cursor nor one of a stream that has ended stands in a later one's way."""
    feed = feed_of(supabase_local)
    feed._wake({"payload": {"cursor": told}})
    feed._wake({"payload": {"cursor": "fedcba9876543210.5"}})
    feed._wake({"payload": {"cursor": "fedcba9876543210.4"}})
    assert feed._target == "fedcba9876543210.5"


# The database and its gateway ----------------------------------------------------------------


async def test_broadcasts_that_fall_silent_after_a_restart(supabase_local: SupabaseLocal) -> None:
    """PostgreSQL is killed; its broadcasts stay away until somebody joins: the feed does."""
    async with live(supabase_local) as tried:
        silence = supabase_local.faults.silence_after_restart()
        async with supabase_local.faults.postgres_down(kill=True):
            await tried.until("down")
        await tried.until("live")
        assert silence.hits
        await tried.say(3)
        await tried.hears_all()
        await eventually(silence.lifted.is_set, "somebody has joined")  # type: ignore[attr-defined]
        await tried.until("live")


async def test_a_supabase_that_is_stopped_and_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, on the same port; what was written before it was heard is not lost."""
    with open_folder() as folder:
        async with AsyncExitStack() as last:
            first = AsyncExitStack()
            last.push_async_callback(first.aclose)
            local = await first.enter_async_context(LocalSupabase(folder, port=0))
            port = int(local.url.rpartition(":")[2])
            monkeypatch.setattr(wakeups, "_CLOSE_SECONDS", 0.1)
            feed = feed_of(local)
            async with (
                client_of(local, local.secret_key) as writer,
                Relay(feed=feed, settings=feed._given) as relay,
            ):
                tried = Trial(relay, feed, writer, UUID(local.owner_id))
                await tried.until("live")
                await tried.say()
                await first.aclose()
                await tried.until("down")
                await last.enter_async_context(LocalSupabase(folder, port=port))
                await tried.say(2)
                await tried.hears_all()
                await tried.until("live")


@pytest.mark.parametrize("status", [429, 503])
async def test_a_server_that_says_when_is_not_asked_before(
    supabase_local: SupabaseLocal, status: int
) -> None:
    """However short our own pauses, and though a join says that the network is back."""
    async with live(supabase_local) as tried:
        with supabase_local.faults.answer(status, path=READING, retry_after=900) as fault:
            await tried.until("down")
            assert fault.hits == 1
            supabase_local.faults.drop_sockets()
            wake = tried.feed._wakeups
            assert wake is not None
            await eventually(lambda: wake.state == "lost", "the loss is noticed")
            await eventually(lambda: wake.state == "joined", "it has joined again")
            await tried.say()
            assert fault.hits == 1
            assert tried.feed._not_before > asyncio.get_running_loop().time() + 800


@pytest.mark.parametrize("trouble", TROUBLE)
async def test_answers_that_are_none(supabase_local: SupabaseLocal, trouble: str) -> None:
    """No cursor moves by them, and health says that the database cannot be read."""
    async with live(supabase_local) as tried:
        with TROUBLE[trouble](supabase_local) as fault:
            await tried.say(2)
            await tried.until("down")
            assert fault.hits
        await tried.hears_all()
        await tried.until("live")
        assert not any(page.resync for page in tried.feed.pages)
