"""Code in the relay's process: handlers, and iterating from a cursor without a gap."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from itertools import repeat
from typing import Any

import pytest

from conv_realtime.errors import StoreError
from conv_realtime.events import MessageUpdate, NewMessage, Resync
from conv_realtime.ports import Page
from conv_realtime.relay import LocalFeed, Relay
from conv_realtime.relay import listeners as listeners_module
from tests.relay.hosted import give_up_by_cancelling
from tests.relay.rows import OTHER, changed, conversation, created, message
from tests.relay.serving import eventually, settings


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


async def test_nobody_in_the_process_hears_what_is_older_than_what_was_told() -> None:
    """Of a row: neither a handler nor who iterates."""
    feed = LocalFeed(settings())
    relay = Relay(feed=feed, settings=settings())
    heard: list[int] = []

    @relay.on("message_update")
    async def note(event: MessageUpdate) -> None:
        heard.append(event.data.revision)

    async with relay, aclosing(relay.events()) as events:
        reading = asyncio.create_task(_revisions(events, 2), name="reading")
        await asyncio.sleep(0)
        for revision in (5, 3, 6):
            feed.publish(changed(message("a", revision=revision)))
        assert await reading == [5, 6]
        await eventually(lambda: heard == [5, 6], "handlers hear the same")


async def test_who_iterates_finds_a_cursor_in_each_event() -> None:
    """A file's change has none: it is for handlers, and for clients that ask for it."""
    feed = LocalFeed(settings())
    relay = Relay(feed=feed, settings=settings())
    async with relay, aclosing(relay.events()) as events:
        reading = asyncio.create_task(_revisions(events, 1), name="reading")
        await asyncio.sleep(0)
        feed.file_changed("/x.jsonl", "modified", 10)
        feed.publish(changed(message("a", revision=5)))
        assert await reading == [5]


async def _revisions(events: AsyncIterator[Any], count: int) -> list[int]:
    return [(await anext(events)).data.revision for _ in range(count)]


async def test_a_handler_may_wait_for_what_is_cancelled() -> None:
    """That is an error of the one event; the next is handled."""
    feed = LocalFeed(settings())
    relay = Relay(feed=feed, settings=settings())

    @relay.on("new_message")
    async def wait_in_vain(event: NewMessage) -> None:
        if event.data.text == "bad":
            gone = asyncio.get_running_loop().create_future()
            gone.cancel()
            await gone

    async with relay:
        feed.publish(created(message("bad")))
        feed.publish(created(message("good", 2)))
        await eventually(
            lambda: relay.health()[1]["handlers"] == {"handled": 1, "failed": 1, "dropped": 0},
            "both are counted",
        )


async def test_a_handler_may_use_what_cancels_its_task_for_a_timeout() -> None:
    """As older libraries do, and never take it back: the next event is handled all the same."""
    feed = LocalFeed(settings())
    relay = Relay(feed=feed, settings=settings())

    @relay.on("new_message")
    async def give_up(event: NewMessage) -> None:
        await give_up_by_cancelling()

    async with relay:
        feed.publish(created(message("one")))
        feed.publish(created(message("two", 2)))
        await eventually(lambda: relay.health()[1]["handlers"]["handled"] == 2, "both are handled")


@pytest.mark.parametrize("instead", [None, OSError], ids=["nothing", "an error"])
async def test_a_handler_that_keeps_its_cancellation_holds_up_no_end(
    instead: type[Exception] | None,
) -> None:
    """Whatever it does instead, the relay can be left."""
    feed = LocalFeed(settings())
    relay = Relay(feed=feed, settings=settings())
    begun = asyncio.Event()

    @relay.on("new_message")
    async def deaf(event: NewMessage) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if instead is not None:
                raise instead from None

    async with asyncio.timeout(10):
        async with relay:
            feed.publish(created(message("a")))
            await begun.wait()


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


async def test_what_waits_for_a_handler_is_bounded_in_bytes_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thousand long messages would be a gigabyte; when they are handled others are heard."""
    monkeypatch.setattr(listeners_module, "HANDLER_BYTES", 100_000)
    feed = LocalFeed(settings())
    relay = Relay(feed=feed, settings=settings())
    go_on = asyncio.Event()
    heard: list[int] = []

    @relay.on("new_message")
    async def slow(event: NewMessage) -> None:
        await go_on.wait()
        heard.append(event.data.seq)

    async with relay:
        for n in range(10):
            feed.publish(created(message("x" * 10_000, n)))
        assert relay.health()[1]["handlers"]["dropped"] == 6
        go_on.set()
        await eventually(lambda: heard == [0, 1, 2, 3], "what waited is handled")
        feed.publish(created(message("short", 10)))
        await eventually(lambda: heard[4:] == [10], "and what comes then")
        go_on.clear()
        for n in range(10):
            feed.publish(created(message("y" * 10_000, n)))
    go_on.set()
    async with relay:  # what still waited is forgotten, and counts no more
        feed.publish(created(message("z" * 200_000, 11)))
        await eventually(lambda: heard[5:] == [11], "one is never too long")


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
    talk, other = conversation(), conversation("two")
    gone = talk.model_copy(update={"revision": 9, "deleted_at": talk.updated_at})
    feed.publish([*changed(gone), *created(*(message("hi", n, of=other) for n in range(10)))])
    assert len((await feed.since(str(feed._cursor(10)))).changes) == 12, "room is made by erasing"


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


async def test_an_iterator_that_is_closed_is_forgotten_at_once() -> None:
    """Not when the garbage is collected: nobody listens any more."""
    feed = LocalFeed(settings())
    async with Relay(feed=feed, settings=settings()) as relay:
        hub = relay.manager.hub
        start, before = str(feed._cursor()), len(hub.appended)
        feed.publish(created(message("a")))
        events = relay.events(since=start)
        assert (await anext(events)).type == "new_message"
        assert len(hub.appended) == before + 1
        await events.aclose()
        assert len(hub.appended) == before and not hub.iterators


async def test_iterating_ends_when_the_relay_is_left() -> None:
    """Behind what was told by then: nobody waits for a relay that is not there."""
    feed = LocalFeed(settings())

    async def read(relay: Relay) -> list[str]:
        return [event.type async for event in relay.events()]

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        async with Relay(feed=feed, settings=settings()) as relay:
            reading = tasks.create_task(read(relay))
            await asyncio.sleep(0)
            feed.publish(created(message("a")))
    assert reading.result() == ["new_message"]


async def test_iterating_ends_in_the_middle_of_trouble_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was not caught up with by then is left: what comes behind it would hide the gap."""
    monkeypatch.setattr(listeners_module, "pauses_between_attempts", lambda: repeat(0.001))
    feed, asked = LocalFeed(settings()), asyncio.Event()

    async def away(cursor: str | None, limit: int = 500) -> Page:
        asked.set()
        raise StoreError("changes_since", "ConnectError", "no answer", retryable=True)

    monkeypatch.setattr(feed, "since", away)

    async def read(relay: Relay) -> list[Any]:
        return [event async for event in relay.events(since="other.1")]

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        async with Relay(feed=feed, settings=settings()) as relay:
            reading = tasks.create_task(read(relay))
            await asked.wait()
            feed.publish(created(message("a")))
    assert reading.result() == []


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
