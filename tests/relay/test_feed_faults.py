"""The supabase feed on bad days, one fault a test, at a project of its own.

After each fault: nothing is lost, rows come in their order and no revision falls, `/healthz` told
the truth meanwhile, and no task, socket or thread is left behind.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import pytest
from pydantic import SecretStr
from supabase import AsyncClient
from supabase_auth.types import Session, User

from conv_realtime.core.pauses import pauses_between_attempts
from conv_realtime.edges.feed import SupabaseFeed, wakeups
from conv_realtime.local import LocalSupabase
from conv_realtime.models import Message, Project
from conv_realtime.ports import Page, PageHandler
from conv_realtime.relay import Relay, service
from conv_realtime.testing import SupabaseLocal
from conv_realtime.testing.faults import Fault
from conv_realtime.testing.threads import InThread, LoopThread
from tests.local.own_postgres import open_folder
from tests.relay.proxy import Proxy
from tests.relay.rows import conversation, message, project
from tests.relay.serving import eventually, settings
from tests.relay.test_supabase_feed import client_of, write

# realtime-py reads deprecated attributes when its connection breaks; as errors they would end it.
pytestmark = pytest.mark.filterwarnings("ignore:ConnectionClosed:DeprecationWarning")

CHANGES = "conv_realtime:changes"
NEVER = 60.0
SOON = 0.2


class Recorded(SupabaseFeed):
    """Keeps the pages that it gives."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.pages: list[Page] = []

    async def run(self, on_page: PageHandler) -> None:
        """Keep each page before it is handled."""

        def both(page: Page) -> None:
            self.pages.append(page)
            on_page(page)

        await super().run(both)


class Trial:
    """A relay that follows a Supabase, and somebody who writes there."""

    def __init__(self, relay: Relay, feed: Recorded, writer: AsyncClient, me: UUID) -> None:
        self.relay = relay
        self.feed = feed
        self.me = me
        self.written: list[str] = []
        self._writer = writer
        self._talk = conversation(owner=me)

    @property
    def state(self) -> str:
        """The feed's state, as `/healthz` has it."""
        feed = self.relay.health()[1]["feed"]
        assert isinstance(feed, dict)
        return str(feed["state"])

    async def until(self, state: str) -> None:
        """Wait until `/healthz` says so, in all that it says."""
        await eventually(lambda: self.state == state, f"the feed is {state}")
        status, body = self.relay.health()
        meant = {"live": (200, "ok"), "down": (503, "down")}.get(state, (200, "degraded"))
        assert (status, body["status"]) == meant

    async def say(self, count: int = 1) -> None:
        """Write messages, one request each."""
        if not self.written:
            await write(self._writer, project(owner=self.me), self._talk)
        for _ in range(count):
            seq = len(self.written) + 1
            await write(self._writer, message(str(seq), seq, of=self._talk))
            self.written.append(str(seq))

    async def hears_all(self) -> None:
        """Wait until all that was written came, in its order; no revision fell."""
        await eventually(lambda: len(self.texts()) >= len(self.written), "all is told")
        assert self.texts() == self.written
        revisions: dict[Any, int] = {}
        for page in self.feed.pages:
            for change in page.changes:
                if isinstance(row := change.row, Project):
                    continue  # has none
                assert row.revision >= revisions.get(row.id, 0)
                revisions[row.id] = row.revision

    def texts(self) -> list[str]:
        """Return what messages came, each where it came first."""
        rows = [change.row for page in self.feed.pages for change in page.changes]
        return list(dict.fromkeys(row.text for row in rows if isinstance(row, Message)))


@asynccontextmanager
async def trial(local: Any, feed: Recorded, me: UUID | None = None) -> AsyncIterator[Trial]:
    """Follow with `feed` until left; then nothing may be left behind."""
    before = left()
    async with client_of(local, local.secret_key) as writer:
        relay = Relay(feed=feed, settings=feed._given or settings())
        async with relay:
            yield Trial(relay, feed, writer, me or UUID(local.owner_id))
    await eventually(lambda: left() <= before, f"{left() - before} has ended")


def left() -> set[Any]:
    """Return what runs and what is open in this loop: tasks, sockets, threads."""
    selector: Any = asyncio.get_running_loop()
    threads = {thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")}
    return {*asyncio.all_tasks(), *selector._selector.get_map(), *threads}


def feed_of(local: Any, url: str | None = None, **values: Any) -> Recorded:
    """Return a feed with a project's secret key."""
    values = {"reconcile_interval": SOON, "request_timeout": 5.0, **values}
    key = SecretStr(local.secret_key)
    return Recorded(settings(supabase_url=url or local.url, supabase_key=key, **values))


@asynccontextmanager
async def live(local: Any, url: str | None = None, **values: Any) -> AsyncIterator[Trial]:
    """Follow with a project's secret key; it is live on entering."""
    async with trial(local, feed_of(local, url, **values)) as tried:
        await tried.until("live")
        yield tried


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait no longer than a second for Realtime, and hardly at all for its goodbye."""
    monkeypatch.setattr(wakeups, "CONNECT_SECONDS", 1)
    monkeypatch.setattr(wakeups, "_CLOSE_SECONDS", 0.1)


class Link:
    """A proxy in another thread."""

    def __init__(self, proxy: Proxy, thread: LoopThread) -> None:
        self.proxy = proxy
        self._thread = thread

    def cut(self) -> None:
        """End every connection."""
        self._thread.ask(self.proxy.cut)


@asynccontextmanager
async def proxied(local: Any, **values: Any) -> AsyncIterator[tuple[Link, Trial]]:
    """Follow through a proxy, live on entering; what writes needs none."""
    parts = urlsplit(local.url)
    # In a loop of its own: its connections are none that the feed has left.
    with LoopThread("proxy") as thread:
        passing = Proxy.to(parts.hostname or "", parts.port or 0)
        async with InThread(thread, passing) as proxy:
            async with live(local, f"http://127.0.0.1:{proxy.port}", **values) as tried:
                yield Link(proxy, thread), tried


# Callbacks ----------------------------------------------------------------------------------


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


# Connections --------------------------------------------------------------------------------


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


# Tokens -------------------------------------------------------------------------------------


def session_of(supabase: SupabaseLocal, token: str, expires_in: int = 3600) -> Session:
    """Return a session as supabase-py keeps it."""
    user = User(id=supabase.owner_id, app_metadata={}, user_metadata={}, aud="x", created_at=MOMENT)
    return Session(
        access_token=token,
        refresh_token="-",
        expires_in=expires_in,
        expires_at=int(time.time()) + expires_in,
        token_type="bearer",
        user=user,
    )


MOMENT: Any = "2026-01-01T00:00:00Z"


async def signed_in(client: AsyncClient, session: Session) -> None:
    """Give a client a session, as its application does after a sign-in or a refresh."""
    await client.auth._save_session(session)
    client.auth._notify_all_subscribers("TOKEN_REFRESHED", session)


async def test_an_expired_session_goes_on_when_it_is_refreshed(
    supabase_local: SupabaseLocal,
) -> None:
    """401s and a closed channel while the token is old; then all that was missed, and live."""
    async with client_of(supabase_local, supabase_local.publishable_key) as client:
        await signed_in(client, session_of(supabase_local, supabase_local.token()))
        feed = Recorded(settings(reconcile_interval=SOON, request_timeout=5.0), client=client)
        async with trial(supabase_local, feed) as tried:
            await tried.until("live")
            assert supabase_local.faults.drop_sockets(f"conv_realtime:owner:{tried.me}") == 1
            await tried.until("live")
            supabase_local.faults.expire_tokens()
            await tried.until("down")
            await tried.say()
            await signed_in(client, session_of(supabase_local, supabase_local.token()))
            await tried.hears_all()
            await tried.until("live")
            await tried.say()
            await tried.hears_all()


async def test_a_token_is_renewed_however_busy_it_is(
    supabase_local: SupabaseLocal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where wake-ups leave no pause, Realtime hears of a new token all the same.

    It does not acknowledge it: realtime-py's waiting for that ends with the feed.
    """
    monkeypatch.setattr(wakeups, "CONNECT_SECONDS", 60)
    async with client_of(supabase_local, supabase_local.publishable_key) as client:
        await signed_in(client, session_of(supabase_local, supabase_local.token()))
        feed = Recorded(settings(reconcile_interval=NEVER, request_timeout=5.0), client=client)
        async with trial(supabase_local, feed) as tried:
            await tried.until("live")
            wake = feed._wakeups
            assert wake is not None and wake._client is not None
            connection, renewed = wake._client, supabase_local.token()
            await client.auth._save_session(session_of(supabase_local, renewed))
            await tried.say()
            await tried.hears_all()
            await eventually(lambda: connection.access_token == renewed, "it has the new one")
            assert wake._client is connection


async def test_without_the_auth_server_it_joins_no_topic_of_others(
    supabase_local: SupabaseLocal,
) -> None:
    """Whose session it is cannot be told at first; when it can, their own topic is joined."""
    async with client_of(supabase_local, supabase_local.publishable_key) as client:
        await signed_in(client, session_of(supabase_local, supabase_local.token(), -60))
        feed = Recorded(settings(reconcile_interval=SOON, request_timeout=5.0), client=client)
        async with trial(supabase_local, feed) as tried:
            await tried.until("polling")
            await signed_in(client, session_of(supabase_local, supabase_local.token()))
            await tried.until("live")
            await tried.say()
            await tried.hears_all()
            assert supabase_local.faults.drop_sockets(f"conv_realtime:owner:{tried.me}") == 1


async def test_a_key_that_is_refused_for_a_while(supabase_local: SupabaseLocal) -> None:
    """While keys are rotated the gateway says 401 to everything, Realtime's handshake too."""
    async with live(supabase_local) as tried:
        body = {"message": "Invalid API key"}
        with supabase_local.faults.answer(401, path="/rest/v1/rpc/*", body=body):
            with supabase_local.faults.answer(401, method="WEBSOCKET", body=body):
                supabase_local.faults.drop_sockets()
                await tried.until("down")
                await tried.say()
        await tried.hears_all()
        await tried.until("live")


# Wake-ups -----------------------------------------------------------------------------------


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


# The database and its gateway ---------------------------------------------------------------


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


READING = "/rest/v1/rpc/changes_since"
TROUBLE: dict[str, Callable[[SupabaseLocal], Fault]] = {
    "html": lambda supabase: supabase.faults.captive_portal(path=READING),
    "cut": lambda supabase: supabase.faults.cut(10, path=READING),
    "broken": lambda supabase: supabase.faults.disconnect(path=READING, done=True),
    "503": lambda supabase: supabase.faults.answer(503, path=READING, retry_after=1),
    "429": lambda supabase: supabase.faults.answer(429, path=READING),
    "502 in html": lambda supabase: supabase.faults.answer(502, path=READING, body="<html>"),
}


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
