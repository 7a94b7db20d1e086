"""The supabase feed in trouble: a cut, an outage, silence, odd answers. Nothing is missed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import psycopg
import pytest
import respx
from pydantic import SecretStr
from supabase import AsyncClientOptions, acreate_client

from conv_realtime.core.pauses import pauses_between_attempts
from conv_realtime.edges.feed import SupabaseFeed, wakeups
from conv_realtime.edges.feed.supabase import ASKED_AT_ONCE
from conv_realtime.errors import StoreError
from conv_realtime.ports import Page
from conv_realtime.relay import Relay
from conv_realtime.testing.supabase import SupabaseLocal
from tests.relay.proxy import Proxy
from tests.relay.rows import conversation, message, project
from tests.relay.serving import eventually, settings
from tests.relay.test_supabase_feed import Reader, client_of, feed_of, messages_of, write


@asynccontextmanager
async def behind_proxy(local: Any, **values: Any) -> AsyncIterator[tuple[Proxy, Reader, Any]]:
    """Run a feed that reaches the local Supabase through a proxy, and a writer that needs none."""
    parts = urlsplit(local.url)
    async with Proxy.to(parts.hostname or "", parts.port or 0) as proxy:
        chosen = settings(
            supabase_url=f"http://127.0.0.1:{proxy.port}",
            supabase_key=SecretStr(local.secret_key),
            **{"reconcile_interval": 60.0, **values},
        )
        async with Reader.run(SupabaseFeed(chosen)) as reader:
            async with client_of(local, local.secret_key) as client:
                yield proxy, reader, client


async def test_after_a_cut_it_joins_again_and_reads_what_it_missed(
    local_supabase: Any, owner: Any
) -> None:
    """Rows written while the line is down arrive with the next join."""
    me = UUID(owner.id)
    talk = conversation(owner=me)
    async with behind_proxy(local_supabase) as (proxy, reader, client):
        proxy.open = False
        proxy.cut()
        await eventually(lambda: reader.feed.health().state != "live", "the loss is noticed")
        await write(client, project(owner=me), talk, message("missed", of=talk))
        proxy.open = True
        await eventually(lambda: messages_of(reader, me), "what was missed arrives")
        await eventually(lambda: reader.feed.health().state == "live", "it is live again")
        await write(client, message("live", 2, of=talk))
        await eventually(lambda: len(messages_of(reader, me)) == 2, "and so does what follows")
        assert not any(page.resync for page in reader.pages)


async def test_a_dead_wake_up_channel_costs_time_and_no_data(
    local_supabase: Any, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket that stays open and says nothing is found out by reading, and replaced."""
    me = UUID(owner.id)
    talk = conversation(owner=me)
    async with behind_proxy(local_supabase, reconcile_interval=0.3) as (proxy, reader, client):
        accepted = proxy.accepted
        wake = reader.feed._wakeups
        assert wake is not None
        monkeypatch.setattr(wake, "_wake", lambda payload: None)
        await write(client, project(owner=me), talk, message(of=talk))
        await eventually(lambda: messages_of(reader, me), "the row is read without a wake-up")
        monkeypatch.undo()
        await eventually(lambda: proxy.accepted > accepted, "the connection is replaced")
        await eventually(lambda: reader.feed.health().state == "live", "it is live again")


async def test_connections_are_renewed_before_supabase_ends_them(
    local_supabase: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is old enough gives way to a new one, and nothing is said about it."""
    monkeypatch.setattr(wakeups, "MAX_AGE_SECONDS", 0.1)
    async with behind_proxy(local_supabase) as (proxy, reader, _):
        accepted = proxy.accepted
        await eventually(lambda: proxy.accepted > accepted + 1, "it is renewed")
        await eventually(lambda: reader.feed.health().state == "live", "it is live")


async def test_nothing_is_left_behind_when_it_stops(local_supabase: Any) -> None:
    """Neither tasks of ours nor of realtime-py live on."""
    before = asyncio.all_tasks()
    async with Reader.run(
        SupabaseFeed(
            settings(
                supabase_url=local_supabase.url,
                supabase_key=SecretStr(local_supabase.secret_key),
                reconcile_interval=60.0,
            )
        )
    ):
        pass
    await eventually(lambda: asyncio.all_tasks() <= before, "all tasks have ended")


def feed_at(url: str) -> SupabaseFeed:
    """Return a feed whose Supabase is an HTTP fake, and no Realtime at all."""
    return SupabaseFeed(settings(supabase_url=url, supabase_key=SecretStr("sb_secret_x")))


@pytest.mark.parametrize(
    ("answer", "code", "retryable"),
    [
        (httpx.Response(503, json={"code": "PGRST001", "message": "x"}), "PGRST001", True),
        (httpx.Response(500, json={"code": "57014", "message": "timeout"}), "57014", True),
        (httpx.Response(404, json={"code": "PGRST202", "message": "none"}), "PGRST202", False),
        (httpx.Response(403, json={"code": "42501", "message": "no"}), "42501", False),
        (httpx.Response(500, json={"code": "54001", "message": "deep"}), "54001", False),
        (httpx.Response(502, text="<html>bad gateway</html>"), "502", True),
        (httpx.Response(200, json={"changes": [{"row": {}}]}), "KeyError", False),
        (httpx.Response(200, json={"changes": {}}), "KeyError", False),
        (httpx.Response(200, json=None), "TypeError", False),
        (httpx.Response(200, text="<html>sign in</html>"), "200", True),
        (httpx.Response(429, json={"message": "slow down"}), "unknown", True),
        (httpx.Response(429, text="slow down"), "429", True),
        (
            httpx.Response(401, json={"code": "PGRST303", "message": "JWT expired"}),
            "PGRST303",
            False,
        ),
        (httpx.ConnectError("refused"), "ConnectError", True),
        (httpx.ReadTimeout("late"), "ReadTimeout", True),
    ],
)
async def test_every_failure_is_a_store_error(answer: Any, code: str, retryable: bool) -> None:
    """Whatever the other side says, callers see one kind of error that says what to do."""
    with respx.mock(assert_all_called=False) as fake:
        fake.post("http://fake.test/rest/v1/rpc/changes_since").mock(side_effect=[answer])
        feed = feed_at("http://fake.test")
        async with feed._connected():
            with pytest.raises(StoreError) as failed:
                await feed.since("s.1")
    assert failed.value.code == code
    assert failed.value.retryable is retryable


@pytest.mark.parametrize("table", ["conversations", "messages"])
@pytest.mark.parametrize(
    "answer", [httpx.Response(503, headers={"Retry-After": "7"}), httpx.ConnectError("refused")]
)
async def test_a_snapshot_asks_once(table: str, answer: Any) -> None:
    """supabase-py asks again by itself for seven seconds: whoever waits would be told that late."""
    head = {"changes": [], "cursor": "s.1", "more": False, "resync": False}
    rows = [conversation().model_dump(mode="json")]
    with respx.mock(base_url="http://fake.test/rest/v1", assert_all_called=False) as fake:
        fake.post("/rpc/changes_since").mock(httpx.Response(200, json=head))
        fake.get("/projects").mock(httpx.Response(200, json=[]))
        fake.get("/conversations").mock(httpx.Response(200, json=rows))
        asked = fake.get(f"/{table}").mock(side_effect=[answer])
        feed = feed_at("http://fake.test")
        async with feed._connected():
            with pytest.raises(StoreError):
                async for _ in feed.snapshot(
                    owner=None, conversations=None, projects=None, messages=9
                ):
                    pass
    assert asked.call_count == 1


async def test_a_lent_client_without_a_timeout_is_not_waited_for_without_end(
    local_supabase: Any,
) -> None:
    """Over a dead line an answer never comes, and the client would wait for it."""
    async with Proxy.to("127.0.0.1", urlsplit(local_supabase.url).port or 0) as proxy:
        proxy.silent = True
        key = local_supabase.secret_key
        async with httpx.AsyncClient(timeout=None) as http:
            options = AsyncClientOptions(httpx_client=http, auto_refresh_token=False)
            client = await acreate_client(f"http://127.0.0.1:{proxy.port}", key, options=options)
            feed = SupabaseFeed(settings(request_timeout=0.1), client=client)
            with pytest.raises(StoreError) as failed:
                await feed.since(None)
    assert failed.value.retryable


async def test_news_do_not_wait_for_a_crowd_that_comes_back() -> None:
    """What clients have missed is read for some of them at a time."""
    held, asked, pages = asyncio.Event(), list[str](), list[Page]()
    head = {"changes": [], "cursor": "s.2", "more": False, "resync": False}

    async def answer(request: httpx.Request) -> httpx.Response:
        cursor = json.loads(request.content)["cursor"]
        if cursor == "s.1":
            asked.append(cursor)
            await held.wait()
        return httpx.Response(200, json=head)

    with respx.mock(base_url="http://fake.test/rest/v1") as fake:
        fake.post("/rpc/changes_since").mock(side_effect=answer)
        feed = feed_at("http://fake.test")
        async with feed._connected(), asyncio.TaskGroup() as crowd:
            for _ in range(3 * ASKED_AT_ONCE):
                crowd.create_task(feed.since("s.1"))
            await eventually(lambda: len(asked) >= ASKED_AT_ONCE, "the first ones are read for")
            await feed._read(pages.append)
            assert (len(asked), len(pages)) == (ASKED_AT_ONCE, 1)
            held.set()
    assert len(asked) == 3 * ASKED_AT_ONCE


async def test_before_it_runs_it_says_so() -> None:
    """Without a connection there is nothing to ask."""
    with pytest.raises(StoreError, match="not running"):
        await feed_at("http://fake.test").since("s.1")


def test_pauses_double_to_a_bound() -> None:
    """Retries are data: seconds to wait, spread a little."""
    pauses = pauses_between_attempts(1.0, 8.0)
    for expected in (1, 2, 4, 8, 8):
        assert expected * 0.75 <= next(pauses) <= expected * 1.25


async def test_a_row_that_this_version_cannot_read_is_left_out_and_told(
    supabase_local: SupabaseLocal, caplog: pytest.LogCaptureFixture
) -> None:
    """What comes behind it arrives; health counts it and the log names it until it can be read."""
    me = UUID(supabase_local.owner_id)
    talk = conversation(owner=me)
    odd = message("odd words", 2, of=talk)
    async with client_of(supabase_local, supabase_local.secret_key) as client:
        await write(client, project(owner=me), talk, message("1", 1, of=talk), odd)
        feed, relay = feed_of(supabase_local), Relay(feed=feed_of(supabase_local))
        async with Reader.run(feed) as reader, relay:
            with psycopg.connect(supabase_local.db_url) as newer:
                newer.execute("alter table public.messages drop constraint messages_role_check")
                newer.execute("update public.messages set role = 'critic' where seq = 2")
            await write(client, message("3", 3, of=talk))
            await eventually(lambda: messages_of(reader, me), "the message behind it arrives")
            assert [row.text for row in messages_of(reader, me)] == ["3"]
            assert feed.health().state == "live"
            await eventually(lambda: "unreadable" in relay.health()[1]["feed"], "the relay says so")
            code, body = relay.health()
            assert (code, body["feed"]["unreadable"]) == (200, 1)
            wanted: dict[str, Any] = {"owner": me, "conversations": None, "projects": None}
            parts = [part async for part in feed.snapshot(**wanted, messages=9)]
            assert [row.text for part in parts for row in part.messages] == ["1", "3"]
            told = [record.getMessage() for record in caplog.records if "left out" in record.msg]
            assert len(told) == 2, "once by each feed"
            assert all(str(odd.id) in line and "critic" not in line for line in told)

            await write(client, odd)
            await eventually(lambda: len(messages_of(reader, me)) == 2, "it can be read")
            assert [row.text for row in messages_of(reader, me)] == ["3", "odd words"]
            assert feed.health().unreadable == 0
            await eventually(lambda: relay.health()[1]["status"] == "ok", "and all is well")


async def test_a_snapshot_that_is_under_way_when_the_feed_stops_is_a_store_error(
    supabase_local: SupabaseLocal,
) -> None:
    """Who asked for it is told, as of every answer that does not come."""
    me = UUID(supabase_local.owner_id)
    talks = [conversation(f"session {number}", owner=me) for number in range(3)]
    async with client_of(supabase_local, supabase_local.secret_key) as client:
        await write(client, project(owner=me), *talks)
    feed = feed_of(supabase_local)
    async with Reader.run(feed):
        parts = feed.snapshot(owner=me, conversations=None, projects=None, messages=9)
        await anext(parts)
    with pytest.raises(StoreError) as told:
        async for _ in parts:
            pass
    assert (told.value.code, told.value.retryable) == ("stopped", True)


async def test_a_snapshot_that_breaks_off_among_messages_is_a_store_error(
    supabase_local: SupabaseLocal,
) -> None:
    """Several conversations are read at once; what one of them meets is told as ever."""
    me = UUID(supabase_local.owner_id)
    talks = [conversation(session, owner=me) for session in "ab"]
    async with client_of(supabase_local, supabase_local.secret_key) as client:
        await write(client, project(owner=me), *talks, *(message("x", of=talk) for talk in talks))
    feed = feed_of(supabase_local)
    wanted: dict[str, Any] = {"owner": me, "conversations": None, "projects": None, "messages": 9}
    faults = supabase_local.faults
    for fault in (faults.disconnect, faults.captive_portal):
        for table in ("conversations", "messages"):
            async with Reader.run(feed):
                with fault(path=f"/rest/v1/{table}"), pytest.raises(StoreError) as told:
                    async for _ in feed.snapshot(**wanted):
                        pass
            assert told.value.retryable
