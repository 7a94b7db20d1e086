"""The supabase feed against the local Supabase: what is written anywhere arrives here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr
from supabase import AsyncClient, AsyncClientOptions, acreate_client

from conv_realtime.edges.feed import SupabaseFeed
from conv_realtime.edges.feed.unreadable import Unreadable
from conv_realtime.events import NewMessage
from conv_realtime.models import Message
from conv_realtime.ports import Page
from conv_realtime.relay import Relay
from tests.project import Owner, SupabaseProject
from tests.relay.rows import START, conversation, message, project
from tests.relay.serving import eventually, settings


@asynccontextmanager
async def client_of(local: Any, key: str) -> AsyncIterator[AsyncClient]:
    """Return a supabase-py client."""
    async with httpx.AsyncClient() as http:
        options = AsyncClientOptions(
            httpx_client=http, auto_refresh_token=False, persist_session=False
        )
        yield await acreate_client(local.url, key, options=options)


async def write(client: AsyncClient, *rows: Any) -> None:
    """Upsert rows, one request each."""
    for row in rows:
        query = client.table(row.table).upsert([row.to_row()], on_conflict="id,owner_id")
        await query.execute()


class Reader:
    """Runs a feed and keeps its pages."""

    def __init__(self, feed: SupabaseFeed) -> None:
        self.feed = feed
        self.pages: list[Page] = []

    def rows(self, owner: UUID) -> list[Any]:
        """Return the rows of one owner, in the order in which they came."""
        return [c.row for p in self.pages for c in p.changes if c.row.owner_id == owner]

    @classmethod
    @asynccontextmanager
    async def run(cls, feed: SupabaseFeed) -> AsyncIterator[Reader]:
        """Run the feed until left; it is live on entering."""
        reader = cls(feed)
        task = asyncio.create_task(feed.run(reader.pages.append), name="feed")
        try:
            await eventually(lambda: feed.health().state == "live", "the feed is live")
            yield reader
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def feed_of(local: Any, key: str | None = None) -> SupabaseFeed:
    """Return a feed whose reads without a wake-up come too late to help."""
    key = key or local.secret_key
    return SupabaseFeed(
        settings(supabase_url=local.url, supabase_key=SecretStr(key), reconcile_interval=60.0)
    )


def messages_of(reader: Reader, owner: UUID) -> list[Any]:
    """Return the messages of one owner that came."""
    return [row for row in reader.rows(owner) if row.table == "messages"]


async def test_what_is_written_arrives_by_wake_up(supabase: SupabaseProject, member: Owner) -> None:
    """A row written with another client arrives long before the next read without a wake-up."""
    me = UUID(member.id)
    rows: list[Any] = [
        project(owner=me),
        conversation(owner=me),
        message(of=conversation(owner=me)),
    ]
    async with Reader.run(feed_of(supabase)) as reader:
        async with client_of(supabase, supabase.secret_key) as client:
            await write(client, *rows)
        await eventually(lambda: messages_of(reader, me), "the message arrives")
        (last,) = messages_of(reader, me)
        assert last.conversation.project_name == "app"
        assert last.project_id == rows[0].id
        assert {row.table for row in reader.rows(me)} == {"projects", "conversations", "messages"}


async def test_the_first_page_is_the_head(supabase: SupabaseProject, member: Owner) -> None:
    """What was there before is not news; what comes after the head is."""
    me = UUID(member.id)
    talk = conversation(owner=me)
    async with client_of(supabase, supabase.secret_key) as client:
        await write(client, project(owner=me), talk, message("old", of=talk))
        async with Reader.run(feed_of(supabase)) as reader:
            assert not reader.pages[0].changes
            await write(client, message("new", 2, of=talk))
            await eventually(lambda: messages_of(reader, me), "the message arrives")
            assert [row.text for row in messages_of(reader, me)] == ["new"]


async def test_a_cursor_holds_at_every_relay(supabase: SupabaseProject, member: Owner) -> None:
    """A cursor of one feed, read at another, gives what came after it, each row once."""
    me = UUID(member.id)
    talk = conversation(owner=me)
    async with client_of(supabase, supabase.secret_key) as client:
        async with Reader.run(feed_of(supabase)) as reader:
            await write(client, project(owner=me), talk, message("1", 1, of=talk))
            await eventually(lambda: messages_of(reader, me), "the message arrives")
            cursor = reader.pages[-1].cursor
        await write(client, *(message(str(n), n, of=talk) for n in (2, 3, 4)))
        async with Reader.run(feed_of(supabase)) as reader:
            texts: list[str] = []
            more = True
            while more:
                page = await reader.feed.since(cursor, 2)
                assert not page.resync
                texts += [c.row.text for c in page.changes if isinstance(c.row, Message)]
                cursor, more = page.cursor, page.more
    assert texts == ["2", "3", "4"]


async def test_a_foreign_cursor_is_answered_with_resync(supabase: SupabaseProject) -> None:
    """A cursor of another stream, or no cursor at all, gives the head to go on from."""
    async with Reader.run(feed_of(supabase)) as reader:
        for cursor in ("0123456789abcdef.17", "nonsense", ""):
            page = await reader.feed.since(cursor)
            assert page.resync and not page.changes and page.cursor


async def test_a_snapshot_is_the_selected_conversations(
    supabase: SupabaseProject, member: Owner
) -> None:
    """Each conversation comes with its last live messages by seq, and others do not."""
    me = UUID(member.id)
    one, two = conversation("one", owner=me), conversation("two", me, 2, project_id=None)
    gone = message("gone", 4, of=one, deleted_at="2026-01-02T03:04:05Z")
    async with client_of(supabase, supabase.secret_key) as client:
        await write(client, project(owner=me), one, two, gone)
        await write(client, *(message(str(n), n, of=one) for n in (1, 2, 3)))
        async with Reader.run(feed_of(supabase)) as reader:
            snapshot = reader.feed.snapshot(owner=me, conversations=None, projects=None, messages=2)
            parts = [part async for part in snapshot if part.conversations]
            assert [p.conversations[0].title for p in parts] == ["one", "two"]
            assert [m.text for m in parts[0].messages] == ["2", "3"]
            assert parts[0].conversations[0].project_name == "app"
            assert parts[0].messages[0].conversation is not None
            for chosen in (
                {"conversations": {two.id}, "projects": None},
                {"conversations": None, "projects": {one.project_id}},
                {"conversations": {two.id}, "projects": {one.project_id}},
            ):
                snapshot = reader.feed.snapshot(owner=me, messages=0, **chosen)
                parts = [part async for part in snapshot]
                titles = [row.title for part in parts for row in part.conversations]
                assert (
                    titles
                    == (["two"] if chosen["projects"] is None else ["one"])[
                        : 0 if chosen["conversations"] and chosen["projects"] else 1
                    ]
                )


async def test_a_snapshot_takes_the_loop_for_a_few_rows_at_a_time(
    supabase: SupabaseProject, member: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many conversations there are, others hear of news between two parts; oldest first."""
    me = UUID(member.id)
    rows = [
        conversation(str(tenths), me, project_id=None).model_copy(
            update={"updated_at": START + timedelta(seconds=tenths / 10)}
        )
        for tenths in (9, 2, 11, 20, 4, 7, 1, 10, 3, 8, 6)
    ]
    made: list[Any] = []
    read = Unreadable.read

    def counted(self: Unreadable, kind: Any, row: Any, **joined: Any) -> Any:
        made.append(row)
        return read(self, kind, row, **joined)

    async with client_of(supabase, supabase.secret_key) as client:
        await write(client, *rows)
        async with Reader.run(feed_of(supabase)) as reader:
            monkeypatch.setattr(Unreadable, "read", counted)
            titles: list[str | None] = []
            chosen = {row.id for row in rows}
            async for part in reader.feed.snapshot(
                owner=me, conversations=chosen, projects=None, messages=0
            ):
                assert len(made) <= 4
                made.clear()
                titles += [row.title for row in part.conversations]
    assert titles == ["1", "2", "3", "4", "6", "7", "8", "9", "10", "11", "20"]


async def test_a_snapshot_has_more_messages_than_postgrest_gives_at_once(
    supabase: SupabaseProject, member: Owner
) -> None:
    """The last 2,100 of 2,250, in order, though many stand at one place; and all of fewer."""
    me = UUID(member.id)
    talk = conversation(owner=me, project_id=None)
    rows = [
        message(f"{number}", number, of=talk).model_copy(update={"seq": max(number // 7, 20)})
        for number in range(2250)
    ]
    async with client_of(supabase, supabase.secret_key) as client:
        await write(client, talk)
        for start in range(0, len(rows), 750):
            some = [row.to_row() for row in rows[start : start + 750]]
            await client.table("messages").upsert(some, on_conflict="id,owner_id").execute()
        ordered = [row.id for row in sorted(rows, key=lambda row: (row.seq, row.id.int))]
        async with Reader.run(feed_of(supabase)) as reader:
            for wanted in (2100, 5000):
                snapshot = reader.feed.snapshot(
                    owner=me, conversations=None, projects=None, messages=wanted
                )
                parts = [part async for part in snapshot]
                assert [row.id for part in parts for row in part.conversations] == [talk.id]
                found = [row.id for part in parts for row in part.messages]
                assert found == ordered[-wanted:]
                assert max(len(part.messages) for part in parts) <= 1000


async def test_a_stranger_cannot_rename_a_project(supabase: SupabaseProject, member: Owner) -> None:
    """A stranger's project with the same id shows its name to nobody else, nor learns the other."""
    me, stranger = UUID(member.id), UUID(supabase.owner())
    app = project(owner=me)
    evil = app.model_copy(update={"owner_id": stranger, "name": "evil"})
    mine, theirs = (
        conversation("mine", me),
        conversation("theirs", stranger, project_id=evil.id),
    )
    async with client_of(supabase, supabase.secret_key) as client:
        await write(client, app, evil, mine, theirs)
        async with Reader.run(feed_of(supabase)) as reader:
            snapshot = reader.feed.snapshot(
                owner=None, conversations={mine.id, theirs.id}, projects=None, messages=0
            )
            names = {row.title: row.project_name async for p in snapshot for row in p.conversations}
    assert names == {"mine": "app", "theirs": "evil"}


async def test_a_signed_in_user_hears_of_their_own_rows(
    supabase: SupabaseProject, member: Owner
) -> None:
    """With a user's token as key the owner's topic wakes, and only their rows are seen."""
    me, other = UUID(member.id), UUID(supabase.owner())
    feed = feed_of(supabase, member.token)
    async with client_of(supabase, supabase.secret_key) as client:
        async with Reader.run(feed) as reader:
            for person in (other, me):
                talk = conversation(owner=person)
                await write(client, project(owner=person), talk, message(of=talk))
            await eventually(lambda: messages_of(reader, me), "the message arrives")
            assert reader.rows(other) == []


async def test_where_the_topic_is_refused_it_polls(
    supabase: SupabaseProject, member: Owner
) -> None:
    """A user may not hear of all changes, but reads them all the same, and health says how."""
    me = UUID(member.id)
    chosen = settings(
        supabase_url=supabase.url, supabase_key=SecretStr(member.token), reconcile_interval=0.1
    )
    feed = SupabaseFeed(chosen, owner=UUID(int=1))
    pages: list[Page] = []
    task = asyncio.create_task(feed.run(pages.append), name="feed")
    try:
        await eventually(lambda: feed.health().state == "polling", "the feed polls")
        async with client_of(supabase, supabase.secret_key) as client:
            await write(client, project(owner=me), conversation(owner=me))
        await eventually(lambda: any(page.changes for page in pages), "a change is read")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_lent_client_stays_open(supabase: SupabaseProject, member: Owner) -> None:
    """After the feed has ended, its lender goes on reading."""
    async with client_of(supabase, supabase.secret_key) as client:
        feed = SupabaseFeed(settings(), client=client)
        async with Reader.run(feed):
            pass
        answer = await client.rpc("changes_since", {}).execute()
        data: Any = answer.data
        assert data["cursor"]


async def test_events_survive_a_restart(supabase: SupabaseProject, member: Owner) -> None:
    """A program that stores the cursor of the last event goes on where it was."""
    me = UUID(member.id)
    talk = conversation(owner=me)
    chosen = feed_of(supabase)._settings
    async with client_of(supabase, supabase.secret_key) as client:
        await write(client, project(owner=me), talk)
        async with Relay(settings=chosen) as relay:
            await write(client, message("1", 1, of=talk))
            async for event in relay.events(since=relay.manager.hub.log.cursor):
                if isinstance(event, NewMessage) and event.data.conversation_id == talk.id:
                    cursor = event.data.cursor
                    break
        await write(client, *(message(str(n), n, of=talk) for n in range(2, 6)))
        texts: list[str] = []
        async with Relay(settings=chosen) as relay:
            async for event in relay.events(since=cursor):
                if isinstance(event, NewMessage) and event.data.conversation_id == talk.id:
                    texts.append(event.data.text)
                    if event.data.text == "5":
                        break
    assert sorted(set(texts)) in (["2", "3", "4", "5"], ["1", "2", "3", "4", "5"])
