"""`ConnectionManager` with WebSockets of any make, and handlers and iterators of events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import repeat
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from conv_realtime.core.selection import UnknownType
from conv_realtime.errors import ConfigError, StoreError
from conv_realtime.events import NewMessage, Resync
from conv_realtime.ports import FeedHealth, Page, SnapshotPart
from conv_realtime.relay import ConnectionManager, LocalFeed, Relay, laggards
from conv_realtime.relay import listeners as listeners_module
from conv_realtime.relay import service as service_module
from tests.relay.rows import OTHER, OWNER, changed, conversation, created, message
from tests.relay.serving import eventually, serve, settings


class FakeWebSocket:
    """Has Starlette's methods and keeps what it is sent; can hang or fail."""

    def __init__(self) -> None:
        self.accepted = False
        self.sent: list[dict[str, Any]] = []
        self.closed: int | None = None
        self.failing = False
        self.reading = asyncio.Event()
        self.reading.set()
        self.inbox: asyncio.Queue[str | None] = asyncio.Queue()

    async def accept(self, subprotocol: str | None = None) -> None:
        self.accepted = True

    async def send_text(self, data: str) -> None:
        await self.reading.wait()
        if self.failing:
            raise RuntimeError("gone")
        self.sent.append(json.loads(data))

    async def receive_text(self) -> str:
        text = await self.inbox.get()
        if text is None:
            raise WebSocketDisconnect
        return text

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        self.closed = code

    @property
    def types(self) -> list[str]:
        return [frame["type"] for frame in self.sent]


def event(text: str = "hi", owner: Any = None) -> NewMessage:
    """Return an event such as a host would broadcast."""
    from conv_realtime.core.envelope import event_of

    made = event_of(created(message(text))[0], "s.1")
    assert isinstance(made, NewMessage)
    return made


async def test_a_host_can_connect_broadcast_and_disconnect() -> None:
    """The calls of a tutorial's manager work, with a fake WebSocket."""
    manager, websocket = ConnectionManager(), FakeWebSocket()
    id = await manager.connect(websocket)
    assert websocket.accepted
    assert dict(manager.active_connections) == {id: websocket}
    assert await manager.broadcast(event("one")) == 1
    assert await manager.send(id, event("two"))
    await eventually(lambda: len(websocket.sent) == 3, "all is sent")
    assert websocket.types == ["connection_established", "new_message", "new_message"]
    manager.disconnect(id)
    manager.disconnect(id)
    assert not manager.active_connections
    assert await manager.broadcast(event()) == 0
    assert not await manager.send(id, event())
    assert manager.stats()["accepted"] == 1


async def test_broadcast_counts_who_wants_the_event() -> None:
    """Subscriptions and owners decide; the count is that of clients queued."""
    manager = ConnectionManager()
    for options in ({}, {"subscriptions": ["project_update"]}, {"owner_id": str(OWNER)}):
        await manager.connect(FakeWebSocket(), **options)
    assert await manager.broadcast(event()) == 1
    with pytest.raises(UnknownType):
        await manager.connect(FakeWebSocket(), subscriptions=["nonsense"])
    assert len(manager.active_connections) == 3


async def test_one_client_that_fails_or_hangs_harms_no_other() -> None:
    """A broken one is forgotten, a hanging one waits alone."""
    manager = ConnectionManager()
    broken, hanging, healthy = FakeWebSocket(), FakeWebSocket(), FakeWebSocket()
    for websocket in (broken, hanging, healthy):
        await manager.connect(websocket)
    await eventually(lambda: hanging.sent and broken.sent, "all are greeted")
    broken.failing = True
    hanging.reading.clear()
    for n in range(20):
        await manager.broadcast(event(str(n)))
    await eventually(lambda: len(healthy.sent) == 21, "the healthy one has all")
    await eventually(lambda: len(manager.active_connections) == 2, "the broken one is gone")
    assert len(hanging.sent) == 1
    hanging.reading.set()
    await eventually(lambda: len(hanging.sent) == 21, "the other one catches up")
    for id in list(manager.active_connections):
        manager.disconnect(id)


async def test_a_hanging_client_without_a_wire_is_bounded_too() -> None:
    """It gets resync in place of what was too much."""
    manager = ConnectionManager(settings(client_queue_events=10))
    websocket = FakeWebSocket()
    id = await manager.connect(websocket)
    await eventually(lambda: websocket.sent, "it is greeted")
    websocket.reading.clear()
    for n in range(100):
        await manager.broadcast(event(str(n)))
    websocket.reading.set()
    await eventually(lambda: "resync" in websocket.types, "it is told")
    await manager.broadcast(event("live"))
    await eventually(lambda: websocket.sent[-1]["data"].get("text") == "live", "it goes on")
    assert websocket.types.count("resync") == 1
    assert len(websocket.sent) < 20
    manager.disconnect(id)


async def test_a_slow_snapshot_is_not_the_clients_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it waits for us, events may overflow its queue: it gets resync, and no 1013."""
    monkeypatch.setattr(laggards, "STALL_SECONDS", 0.1)
    answered = asyncio.Event()

    class Feed(LocalFeed):
        async def snapshot(self, **selection: Any) -> AsyncIterator[SnapshotPart]:
            await answered.wait()
            yield SnapshotPart((), (), "s.1")

    manager = ConnectionManager(settings(client_queue_events=10), feed=Feed(settings()))
    websocket = FakeWebSocket()
    serving = asyncio.create_task(manager.run(websocket), name="endpoint")
    await websocket.inbox.put('{"type": "subscribe", "data": {"snapshot": true}}')
    await eventually(lambda: websocket.types[-1:] == ["subscribed"], "it is asked")
    for n in range(100):
        await manager.broadcast(event(str(n)))
    gap = next(iter(manager.hub.clients.values()))
    begun = asyncio.get_running_loop().time()
    assert gap.gap_at is not None
    await eventually(lambda: (gap.gap_at or 0) > begun + 0.3, "three times its patience is over")
    answered.set()
    await eventually(lambda: websocket.types[-2:] == ["snapshot", "resync"], "it is told")
    assert websocket.closed is None and manager.stats()["evicted"] == 0
    await websocket.inbox.put(None)
    await serving


async def test_run_serves_an_endpoint_of_the_hosts_own() -> None:
    """run() connects, answers and disconnects, also where there is only receive_text."""
    manager, websocket = ConnectionManager(), FakeWebSocket()
    serving = asyncio.create_task(manager.run(websocket), name="endpoint")
    await websocket.inbox.put('{"type": "ping", "data": {"timestamp": 5}}')
    await eventually(lambda: websocket.types[-1:] == ["pong"], "it answers")
    await websocket.inbox.put(None)
    await serving
    assert not manager.active_connections


@pytest.mark.filterwarnings("ignore:Using `httpx` with")
def test_starlettes_test_client_is_served() -> None:
    """A host's tests need no server: no transport is there, and frames come all the same."""
    from starlette.testclient import TestClient

    manager = ConnectionManager()

    async def live(websocket: WebSocket) -> None:
        await manager.run(websocket)

    with TestClient(Starlette(routes=[WebSocketRoute("/live", live)])) as client:
        with client.websocket_connect("/live") as websocket:
            assert websocket.receive_json()["type"] == "connection_established"
            websocket.send_json({"type": "ping", "data": {"timestamp": 1}})
            assert websocket.receive_json() == {"type": "pong", "data": {"timestamp": 1}}
    assert not manager.active_connections


async def test_a_relay_mounts_under_a_path() -> None:
    """Mounted at /live it serves /live/ws and /live/healthz."""
    import httpx
    from starlette.routing import Mount
    from websockets.asyncio.client import connect

    feed = LocalFeed(settings())
    relay = Relay(feed=feed, settings=settings())
    app = Starlette(routes=[Mount("/live", relay.app)], lifespan=relay.lifespan)
    async with serve(app) as server, httpx.AsyncClient() as http:
        assert (await http.get(server.http + "/live/healthz")).json()["status"] == "ok"
        async with connect(f"ws://127.0.0.1:{server.port}/live/ws") as websocket:
            assert json.loads(await websocket.recv())["type"] == "connection_established"
            # Mounted too, frames go straight to the transport.
            (client,) = relay.manager.hub.clients.values()
            assert client.wire is not None


async def test_handlers_hear_what_they_ask_for_and_fail_alone() -> None:
    """Type and data select; an error is counted and the next event handled."""
    feed = LocalFeed(settings())
    relay = Relay(feed=feed, settings=settings())
    heard: list[str] = []

    @relay.on("new_message", role="assistant")
    async def notify(event: NewMessage) -> None:
        heard.append(event.data.text)
        if event.data.text == "bad":
            raise ValueError(event.data.text)

    async with relay:
        for text, role in (
            ("a", "assistant"),
            ("b", "user"),
            ("bad", "assistant"),
            ("c", "assistant"),
        ):
            feed.publish(created(message(text, role=role)))
        await eventually(lambda: len(heard) == 3, "three are heard")
        assert heard == ["a", "bad", "c"]
        await eventually(
            lambda: relay.health()[1]["handlers"] == {"handled": 2, "failed": 1, "dropped": 0},
            "they are counted",
        )
    with pytest.raises(ValueError, match="nonsense"):
        relay.on("nonsense")


async def test_a_handler_that_is_too_slow_loses_events_and_holds_up_nobody() -> None:
    """Its queue is bounded and what it loses is counted."""
    feed = LocalFeed(settings())
    relay = Relay(feed=feed, settings=settings())
    block = asyncio.Event()

    @relay.on("new_message")
    async def slow(event: NewMessage) -> None:
        await block.wait()

    async with relay:
        for n in range(listeners_module.HANDLER_QUEUE + 50):
            feed.publish(created(message(str(n), n)))
        assert relay.health()[1]["handlers"]["dropped"] >= 49


async def test_events_go_on_from_a_cursor_without_a_gap() -> None:
    """An iterator that is slower than the memory is long reads on from the feed."""
    chosen = settings(replay_events=50)
    feed = LocalFeed(settings(replay_events=5000))
    async with Relay(feed=feed, settings=chosen) as relay:
        feed.publish(created(*(message(str(n), n) for n in range(1, 11))))
        start = str(feed._cursor(4))
        seqs: list[int] = []
        async for item in relay.events(since=start):
            assert isinstance(item, NewMessage)
            seqs.append(item.data.seq)
            if len(seqs) == 3:
                feed.publish(created(*(message(str(n), n) for n in range(11, 501))))
            if item.data.seq == 500:
                break
    assert sorted(set(seqs)) == list(range(5, 501))


async def test_what_a_local_feed_keeps_is_bounded_in_bytes_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Long messages shorten what can be repeated; whoever was before it is told of the gap."""
    monkeypatch.setattr("conv_realtime.core.log.MAX_BYTES", 100_000)
    feed = LocalFeed(settings())
    feed.publish(created(*(message("x" * 10_000, n) for n in range(10))))
    kept = [change.row for change in (await feed.since(str(feed._cursor(7)))).changes]
    assert len(kept) == 3
    assert (await feed.since(str(feed._cursor(6)))).resync
    feed.publish(created(message("x" * 200_000, 10)))
    assert len((await feed.since(str(feed._cursor(10)))).changes) == 1, "one is always kept"


async def test_an_iterator_that_falls_behind_while_it_catches_up_gets_on() -> None:
    """What it has read from the feed once it does not read again, however short the memory is."""
    feed = LocalFeed(settings(replay_events=5000))
    async with Relay(feed=feed, settings=settings(replay_events=50)) as relay:
        start = str(feed._cursor(0))
        feed.publish(created(*(message(str(n), n) for n in range(1, 601))))
        seqs: list[int] = []
        async for item in relay.events(since=start):
            assert isinstance(item, NewMessage)
            seqs.append(item.data.seq)
            if item.data.seq == 100:
                feed.publish(created(*(message(str(n), n) for n in range(601, 661))))
            if item.data.seq == 660:
                feed.publish(created(message("the end", 661)))
            if item.data.seq == 661:
                break
    assert seqs == list(range(1, 662))


async def test_trouble_while_catching_up_is_told_once_and_waited_out(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that is away ends no iteration, and the log says why nothing comes."""
    monkeypatch.setattr(listeners_module, "pauses_between_attempts", lambda: repeat(0.0))
    feed = LocalFeed(settings(replay_events=5000))
    since, failures = feed.since, iter(range(3))

    async def sometimes(cursor: str, limit: int = 500) -> Page:
        if next(failures, None) is not None:
            raise StoreError("changes_since", "ConnectError", "no answer", retryable=True)
        return await since(cursor, limit)

    monkeypatch.setattr(feed, "since", sometimes)
    async with Relay(feed=feed, settings=settings(replay_events=50)) as relay:
        start = str(feed._cursor(0))
        feed.publish(created(*(message(str(n), n) for n in range(1, 101))))
        events = relay.events(since=start)
        assert (await anext(events)).type == "new_message"
        await events.aclose()
    assert [record.getMessage() for record in caplog.records if "events" in record.msg] == [
        "events cannot be read: changes_since: ConnectError: no answer"
    ]


async def test_events_of_an_unknown_cursor_begin_with_resync() -> None:
    """A gap that cannot be closed is said, then live events follow."""
    feed = LocalFeed(settings())
    async with Relay(feed=feed, settings=settings()) as relay:
        events = relay.events(since="other.1")
        assert isinstance(await anext(events), Resync)
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        feed.publish(changed(conversation(owner=OTHER)))
        assert (await waiting).type == "conversation_update"
        await events.aclose()


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


async def test_a_feed_that_breaks_its_contract_is_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An error nobody foresaw shows in health, and the next run goes on."""
    monkeypatch.setattr(service_module, "_RESTART_SECONDS", 0.05)

    class Faulty(LocalFeed):
        runs = 0

        async def run(self, on_page: Any) -> None:
            self.runs += 1
            if self.runs < 3:
                raise RuntimeError("broken")
            await super().run(on_page)

    feed = Faulty(settings())
    async with Relay(feed=feed, settings=settings()) as relay:
        await eventually(lambda: relay.health()[0] == 200, "it runs")
        assert feed.runs == 3


async def test_what_a_feed_missed_between_two_runs_is_a_gap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It begins again at the head: clients cannot know what came before, so they are told."""
    monkeypatch.setattr(service_module, "_RESTART_SECONDS", 0.0)
    breaking = asyncio.Event()

    class Faulty(LocalFeed):
        async def run(self, on_page: Any) -> None:
            if breaking.is_set():
                return await super().run(on_page)
            on_page(Page((), self._cursor()))
            await breaking.wait()
            raise RuntimeError("broken")

    feed, websocket = Faulty(settings()), FakeWebSocket()
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


async def test_iterating_passes_over_what_was_forgotten() -> None:
    """Whoever begins before it hears that it is gone, and nothing of what it said."""
    talk = conversation()
    gone = talk.model_copy(update={"revision": 9, "deleted_at": talk.updated_at})
    feed = LocalFeed(settings())
    async with Relay(feed=feed, settings=settings()) as relay:
        start = feed._cursor()
        feed.publish([*created(talk, message("a secret", of=talk)), *changed(gone)])
        async for event in relay.events(start):
            assert event.type == "conversation_deleted"
            break


async def test_a_local_page_can_be_gone_on_from_anywhere() -> None:
    """Each of its places gives what is behind it."""
    feed = LocalFeed(settings())
    start = feed._cursor()
    feed.publish(created(*(message(str(number), number) for number in range(5))))
    page = await feed.since(start, limit=4)
    assert page.more and len(page.places) == 4
    for number, (change, place) in enumerate(page.placed(start), start=1):
        assert change is page.changes[number - 1]
        assert len((await feed.since(place)).changes) == 5 - number


async def test_iterating_goes_on_within_a_page() -> None:
    """Behind any of its events, where the feed tells the places; else from its beginning."""
    rows = created(*(message(str(number), number) for number in range(4)))
    places = [f"s.8-3-{number}-1" for number in range(4)]
    for told, since, expected in (
        (places, places[1], ["2", "3"]),
        (places, "s.9", []),
        ((), "s.7", ["0", "1", "2", "3"]),
    ):
        async with Relay(feed=LocalFeed(settings()), settings=settings()) as relay:
            relay.manager.hub.take(Page((), "s.7"))
            relay.manager.hub.take(Page(rows, "s.9", places=told))
            relay.manager.hub.take(Page(created(message("end", 9)), "s.10"))
            heard: list[Any] = []
            async for event in relay.events(since):
                heard.append(event.data)
                if heard[-1].text == "end":
                    break
            assert [data.text for data in heard] == [*expected, "end"]
            assert [data.cursor for data in heard][-2:-1] in ([], ["s.9"])


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


async def test_health_is_degraded_while_nothing_can_be_stored() -> None:
    """Rows wait in the files: nothing is lost, and somebody should look."""
    ingest = {"files": 1, "watcher": "ok", "last_error": "messages: ConnectError"}
    async with Relay(feed=LocalFeed(settings()), ingest_health=lambda: ingest) as relay:
        answer, body = relay.health()
    assert (answer, body["status"]) == (200, "degraded")
