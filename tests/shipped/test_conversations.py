"""`conversations.js`: a conversation, or a user's list of them, with supabase-js alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import pytest
from supabase import AsyncClient

from conv_realtime.core.cursor import parse_cursor
from conv_realtime.local import LocalSupabase
from tests.clients.javascript import NEWEST, NODE_20, Flavour
from tests.conftest import Owner
from tests.node import NodeProgram
from tests.project import SupabaseProject
from tests.relay.proxy import Proxy
from tests.relay.rows import START, conversation, message, project
from tests.relay.test_supabase_feed import client_of, write
from tests.shipped.test_convergence import FOREIGN

pytestmark = pytest.mark.node

WITHIN = 30.0
QUICK = {"firstPauseMs": 20, "longestPauseMs": 200}
NEVER = {"reconcileMs": 600_000, "pollMs": 600_000, **QUICK}

flavours = pytest.mark.parametrize("flavour", [NODE_20, NEWEST], ids=["node20", "newest"])


class Page:
    """A program that follows with one client of supabase-js, as a page does."""

    def __init__(self, node: NodeProgram, url: str, key: str, tokens: list[str]) -> None:
        self.node = node
        self._supabase = {"name": "page", "url": url, "key": key, "tokens": tokens}

    async def begin(self, name: str, **options: Any) -> None:
        """Follow."""
        await self.node.do("follow", name=name, supabase=self._supabase, options=options)

    async def follow(self, name: str, **options: Any) -> None:
        """Follow; wait until rows are there."""
        await self.begin(name, **options)
        await self.node.do("ready", name=name)

    async def seen(self, name: str) -> dict[str, Any]:
        """What it told so far."""
        seen: dict[str, Any] = await self.node.do("seen", name=name)
        return seen

    async def becomes(self, name: str, status: str) -> dict[str, Any]:
        """Wait for a status; give what it told so far."""
        seen: dict[str, Any] = {}
        try:
            async with asyncio.timeout(WITHIN):
                while (seen := await self.seen(name))["status"] != status:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"{seen} and not {status}")
        return seen

    async def shows(self, name: str, talk: Any, *texts: str) -> None:
        """Wait until these are the texts of a conversation."""
        shown: list[str] | None = None
        try:
            async with asyncio.timeout(WITHIN):
                while shown != list(texts):
                    shown = await self.node.do("texts", name=name, conversation=str(talk.id))
                    await asyncio.sleep(0.01)
        except TimeoutError:
            pytest.fail(f"{shown} and not {texts}; {await self.seen(name)}")

    async def lists(self, name: str, *titles: str) -> None:
        """Wait until these are the titles."""
        listed: list[str] | None = None
        async with asyncio.timeout(WITHIN):
            while listed != sorted(titles):
                rows = await self.node.do("conversations", name=name)
                listed = sorted(row["title"] for row in rows)
                await asyncio.sleep(0.01)

    async def joins(self, *topics: str) -> None:
        """Wait until these are the topics that are joined."""
        async with asyncio.timeout(WITHIN):
            while await self.channels() != sorted(topics):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def channels(self) -> list[str]:
        """The topics that are joined, without what is the same in all of them."""
        channels = await self.node.do("channels", name="page")
        return sorted(topic.split(":")[2] for topic, state in channels if state == "joined")


@asynccontextmanager
async def page(
    supabase: Any, tokens: list[str], flavour: Flavour = NODE_20, port: int | None = None
) -> AsyncIterator[tuple[Page, AsyncClient]]:
    """Start a program and a writer; the program may go through a proxy on `port`."""
    url = supabase.url if port is None else f"http://127.0.0.1:{port}"
    async with (
        NodeProgram.run("shipped.mjs", oldest=flavour.node, SUPABASE_JS=flavour.package) as node,
        client_of(supabase, supabase.secret_key) as writer,
    ):
        yield Page(node, url, supabase.publishable_key, tokens), writer


@flavours
async def test_a_conversation_is_shown_and_stays_current(
    flavour: Flavour, supabase: SupabaseProject, member: Owner
) -> None:
    """Its last messages come first, then each change, at once and once."""
    me = UUID(member.id)
    talk, other = conversation("one", me), conversation("two", me)
    async with page(supabase, [member.token], flavour) as (shown, writer):
        await write(writer, project(owner=me), talk, other)
        await write(writer, *(message(str(n), n, of=talk) for n in (1, 2, 3)))
        await shown.follow("talk", conversation=str(talk.id), messages=2, **NEVER)
        await shown.shows("talk", talk, "2", "3")
        await shown.becomes("talk", "live")
        changes = (await shown.seen("talk"))["changes"]
        await write(writer, message("4", 4, of=talk), message("elsewhere", 4, of=other))
        await shown.shows("talk", talk, "2", "3", "4")
        await write(writer, message("three", 3, of=talk, revision=10))
        await write(writer, message("before", 1, of=talk, revision=11))
        await write(writer, message("4", 4, of=talk, revision=12, deleted_at=START))
        await shown.shows("talk", talk, "2", "three")
        # Each was broadcast and read, and told of once.
        assert (await shown.seen("talk"))["changes"] == changes + 3
        assert (await shown.seen("talk"))["errors"] == []


@pytest.mark.parametrize("held", ["/nothing", "/rpc/changes_since"])
async def test_a_conversation_that_is_forgotten_goes_with_its_messages(
    held: str, supabase: SupabaseProject, member: Owner
) -> None:
    """As soon as it is told; where that is lost, when it is read."""
    me = UUID(member.id)
    talk = conversation("one", me)
    async with page(supabase, [member.token]) as (shown, writer):
        await write(writer, project(owner=me), talk, message("1", 1, of=talk))
        await shown.follow("talk", conversation=str(talk.id), **NEVER)
        await shown.shows("talk", talk, "1")
        await shown.becomes("talk", "live")
        await shown.joins("conversation", "owner")
        await shown.node.do("hold", of=held)
        await write(writer, talk.model_copy(update={"metadata": {"forgotten": True}}))
        await shown.shows("talk", talk)
        await shown.lists("talk")
        await shown.node.do("release")
        assert (await shown.seen("talk"))["errors"] == []


@flavours
async def test_a_list_has_every_conversation_of_its_owner(
    flavour: Flavour, supabase: SupabaseProject, member: Owner
) -> None:
    """Others' are not in it; what appears comes, and what was forgotten goes."""
    me, stranger = UUID(member.id), UUID(supabase.owner())
    talks = [conversation(name, me) for name in ("one", "two")]
    async with page(supabase, [member.token], flavour) as (shown, writer):
        await write(writer, project(owner=me), project(owner=stranger))
        await write(writer, talks[0], conversation("theirs", stranger))
        await shown.follow("list", **NEVER)
        await shown.lists("list", "one")
        await shown.becomes("list", "live")
        await write(writer, talks[1], conversation("more of theirs", stranger))
        await shown.lists("list", "one", "two")
        rows = await shown.node.do("conversations", name="list")
        assert {row["project_name"] for row in rows} == {"app"}
        forgotten = {**talks[0].to_row(), "metadata": {"forgotten": True}}
        await writer.table("conversations").upsert([forgotten], on_conflict="id,owner_id").execute()
        await shown.lists("list", "two")


async def test_followers_share_channels_and_leave_none_behind(
    supabase: SupabaseProject, member: Owner
) -> None:
    """Two of one conversation and a list take two channels; the last one out leaves nothing."""
    me = UUID(member.id)
    talk = conversation("one", me)
    async with page(supabase, [member.token]) as (shown, writer):
        await write(writer, project(owner=me), talk, message("1", 1, of=talk))
        for name, options in (("a", {"conversation": str(talk.id)}), ("list", {})):
            await shown.follow(name, **options, **QUICK)
            await shown.becomes(name, "live")
        await shown.follow("b", conversation=str(talk.id), **QUICK)
        await shown.joins("conversation", "owner")
        await shown.node.do("end", name="a")
        await write(writer, message("2", 2, of=talk))
        await shown.shows("b", talk, "1", "2")
        await shown.shows("a", talk, "1")
        await shown.node.do("end", name="b")
        assert await shown.channels() == ["owner"]
        await shown.node.do("end", name="list")
        assert await shown.node.do("channels", name="page") == []
        asked = await shown.node.do("requests")
        await write(writer, message("3", 3, of=talk))
        await shown.follow("again", conversation=str(talk.id), **QUICK)
        await shown.shows("again", talk, "1", "2", "3")
        await shown.becomes("again", "live")
        assert await shown.node.do("requests") > asked
        for name in ("a", "b", "list"):
            assert (await shown.seen(name))["status"] == "closed"


async def test_a_lost_broadcast_costs_time_and_no_data(
    supabase: SupabaseProject, member: Owner
) -> None:
    """What nobody told of is read by the clock, and makes the channel be joined anew."""
    me = UUID(member.id)
    talk = conversation("one", me)
    async with page(supabase, [member.token]) as (shown, writer):
        await write(writer, project(owner=me), talk)
        often = {"reconcileMs": 200, "pollMs": 600_000, **QUICK}
        await shown.follow("talk", conversation=str(talk.id), **often)
        await shown.becomes("talk", "live")
        await shown.joins("conversation", "owner")
        await shown.node.do("lose", share=1)
        texts: list[str] = []
        # The first may still be found by a read that the join asked for.
        while "polling" not in (await shown.seen("talk"))["statuses"]:
            texts.append(str(len(texts) + 1))
            await write(writer, message(texts[-1], len(texts), of=talk))
            await shown.shows("talk", talk, *texts)
        await shown.node.do("lose", share=0)
        seen = await shown.becomes("talk", "live")
        assert seen["errors"] == []


async def test_a_cursor_that_is_not_known_means_fetching_anew(
    supabase: SupabaseProject, member: Owner
) -> None:
    """After `resync` rows are what the database has, and changes come as before."""
    me = UUID(member.id)
    talk = conversation("one", me)
    async with page(supabase, [member.token]) as (shown, writer):
        await write(writer, project(owner=me), talk, message("1", 1, of=talk))
        await shown.follow("talk", conversation=str(talk.id), **NEVER)
        await shown.becomes("talk", "live")
        await shown.node.do("answer", instead={"cursor": FOREIGN})
        await shown.node.do("lose", share=1)
        await write(writer, message("2", 2, of=talk))
        async with asyncio.timeout(WITHIN):  # the row, and `changed`
            while await shown.node.do("dropped") < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await shown.node.do("lose", share=0)
        await write(writer, message("3", 3, of=talk))
        await shown.shows("talk", talk, "1", "2", "3")
        await write(writer, message("4", 4, of=talk))
        await shown.shows("talk", talk, "1", "2", "3", "4")


async def test_what_is_announced_is_looked_for_until_it_is_there(
    supabase: SupabaseProject, member: Owner
) -> None:
    """`changed` runs ahead of what can be read while an older transaction is open."""
    me = UUID(member.id)
    async with page(supabase, [member.token]) as (shown, writer):
        await write(writer, project(owner=me), conversation("one", me))
        await shown.follow("list", **NEVER)
        await shown.becomes("list", "live")
        async with await psycopg.AsyncConnection.connect(supabase.db_url) as older:
            await older.execute("select pg_current_xact_id()")
            asked = await shown.node.do("requests")
            await write(writer, conversation("two", me))
            async with asyncio.timeout(WITHIN):
                while await shown.node.do("requests") < asked + 3:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await shown.lists("list", "one")
        await shown.lists("list", "one", "two")


async def test_what_changes_while_rows_are_fetched_is_not_lost(
    supabase: SupabaseProject, member: Owner
) -> None:
    """The answer is older than the changes that are read before it comes."""
    me = UUID(member.id)
    talk = conversation("one", me)
    async with page(supabase, [member.token]) as (shown, writer):
        await write(writer, project(owner=me), talk, message("1", 1, of=talk))
        await shown.follow("list", **NEVER)  # joins the owner's topic, so that changes are read
        await shown.becomes("list", "live")
        await shown.node.do("hold")
        await shown.begin("talk", conversation=str(talk.id), **NEVER)
        async with asyncio.timeout(WITHIN):
            while (await shown.node.do("holding"))["answers"] == 0:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            read = (await shown.node.do("holding"))["read"]
            await write(writer, message("2", 2, of=talk))
            while (await shown.node.do("holding"))["read"] == read:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (await shown.seen("talk"))["changes"] == 0
        await shown.node.do("release")
        await shown.shows("talk", talk, "1", "2")


async def test_an_answer_that_never_comes_is_not_waited_for(
    supabase: SupabaseProject, member: Owner
) -> None:
    """As over a line that died while the laptop slept: it is asked again, and says so."""
    me = UUID(member.id)
    talk = conversation("one", me)
    async with page(supabase, [member.token]) as (shown, writer):
        await write(writer, project(owner=me), talk, message("1", 1, of=talk))
        await shown.node.do("hold")
        await shown.begin("talk", conversation=str(talk.id), requestTimeoutMs=2000, **NEVER)
        async with asyncio.timeout(WITHIN):
            while (await shown.node.do("holding"))["answers"] < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert "no answer within 2000 ms" in (await shown.seen("talk"))["errors"][0]
        await shown.node.do("release")
        await shown.shows("talk", talk, "1")


async def test_more_than_a_page_is_read_page_by_page(
    supabase: SupabaseProject, member: Owner
) -> None:
    """PostgREST and `changes_since` both end early; nothing is left out."""
    me = UUID(member.id)
    talk = conversation("one", me)
    rows = [message("x", n, of=talk) for n in range(1, 1302)]

    async def write_all(part: list[Any]) -> None:
        rows = sorted((row.to_row() for row in part), key=lambda row: str(row["id"]))
        query = writer.table("messages").upsert(rows, on_conflict="id,owner_id")
        await query.execute()

    async def count(wanted: int) -> None:
        async with asyncio.timeout(WITHIN):
            while len(await shown.node.do("rows", name="talk")) != wanted + 1:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async with page(supabase, [member.token]) as (shown, writer):
        await write(writer, project(owner=me), talk)
        await write_all(rows[:1100])
        await shown.follow("talk", conversation=str(talk.id), messages=1050, **NEVER)
        await count(1050)
        await shown.becomes("talk", "live")
        await shown.node.do("lose", share=1)
        await write_all(rows[1100:1300])
        await write_all([row.model_copy(update={"revision": 5000}) for row in rows[500:1100]])
        await shown.node.do("lose", share=0)
        await write_all(rows[1300:])
        await count(1251)
        revisions = await shown.node.do("rows", name="talk")
        assert list(revisions.values()).count(5000) == 600


@flavours
async def test_a_token_that_expires_is_renewed(
    flavour: Flavour, local_supabase: LocalSupabase, owner: Owner
) -> None:
    """The server ends the channel; the next one is joined with the token that is asked for then."""
    me = UUID(owner.id)
    talk = conversation("one", me)
    short = local_supabase.token(sub=owner.id, expires_in=2)
    async with page(local_supabase, [short], flavour) as (shown, writer):
        await write(writer, project(owner=me), talk, message("1", 1, of=talk))
        await shown.follow("talk", conversation=str(talk.id), **QUICK)
        seen = await shown.becomes("talk", "polling")
        assert any("CLOSED" in error or "Token" in error for error in seen["errors"])
        await shown.node.do("renew", name="page", token=owner.token)
        await shown.becomes("talk", "live")
        await write(writer, message("2", 2, of=talk))
        await shown.shows("talk", talk, "1", "2")


async def test_who_is_not_signed_in_is_told_so(supabase: SupabaseProject, member: Owner) -> None:
    """It says what is missing, and goes on as soon as there is somebody."""
    me = UUID(member.id)
    talk = conversation("one", me)
    async with page(supabase, [""]) as (shown, writer):
        await write(writer, project(owner=me), talk)
        await shown.begin("list", **QUICK)
        seen = await shown.becomes("list", "down")
        assert "nobody is signed in" in seen["errors"][0]
        await shown.node.do("renew", name="page", token=member.token)
        await shown.lists("list", "one")
        await shown.becomes("list", "live")


async def test_an_outage_is_waited_out(local_supabase: LocalSupabase, owner: Owner) -> None:
    """While nothing can be reached it says so; afterwards rows are what the database has."""
    me = UUID(owner.id)
    talk = conversation("one", me)
    address = urlsplit(local_supabase.url)
    assert address.hostname is not None and address.port is not None
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(Proxy.to(address.hostname, address.port))
        opened = page(local_supabase, [owner.token], NEWEST, proxy.port)
        shown, writer = await stack.enter_async_context(opened)
        await write(writer, project(owner=me), talk, message("1", 1, of=talk))
        often = {**QUICK, "reconcileMs": 200, "pollMs": 200}
        await shown.follow("talk", conversation=str(talk.id), **often)
        await shown.becomes("talk", "live")
        proxy.open = False
        proxy.cut()
        await shown.becomes("talk", "down")
        await write(writer, message("2", 2, of=talk))
        proxy.open = True
        await shown.shows("talk", talk, "1", "2")
        await shown.becomes("talk", "live")


async def test_cursors_are_compared_as_python_does() -> None:
    """Positions beyond what JavaScript counts exactly, of any length, and of other streams."""
    cursors = [
        *("a.842", "a.842-3-77-12", "a.843", "a.842-3-78", "b.1", "nonsense", ""),
        *("a.9223372036854775806", "a.9223372036854775807", "a.9223372036854775807-1-2-3"),
    ]
    async with NodeProgram.run("shipped.mjs") as node:
        for cursor in cursors:
            for target in cursors:
                here, there = parse_cursor(cursor), parse_cursor(target)
                known = here is not None and there is not None and here.stream == there.stream
                expected = here.reaches(there) if known and here and there else True
                assert await node.do("reaches", cursor=cursor, target=target) == expected
