"""A relay from entering to leaving: gaps between two runs, feeds that break, health."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from conv_realtime.errors import ConfigError
from conv_realtime.events import NewMessage
from conv_realtime.ports import FeedHealth, Page, PageHandler
from conv_realtime.relay import ConnectionManager, LocalFeed, Relay
from conv_realtime.relay import service as service_module
from tests.relay.hosted import FakeWebSocket, give_up_by_cancelling
from tests.relay.rows import created, message
from tests.relay.serving import eventually, settings


async def test_a_relay_whose_end_was_cut_short_begins_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Entered again, each handler hears an event once."""
    feed = LocalFeed(settings())
    relay = Relay(feed=feed, settings=settings())
    heard: list[str] = []

    @relay.on("new_message")
    async def note(event: NewMessage) -> None:
        heard.append(event.data.text)

    async def cut_short() -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as ending, pytest.raises(asyncio.CancelledError):
        ending.setattr(relay.manager, "shutdown", cut_short)
        async with relay:
            pass
    async with relay:
        feed.publish(created(message("once")))
        feed.publish(created(message("last", 2)))
        await eventually(lambda: "last" in heard, "both are heard")
    assert heard == ["once", "last"]


async def test_without_feed_and_supabase_a_relay_says_what_is_missing() -> None:
    """Entering names the setting and the way to a local Supabase."""
    with pytest.raises(ConfigError, match="conv-realtime local"):
        async with Relay(settings=settings()):
            pass


class Faulty(LocalFeed):
    """A feed whose first runs end with these errors."""

    def __init__(self, *errors: BaseException) -> None:
        super().__init__(settings())
        self.runs = 0
        self._errors = list(errors)

    async def run(self, on_page: PageHandler) -> None:
        self.runs += 1
        if self._errors:
            raise self._errors.pop(0)
        await super().run(on_page)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A feed that ended is started again without a pause."""
    monkeypatch.setattr(service_module, "_RESTART_SECONDS", 0.0)


@pytest.mark.usefixtures("at_once")
async def test_a_feed_that_breaks_its_contract_is_started_again() -> None:
    """An error nobody foresaw shows in health, and the next run goes on."""

    class Careless(Faulty):
        async def run(self, on_page: PageHandler) -> None:
            if not self.runs:
                await give_up_by_cancelling()
            await super().run(on_page)

    feed = Careless(RuntimeError("broken"), RuntimeError("broken"))
    async with Relay(feed=feed, settings=settings()) as relay:
        await eventually(lambda: relay.health()[0] == 200, "it runs")
        assert feed.runs == 3


@pytest.mark.usefixtures("at_once")
async def test_a_feed_that_is_cancelled_by_itself_is_started_again() -> None:
    """As by a library that cancels what it waits for: nobody would hear of a feed that ended."""
    feed = Faulty(asyncio.CancelledError())
    async with Relay(feed=feed, settings=settings()) as relay:
        await eventually(lambda: relay.health()[0] == 200, "it runs")
    assert feed.runs == 2


@pytest.mark.usefixtures("at_once")
async def test_a_feed_that_fails_while_it_is_ended_holds_up_no_end() -> None:
    """Closing what it reads with may fail: it is not begun again."""

    class Unclosed(Faulty):
        async def run(self, on_page: PageHandler) -> None:
            try:
                await super().run(on_page)
            finally:
                if self.runs == 1:
                    raise OSError("the connection is lost")

    feed = Unclosed()
    async with asyncio.timeout(10):
        async with Relay(feed=feed, settings=settings()):
            pass
    assert feed.runs == 1


@pytest.mark.usefixtures("at_once")
async def test_what_a_feed_missed_between_two_runs_is_a_gap() -> None:
    """It begins again at the head: clients cannot know what came before, so they are told."""
    breaking = asyncio.Event()

    class Breaking(LocalFeed):
        async def run(self, on_page: PageHandler) -> None:
            if breaking.is_set():
                return await super().run(on_page)
            on_page(Page((), self._cursor()))
            await breaking.wait()
            raise RuntimeError("broken")

    feed, websocket = Breaking(settings()), FakeWebSocket()
    async with Relay(feed=feed, settings=settings()) as relay:
        await relay.manager.connect(websocket)
        breaking.set()
        feed.publish(created(message("missed")))
        await eventually(lambda: "resync" in websocket.types, "the gap is told")
        assert websocket.sent[-1]["data"]["cursor"] == feed._cursor()


async def test_who_came_before_the_stream_began_is_told_of_the_gap() -> None:
    """A snapshot may be older than the head that the feed finds when it gets through."""
    chosen, websocket = settings(), FakeWebSocket()
    manager = ConnectionManager(chosen)
    await manager.connect(websocket)
    manager.hub.take(Page((), "s.7"))
    await eventually(lambda: "resync" in websocket.types, "the gap is told")
    later = FakeWebSocket()
    await manager.connect(later)
    manager.hub.take(Page(created(message("hi")), "s.8"))
    await eventually(lambda: "new_message" in later.types, "it goes on")
    assert "resync" not in later.types
    await manager.shutdown()


@pytest.mark.parametrize(
    ("state", "watcher", "code", "status"),
    [
        ("live", "ok", 200, "ok"),
        ("live", "partial", 200, "ok"),
        ("live", "down", 200, "degraded"),
        ("polling", "ok", 200, "degraded"),
        ("connecting", "ok", 200, "degraded"),
        ("down", "ok", 503, "down"),
        ("stopped", "ok", 503, "down"),
    ],
)
async def test_health_is_what_feed_and_watcher_are(
    state: Any, watcher: str, code: int, status: str
) -> None:
    """Down is 503; everything that still delivers is 200, with a word for how."""

    class Feed(LocalFeed):
        def health(self) -> FeedHealth:
            return FeedHealth("supabase", state, None)

    ingest = {"files": 1, "lag_seconds": 0.0, "queue": 0, "dead_letters": 0, "watcher": watcher}
    relay = Relay(feed=Feed(settings()), settings=settings(), ingest_health=lambda: ingest)
    assert relay.health()[0] == 503  # not entered
    async with relay:
        answer, body = relay.health()
    assert (answer, body["status"]) == (code, status)
    assert body["ingest"] == ingest
    assert body["feed"] == {"kind": "supabase", "state": state, "last_event_at": None}


@pytest.mark.parametrize("trouble", [{"last_error": "messages: ConnectError"}, {"unreadable": 1}])
async def test_health_is_degraded_while_something_cannot_be_stored_or_read(
    trouble: dict[str, object],
) -> None:
    """Rows wait in the files: nothing is lost, and somebody should look."""
    ingest = {"files": 1, "watcher": "ok", **trouble}
    async with Relay(feed=LocalFeed(settings()), ingest_health=lambda: ingest) as relay:
        answer, body = relay.health()
    assert (answer, body["status"]) == (200, "degraded")
