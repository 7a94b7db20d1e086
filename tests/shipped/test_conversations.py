"""`conversations.js`: a conversation, or a user's list of them, with supabase-js alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

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
QUICK: dict[str, Any] = {"firstPauseMs": 20, "longestPauseMs": 200}
NEVER: dict[str, Any] = {"reconcileMs": 600_000, "pollMs": 600_000, **QUICK}

flavours = pytest.mark.parametrize("flavour", [NODE_20, NEWEST], ids=["node20", "newest"])


class Page:
    """A program that follows with one client of supabase-js, as a page does; and who writes there.

    Attributes:
        talk: a conversation of the user's, which is there from the beginning.
    """

    def __init__(self, node: NodeProgram, supabase: dict[str, Any], writer: AsyncClient) -> None:
        self.node = node
        self.writer = writer
        self.talk = conversation("one")
        self._supabase = {"name": "page", **supabase}

    async def write(self, *rows: Any) -> None:
        """Write rows, as any watcher would."""
        await write(self.writer, *rows)

    async def say(self, *texts: str, **columns: Any) -> None:
        """Write messages of the conversation, each at the place that it names."""
        for text in texts:
            await self.write(message(text, int(text), of=self.talk, **columns))

    async def begin_with(self, me: UUID, messages: int) -> None:
        """Write the conversation and its first messages."""
        self.talk = conversation("one", me)
        await self.write(project(owner=me), self.talk)
        await self.say(*(str(number) for number in range(1, messages + 1)))

    async def begin(self, name: str, **options: Any) -> None:
        """Follow."""
        await self.node.do("follow", name=name, supabase=self._supabase, options=options)

    async def follow(self, name: str, **options: Any) -> None:
        """Follow; wait until rows are there."""
        await self.begin(name, **options)
        await self.node.do("ready", name=name)

    async def follow_talk(self, name: str = "talk", **options: Any) -> None:
        """Follow the conversation; wait until it is live."""
        await self.follow(name, conversation=str(self.talk.id), **options)
        await self.becomes(name, "live")

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

    async def shows(self, *texts: str, name: str = "talk") -> None:
        """Wait until these are the texts of the conversation."""
        shown: list[str] | None = None
        try:
            async with asyncio.timeout(WITHIN):
                while shown != list(texts):
                    shown = await self.node.do("texts", name=name, conversation=str(self.talk.id))
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
    supabase: Any,
    me: Owner,
    messages: int = 0,
    *,
    tokens: list[str] | None = None,
    flavour: Flavour = NODE_20,
    port: int | None = None,
) -> AsyncIterator[Page]:
    """Start a program and a writer; the program may go through a proxy on `port`.

    `me` has a conversation of so many messages: "1", "2" and so on.
    """
    named = {
        "url": supabase.url if port is None else f"http://127.0.0.1:{port}",
        "key": supabase.publishable_key,
        "tokens": [me.token] if tokens is None else tokens,
    }
    async with (
        NodeProgram.run("shipped.mjs", oldest=flavour.node, SUPABASE_JS=flavour.package) as node,
        client_of(supabase, supabase.secret_key) as writer,
    ):
        shown = Page(node, named, writer)
        await shown.begin_with(UUID(me.id), messages)
        yield shown


@flavours
async def test_a_conversation_is_shown_and_stays_current(
    flavour: Flavour, supabase: SupabaseProject, member: Owner
) -> None:
    """Its last messages come first, then each change, at once and once."""
    other = conversation("two", UUID(member.id))
    async with page(supabase, member, 3, flavour=flavour) as shown:
        await shown.write(other)
        await shown.follow_talk(messages=2, **NEVER)
        await shown.shows("2", "3")
        changes = (await shown.seen("talk"))["changes"]
        await shown.say("4")
        await shown.write(message("elsewhere", 4, of=other))
        await shown.shows("2", "3", "4")
        await shown.write(message("three", 3, of=shown.talk, revision=10))
        await shown.write(message("before", 1, of=shown.talk, revision=11))
        await shown.say("4", revision=12, deleted_at=START)
        await shown.shows("2", "three")
        # Each was broadcast and read, and told of once.
        assert (await shown.seen("talk"))["changes"] == changes + 3
        assert (await shown.seen("talk"))["errors"] == []


@pytest.mark.parametrize("held", ["/nothing", "/rpc/changes_since"])
async def test_a_conversation_that_is_forgotten_goes_with_its_messages(
    held: str, supabase: SupabaseProject, member: Owner
) -> None:
    """As soon as it is told; where that is lost, when it is read."""
    async with page(supabase, member, 1) as shown:
        await shown.follow_talk(**NEVER)
        await shown.shows("1")
        await shown.joins("conversation", "owner")
        await shown.node.do("hold", of=held)
        await shown.write(shown.talk.model_copy(update={"metadata": {"forgotten": True}}))
        await shown.shows()
        await shown.lists("talk")
        await shown.node.do("release")
        assert (await shown.seen("talk"))["errors"] == []


@flavours
async def test_a_list_has_every_conversation_of_its_owner(
    flavour: Flavour, supabase: SupabaseProject, member: Owner
) -> None:
    """Others' are not in it; what appears comes, and what was forgotten goes."""
    me, stranger = UUID(member.id), UUID(supabase.owner())
    async with page(supabase, member, flavour=flavour) as shown:
        await shown.write(project(owner=stranger), conversation("theirs", stranger))
        await shown.follow("list", **NEVER)
        await shown.lists("list", "one")
        await shown.becomes("list", "live")
        await shown.write(conversation("two", me), conversation("more of theirs", stranger))
        await shown.lists("list", "one", "two")
        rows = await shown.node.do("conversations", name="list")
        assert {row["project_name"] for row in rows} == {"app"}
        await shown.write(shown.talk.model_copy(update={"metadata": {"forgotten": True}}))
        await shown.lists("list", "two")


async def test_a_list_read_with_a_secret_key_has_no_others_rows(
    local_supabase: LocalSupabase, owner: Owner
) -> None:
    """As on a server: `changes_since` gives it everybody's, and `owner` says whose are wanted."""
    stranger = uuid4()
    tokens = [local_supabase.secret_key]
    async with page(local_supabase, owner, tokens=tokens) as shown:
        await shown.write(project(owner=stranger))
        await shown.follow("list", owner=owner.id, **QUICK)
        await shown.write(conversation("theirs", stranger))
        await shown.write(conversation("two", UUID(owner.id)))
        await shown.lists("list", "one", "two")


async def test_who_signs_in_as_somebody_else_adds_nothing_to_the_list(
    local_supabase: LocalSupabase, owner: Owner
) -> None:
    """It is of who was signed in when it began."""
    stranger = uuid4()
    async with page(local_supabase, owner) as shown:
        await shown.write(project(owner=stranger))
        await shown.node.do("hold", of="/nothing")
        await shown.follow("list", reconcileMs=200, pollMs=200, **QUICK)
        token = local_supabase.token(sub=str(stranger))
        await shown.node.do("renew", name="page", token=token)
        await shown.write(conversation("theirs", stranger))
        async with asyncio.timeout(WITHIN):
            while (await shown.node.do("holding"))["read"] == 0:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await shown.node.do("renew", name="page", token=owner.token)
        await shown.write(conversation("two", UUID(owner.id)))
        await shown.lists("list", "one", "two")


async def test_followers_share_channels_and_leave_none_behind(
    supabase: SupabaseProject, member: Owner
) -> None:
    """Two of one conversation and a list take two channels; the last one out leaves nothing."""
    async with page(supabase, member, 1) as shown:
        await shown.follow_talk("a", **QUICK)
        await shown.follow("list", **QUICK)
        await shown.follow_talk("b", **QUICK)
        await shown.joins("conversation", "owner")
        await shown.node.do("end", name="a")
        await shown.say("2")
        await shown.shows("1", "2", name="b")
        await shown.shows("1", name="a")
        await shown.node.do("end", name="b")
        assert await shown.channels() == ["owner"]
        await shown.node.do("end", name="list")
        assert await shown.node.do("channels", name="page") == []
        asked = await shown.node.do("requests")
        await shown.say("3")
        await shown.follow_talk("again", **QUICK)
        await shown.shows("1", "2", "3", name="again")
        assert await shown.node.do("requests") > asked
        for name in ("a", "b", "list"):
            assert (await shown.seen(name))["status"] == "closed"


async def test_a_lost_broadcast_costs_time_and_no_data(
    supabase: SupabaseProject, member: Owner
) -> None:
    """What nobody told of is read by the clock, and makes the channel be joined anew."""
    async with page(supabase, member) as shown:
        await shown.follow_talk(reconcileMs=200, pollMs=600_000, **QUICK)
        await shown.joins("conversation", "owner")
        await shown.node.do("lose", share=1)
        texts: list[str] = []
        # The first may still be found by a read that the join asked for.
        while "polling" not in (await shown.seen("talk"))["statuses"]:
            texts.append(str(len(texts) + 1))
            await shown.say(texts[-1])
            await shown.shows(*texts)
        await shown.node.do("lose", share=0)
        seen = await shown.becomes("talk", "live")
        assert seen["errors"] == []


async def test_a_cursor_that_is_not_known_means_fetching_anew(
    supabase: SupabaseProject, member: Owner
) -> None:
    """After `resync` rows are what the database has, and changes come as before."""
    async with page(supabase, member, 1) as shown:
        await shown.follow_talk(**NEVER)
        await shown.node.do("answer", instead={"cursor": FOREIGN})
        await shown.node.do("lose", share=1)
        await shown.say("2")
        async with asyncio.timeout(WITHIN):  # the row, and `changed`
            while await shown.node.do("dropped") < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await shown.node.do("lose", share=0)
        await shown.say("3")
        await shown.shows("1", "2", "3")
        await shown.say("4")
        await shown.shows("1", "2", "3", "4")


async def test_what_is_announced_is_looked_for_until_it_is_there(
    supabase: SupabaseProject, member: Owner
) -> None:
    """`changed` runs ahead of what can be read while an older transaction is open."""
    async with page(supabase, member) as shown:
        await shown.follow("list", **NEVER)
        await shown.becomes("list", "live")
        async with await psycopg.AsyncConnection.connect(supabase.db_url) as older:
            await older.execute("select pg_current_xact_id()")
            asked = await shown.node.do("requests")
            await shown.write(conversation("two", UUID(member.id)))
            async with asyncio.timeout(WITHIN):
                while await shown.node.do("requests") < asked + 3:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await shown.lists("list", "one")
        await shown.lists("list", "one", "two")


async def test_what_changes_while_rows_are_fetched_is_not_lost(
    supabase: SupabaseProject, member: Owner
) -> None:
    """The answer is older than the changes that are read before it comes."""
    async with page(supabase, member, 1) as shown:
        await shown.follow("list", **NEVER)  # joins the owner's topic, so that changes are read
        await shown.becomes("list", "live")
        await shown.node.do("hold")
        await shown.begin("talk", conversation=str(shown.talk.id), **NEVER)
        async with asyncio.timeout(WITHIN):
            while (await shown.node.do("holding"))["answers"] == 0:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            read = (await shown.node.do("holding"))["read"]
            await shown.say("2")
            while (await shown.node.do("holding"))["read"] == read:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (await shown.seen("talk"))["changes"] == 0
        await shown.node.do("release")
        await shown.shows("1", "2")


async def test_an_answer_that_never_comes_is_not_waited_for(
    supabase: SupabaseProject, member: Owner
) -> None:
    """As over a line that died while the laptop slept: it is asked again, and says so."""
    async with page(supabase, member, 1) as shown:
        await shown.node.do("hold")
        await shown.begin("talk", conversation=str(shown.talk.id), requestTimeoutMs=2000, **NEVER)
        async with asyncio.timeout(WITHIN):
            while (await shown.node.do("holding"))["answers"] < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert "no answer within 2000 ms" in (await shown.seen("talk"))["errors"][0]
        await shown.node.do("release")
        await shown.shows("1")


@flavours
async def test_a_session_that_never_comes_is_not_waited_for(
    flavour: Flavour, supabase: SupabaseProject, member: Owner
) -> None:
    """As where a tab that sleeps holds its lock: that is told, and it is asked for again."""
    async with page(supabase, member, tokens=[], flavour=flavour) as shown:
        await shown.begin("list", requestTimeoutMs=2000, **NEVER)
        seen = await shown.becomes("list", "down")
        assert "no answer within 2000 ms" in seen["errors"][0]
        await shown.node.do("renew", name="page", token=member.token)
        await shown.lists("list", "one")
        await shown.becomes("list", "live")


async def test_more_than_a_page_is_read_page_by_page(
    supabase: SupabaseProject, member: Owner
) -> None:
    """PostgREST and `changes_since` both end early; nothing is left out."""

    async def write_all(part: list[Any]) -> None:
        rows = sorted((row.to_row() for row in part), key=lambda row: str(row["id"]))
        query = shown.writer.table("messages").upsert(rows, on_conflict="id,owner_id")
        await query.execute()

    async def count(wanted: int) -> None:
        async with asyncio.timeout(WITHIN):
            while len(await shown.node.do("rows", name="talk")) != wanted + 1:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async with page(supabase, member) as shown:
        rows = [message("x", n, of=shown.talk) for n in range(1, 1302)]
        await write_all(rows[:1100])
        await shown.follow_talk(messages=1050, **NEVER)
        await count(1050)
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
    short = local_supabase.token(sub=owner.id, expires_in=2)
    async with page(local_supabase, owner, 1, tokens=[short], flavour=flavour) as shown:
        await shown.follow("talk", conversation=str(shown.talk.id), **QUICK)
        seen = await shown.becomes("talk", "polling")
        assert any("CLOSED" in error or "Token" in error for error in seen["errors"])
        await shown.node.do("renew", name="page", token=owner.token)
        await shown.becomes("talk", "live")
        await shown.say("2")
        await shown.shows("1", "2")


async def test_who_is_not_signed_in_is_told_so(supabase: SupabaseProject, member: Owner) -> None:
    """It says what is missing, and goes on as soon as there is somebody."""
    async with page(supabase, member, tokens=[""]) as shown:
        await shown.begin("list", **QUICK)
        seen = await shown.becomes("list", "down")
        assert "nobody is signed in" in seen["errors"][0]
        await shown.node.do("renew", name="page", token=member.token)
        await shown.lists("list", "one")
        await shown.becomes("list", "live")


async def test_an_outage_is_waited_out(local_supabase: LocalSupabase, owner: Owner) -> None:
    """While nothing can be reached it says so; afterwards rows are what the database has."""
    address = urlsplit(local_supabase.url)
    assert address.hostname is not None and address.port is not None
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(Proxy.to(address.hostname, address.port))
        opened = page(local_supabase, owner, 1, flavour=NEWEST, port=proxy.port)
        shown = await stack.enter_async_context(opened)
        await shown.follow_talk(reconcileMs=200, pollMs=200, **QUICK)
        proxy.open = False
        proxy.cut()
        await shown.becomes("talk", "down")
        await shown.say("2")
        proxy.open = True
        await shown.shows("1", "2")
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
