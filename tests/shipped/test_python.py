"""`connect`, the client of `/ws` for Python, against real servers."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from conv_realtime import (
    ConfigError,
    ConversationDeleted,
    ConversationUpdate,
    FeedError,
    Live,
    MessageDeleted,
    NewConversation,
    NewMessage,
    Resync,
    Rows,
    Snapshot,
    connect,
)
from conv_realtime.core.envelope import as_json, conversation_data, message_data
from conv_realtime.core.pauses import Returns
from conv_realtime.edges.live import client as live_client
from conv_realtime.edges.live import opening
from conv_realtime.events import ResyncData
from conv_realtime.models import Message
from tests.relay.proxy import Proxy
from tests.relay.rows import changed, conversation, created, message
from tests.relay.serving import DEADLINE, Served, eventually
from tests.shipped.files import TALK, Files
from tests.shipped.scripted import Scripted


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Come back sooner than people need it."""
    monkeypatch.setattr(live_client, "PAUSES", (0.01, 0.1))


async def following(live: Live) -> Any:
    """Return the next event."""
    async with asyncio.timeout(DEADLINE):
        return await anext(live)


def row(number: int, text: str | None = None) -> Message:
    """Return a message of the conversation."""
    return message(text or str(number), number, of=TALK)


@asynccontextmanager
async def behind_a_proxy(**values: Any) -> AsyncIterator[tuple[Served, Proxy, str]]:
    """Serve behind a line that can be cut; gives the address to connect to."""
    async with Served.run(**values) as served, Proxy.to("127.0.0.1", served.server.port) as proxy:
        yield served, proxy, f"ws://127.0.0.1:{proxy.port}/ws"


async def test_events_are_typed_and_begin_where_it_was_entered() -> None:
    """What is published after entering comes, as the kind that it is, with a cursor."""
    async with Served.run() as served:
        served.feed.publish(created(row(1)))
        async with connect(served.server.url) as live:
            served.feed.publish(created(row(2)))
            served.feed.publish(changed(row(2).model_copy(update={"deleted_at": TALK.created_at})))
            first, second = await following(live), await following(live)
            assert isinstance(first, NewMessage) and first.data.text == "2"
            assert isinstance(second, MessageDeleted) and second.data.id == row(2).id
            assert live.cursor == second.data.cursor


async def test_a_cut_line_loses_and_doubles_nothing() -> None:
    """What happens while the line is cut comes after it, in order, and nothing tells of a gap."""
    async with behind_a_proxy() as (served, proxy, url), connect(url) as live:
        texts = []
        for number in range(1, 13):
            if number % 4 == 0:
                proxy.cut()
            served.feed.publish(created(row(number)))
        for _ in range(12):
            event = await following(live)
            assert isinstance(event, NewMessage)
            texts.append(event.data.text)
        assert texts == [str(number) for number in range(1, 13)]
        assert proxy.accepted >= 2


async def test_a_cursor_outlives_the_client() -> None:
    """A program that kept the cursor goes on behind the last event that it saw."""
    async with Served.run() as served:
        async with connect(served.server.url) as live:
            served.feed.publish(created(row(1), row(2)))
            await following(live)
            cursor = live.cursor
        async with connect(served.server.url, subscribe={"since": cursor}) as live:
            assert (await following(live)).data.text == "2"


async def test_a_server_that_forgot_is_a_gap_and_then_a_snapshot() -> None:
    """Another run of the server knows no old cursor: `Resync`, then everything anew."""
    rows = Rows()
    async with Served.run() as first, Proxy.to("127.0.0.1", first.server.port) as proxy:
        first.feed.attach(Files(row(1), row(2)))
        url = f"ws://127.0.0.1:{proxy.port}/ws"
        async with connect(url, subscribe={"snapshot": True}) as live:
            rows.apply(await following(live))
            assert [kept.text for kept in rows.messages(TALK.id)] == ["1", "2"]
            async with Served.run() as second:
                second.feed.attach(Files(row(2), row(3)))
                proxy.point_at("127.0.0.1", second.server.port)
                proxy.cut()
                gap, again = await following(live), await following(live)
                assert isinstance(gap, Resync) and isinstance(again, Snapshot)
                rows.apply(gap)
                rows.apply(again)
                assert [kept.text for kept in rows.messages(TALK.id)] == ["2", "3"]
                second.feed.publish(created(row(4)))
                rows.apply(await following(live))
                assert rows.messages(TALK.id)[-1].text == "4"


async def test_without_a_snapshot_a_gap_is_told_and_it_goes_on() -> None:
    """A cursor of nobody's is answered with where events go on from."""
    async with Served.run() as served:
        async with connect(served.server.url, subscribe={"since": "nobody.7"}) as live:
            gap = await following(live)
            assert isinstance(gap, Resync) and live.cursor == gap.data.cursor
            served.feed.publish(created(row(1)))
            assert (await following(live)).data.text == "1"


async def test_a_snapshot_that_was_cut_begins_anew_and_says_so() -> None:
    """Frames of half a snapshot are taken back by `Resync` before it comes from the start."""
    async with behind_a_proxy() as (served, proxy, url):
        served.feed.attach(Files(*(row(number, "x" * 200_000) for number in range(1, 9))))
        async with connect(url, subscribe={"snapshot": True}) as live:
            first = await following(live)
            assert isinstance(first, Snapshot) and first.data.more and live.cursor is None
            proxy.cut()
            rows = Rows()
            events: list[Any] = []
            while not (events and isinstance(events[-1], Snapshot) and not events[-1].data.more):
                events.append(await following(live))
                rows.apply(events[-1])
            assert [type(event) for event in events].count(Resync) == 1
            assert [kept.seq for kept in rows.messages(TALK.id)] == list(range(1, 9))


async def test_cancelling_loses_nothing() -> None:
    """Whoever gave up waiting gets the next event when they ask again."""
    async with Served.run() as served, connect(served.server.url) as live:
        for number in range(1, 6):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await anext(live)
            served.feed.publish(created(row(number)))
            assert (await following(live)).data.text == str(number)


async def test_cancelling_while_it_comes_back_loses_nothing() -> None:
    """The same while there is no connection at all."""
    async with behind_a_proxy() as (served, proxy, url), connect(url) as live:
        proxy.open = False
        proxy.cut()
        served.feed.publish(created(row(1)))
        for _ in range(5):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await anext(live)
        proxy.open = True
        assert (await following(live)).data.text == "1"


async def test_who_reads_nothing_is_told_of_the_gap() -> None:
    """What waits for it is bounded, here and at the server; beyond that there is `Resync`."""
    async with Served.run(client_queue_events=5, client_queue_bytes=100_000) as served:
        async with connect(served.server.url) as live:
            for number in range(1, 400):
                served.feed.publish(created(row(number, "x" * 100_000)))
                await asyncio.sleep(0)
            await eventually(lambda: served.relay.manager.hub.resyncs, "the server gives up on it")
            seen = [await following(live)]
            while getattr(seen[-1].data, "text", None) != "the end":
                if isinstance(seen[-1], Resync):  # there may be another gap behind this one
                    served.feed.publish(created(row(400 + len(seen), "the end")))
                seen.append(await following(live))
            assert Resync in map(type, seen)
            assert len(seen) < 399


async def test_a_fresh_token_is_asked_for_at_each_attempt() -> None:
    """A function gives one token after the other, as files do too; the server sees the newest."""
    tokens = ["wrong", "right\n", "right"]
    async with behind_a_proxy(ws_token=SecretStr("right")) as (served, _, url):
        async with connect(url, token=lambda: tokens.pop(0)) as live:
            assert len(tokens) == 1
            (client,) = served.relay.manager.hub.clients.values()
            served.relay.manager.hub.evict(client, 4401, "token expired")
            await asyncio.sleep(0)
            served.feed.publish(created(row(1)))
            assert (await following(live)).data.text == "1"
            assert tokens == []


async def test_a_refusal_is_an_error_and_not_tried_for_ever() -> None:
    """A wrong token, an expired one, a wrong filter and a wrong address each say what is wrong."""
    async with Served.run(ws_token=SecretStr("right")) as served:
        with pytest.raises(FeedError, match="401"):
            async with connect(served.server.url, token="wrong"):
                pass
        with pytest.raises(FeedError, match="401"):
            async with connect(served.server.url, token=lambda: "wrong"):
                pass
        with pytest.raises(FeedError, match="no such type: nonsense"):
            async with connect(served.server.url, subscribe={"types": ["nonsense"]}, token="right"):
                pass
        async with connect(served.server.url, token="right") as live:
            (client,) = served.relay.manager.hub.clients.values()
            served.relay.manager.hub.evict(client, 4401, "token expired")
            with pytest.raises(FeedError, match="expired"):
                await following(live)
    too_many = {"conversations": [UUID(int=number) for number in range(2000)]}
    for url, subscribe in (
        ("http://x/ws", {}),
        ("ws://x/ws", {"snapshot": "x"}),
        ("ws://x/ws", too_many),
    ):
        with pytest.raises(ConfigError):
            async with connect(url, subscribe=subscribe):
                pass


async def test_a_token_in_the_address_is_in_no_log_and_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither while nobody answers, nor where it is refused, nor of an address that is none."""
    caplog.set_level("DEBUG", logger="conv_realtime")
    async with Served.run(ws_token=SecretStr("right")) as served:
        with pytest.raises(FeedError) as refused:
            async with connect(f"{served.server.url}?token=sesame"):
                pass
    waiting = asyncio.create_task(
        connect("ws://u:sesame@127.0.0.1:1/ws?token=sesame").__aenter__(), name="test.connect"
    )
    await eventually(lambda: "no connection" in caplog.text, "it says that nobody is there")
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    told = [caplog.text, str(refused.value)]
    for url in ("http://x/ws?token=sesame", "ws://u:sesame@x\u2100/ws"):
        with pytest.raises(ConfigError) as wrong:
            async with connect(url):
                pass
        told += traceback.format_exception(wrong.value)
    assert "sesame" not in "".join(told)


async def test_a_server_that_goes_away_is_come_back_to(caplog: pytest.LogCaptureFixture) -> None:
    """`server_shutdown` and 1012 are no end; it waits for another one, and says so once."""
    async with Served.run() as first, Proxy.to("127.0.0.1", first.server.port) as proxy:
        url = f"ws://127.0.0.1:{proxy.port}/ws"
        async with connect(url) as live:
            waiting = asyncio.create_task(following(live), name="test.next")
            first.server.server.should_exit = True
            await eventually(lambda: "no connection" in caplog.text, "it says that nobody is there")
            async with Served.run() as second:
                proxy.point_at("127.0.0.1", second.server.port)
                assert isinstance(await waiting, Resync)
        assert caplog.text.count("no connection") == 1


@pytest.mark.parametrize("code", [1008, 1013])
async def test_who_is_sent_away_again_and_again_comes_ever_more_rarely(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than after a line that was cut, and longer each time, though it was live between."""
    pauses: list[float] = []

    class Kept(Returns):
        def after(self, code: int | None, lived: float, asked: float | None = None) -> float:
            pauses.append(super().after(code, lived, asked))
            return pauses[-1]

    monkeypatch.setattr(live_client, "PAUSES", (0.001, 600.0))
    monkeypatch.setattr(live_client, "Returns", Kept)

    async def end(server: Scripted) -> None:
        for closing in (1012, code, code, code, None):
            line = await server.line()
            await line.welcomes()
            await line.confirms()
            await line.says("new_message", **json.loads(as_json(message_data(row(1), "s.6"))))
            if closing is not None:
                await line.closes(closing)

    async with Scripted.run() as server, asyncio.TaskGroup() as group:
        group.create_task(end(server), name="test.server")
        async with connect(server.url) as live:
            for _ in range(5):
                await following(live)
    assert len(pauses) == 4
    for pause, most in zip(pauses, (0.001, 0.04, 0.08, 0.16), strict=True):
        assert most / 2 <= pause <= most


async def test_who_gives_up_waiting_comes_back_in_time_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pause goes on while nobody iterates: it does not begin anew each time somebody does."""
    monkeypatch.setattr(live_client, "PAUSES", (0.2, 0.2))
    async with behind_a_proxy() as (served, proxy, url), connect(url) as live:
        proxy.cut()
        served.feed.publish(created(row(1)))
        event = None
        async with asyncio.timeout(DEADLINE):
            while event is None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        event = await anext(live)
        assert isinstance(event, NewMessage) and event.data.text == "1"


async def test_a_dead_line_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line over which nothing comes any more is given up, though nobody has closed it."""
    monkeypatch.setattr(opening, "OPEN_SECONDS", 0.5)
    async with behind_a_proxy(heartbeat_seconds=0.1) as (served, proxy, url), connect(url) as live:
        waiting = asyncio.create_task(following(live), name="test.next")
        proxy.silent = True
        await eventually(lambda: proxy.accepted > 1, "it tries another line")
        served.feed.publish(created(row(1)))
        proxy.silent = False
        assert (await waiting).data.text == "1"


async def test_frames_of_the_older_form_are_understood() -> None:
    """A server that adds a timestamp to every frame is one like any other."""
    async with Served.run(ws_timestamp=True) as served, connect(served.server.url) as live:
        served.feed.publish(created(row(1)))
        assert (await following(live)).data.text == "1"


async def test_it_can_follow_something_else() -> None:
    """A new subscription holds from the present cursor on: nothing between is missed."""
    other = conversation("two")
    async with Served.run() as served:
        async with connect(served.server.url, subscribe={"conversations": [TALK.id]}) as live:
            served.feed.publish(created(message("elsewhere", 1, of=other), row(1)))
            assert (await following(live)).data.text == "1"
            await live.subscribe({"conversations": [other.id]})
            served.feed.publish(created(row(2), message("there", 2, of=other)))
            assert (await following(live)).data.text == "there"
            await live.subscribe({"snapshot": 0})
            assert isinstance(await following(live), Snapshot)


def test_rows_forget_no_deletion_and_show_no_hole() -> None:
    """Late events of a deleted message, and of one before the snapshot, change nothing."""
    rows = Rows(messages=2)

    def told(number: int, text: str, revision: int) -> NewMessage:
        kept = message(text, number, of=TALK, revision=revision)
        return NewMessage(data=message_data(kept, "c.1"))

    def shown(revision: int) -> Any:
        return conversation_data(conversation(revision=revision), "c.1").model_dump()

    snapshot = [told(number, "old", 10).data for number in (5, 6)]
    data: Any = {"conversations": [], "messages": snapshot, "more": False, "cursor": "c.1"}
    rows.apply(Snapshot.model_validate({"data": data}))
    rows.apply(told(6, "new", 12))
    rows.apply(told(6, "late", 11))
    rows.apply(told(4, "before", 13))
    assert [row.text for row in rows.messages(TALK.id)] == ["old", "new"]
    gone = {"id": row(5).id, "conversation_id": TALK.id, "revision": 14, "cursor": "c.2"}
    rows.apply(MessageDeleted.model_validate({"data": gone}))
    rows.apply(told(5, "late", 13))
    assert [row.text for row in rows.messages(TALK.id)] == ["new"]
    rows.apply(told(5, "again", 15))
    assert [row.text for row in rows.messages(TALK.id)] == ["again", "new"]
    rows.apply(NewConversation.model_validate({"data": shown(2)}))
    whole = {"id": TALK.id, "revision": 3, "cursor": "c.2"}
    rows.apply(ConversationDeleted.model_validate({"data": {**whole, "revision": 1}}))
    assert rows.conversations.keys() == {TALK.id}
    rows.apply(ConversationDeleted.model_validate({"data": whole}))
    rows.apply(ConversationUpdate.model_validate({"data": shown(2)}))
    assert (rows.conversations, rows.messages(TALK.id)) == ({}, [])
    rows.apply(ConversationUpdate.model_validate({"data": shown(3)}))
    assert rows.conversations.keys() == {TALK.id}
    rows.apply(told(5, "again", 15))
    rows.apply(told(6, "new", 15))
    half = {**data, "messages": [told(7, "half", 16).data], "more": True}
    rows.apply(Snapshot.model_validate({"data": half}))
    assert [row.text for row in rows.messages(TALK.id)] == ["again", "new"]
    rows.apply(Resync(data=ResyncData(reason="too_slow", cursor="c.3")))
    rows.apply(Snapshot.model_validate({"data": {**data, "messages": [told(8, "8", 17).data]}}))
    assert [row.text for row in rows.messages(TALK.id)] == ["8"]
    rows.apply(Snapshot.model_validate({"data": {**data, "messages": []}}))
    assert rows.messages(TALK.id) == []
