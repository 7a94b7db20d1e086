"""Whatever happens, a client that follows the protocol ends with the state it selected.

Random scripts of writes, filters, stalls, cuts and gaps are played to a real hub, once with the
local feed, whose truth are files, and once with the supabase feed and a real database, in which
others write all the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from unittest.mock import patch
from uuid import UUID, uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from conv_realtime.edges.feed import SupabaseFeed
from conv_realtime.models import Change, Conversation, Message, Row
from conv_realtime.ports import Page
from conv_realtime.relay import ConnectionManager, LocalFeed, connections
from tests.relay import serving
from tests.relay.followers import LAST, Follower
from tests.relay.rows import OWNER, START, conversation, message, project
from tests.relay.test_supabase_feed import client_of, write

SESSIONS = ("a", "b", "c")
FOLDERS = {"a": "/one", "b": "/one", "c": "/two"}
MESSAGE_TYPES = ["new_message", "message_update", "message_deleted"]


class World:
    """What the files, or the writers, state: the truth that clients must end with."""

    def __init__(self, owner: UUID = OWNER) -> None:
        self.owner = owner
        self.conversations: dict[UUID, Conversation] = {}
        self.rows: dict[UUID, Message] = {}
        self.forgotten: set[UUID] = set()
        self.revision = 0

    def project_of(self, session: str) -> UUID:
        """Return the id of a session's project."""
        return project(FOLDERS[session], self.owner).id

    def talk(self, session: str) -> UUID:
        """Return the id of a session's conversation."""
        return conversation(session, self.owner).id

    def write(self, session: str, seq: int, gone: bool) -> list[Change]:
        """Change a message and its conversation; return the changes.

        What is forgotten does not change any more.
        """
        if self.talk(session) in self.forgotten:
            return []
        self.revision += 1
        talk = conversation(session, self.owner, self.revision, project_id=self.project_of(session))
        deleted_at = START + timedelta(1) if gone else None
        row = message(
            f"r{self.revision}", seq, of=talk, revision=self.revision, deleted_at=deleted_at
        )
        changes = [
            Change(talk, talk.id not in self.conversations),
            Change(row, row.id not in self.rows),
        ]
        self.conversations[talk.id], self.rows[row.id] = talk, row
        return changes

    def forget(self, session: str) -> list[Change]:
        """Erase a conversation, if there is one; return the changes, as an ingest tells them."""
        talk = self.conversations.pop(self.talk(session), None)
        if talk is None:
            return []
        self.revision += 1
        self.forgotten.add(talk.id)
        gone = {"deleted_at": talk.updated_at, "revision": self.revision}
        lost = [row for row in self.rows.values() if row.conversation_id == talk.id]
        for row in lost:
            del self.rows[row.id]
        rows: list[Row] = [row.model_copy(update=gone) for row in lost]
        return [Change(row, created=False) for row in (*rows, talk.model_copy(update=gone))]

    def state(self, wanted: dict[str, Any]) -> dict[str, int]:
        """Return id and revision of what a filter selects."""
        state: dict[str, int] = {}
        for talk in self.conversations.values():
            if "conversations" in wanted and str(talk.id) not in wanted["conversations"]:
                continue
            if "projects" in wanted and str(talk.project_id) not in wanted["projects"]:
                continue
            state[str(talk.id)] = talk.revision
            for row in self.rows.values():
                if row.conversation_id == talk.id and row.deleted_at is None:
                    state[str(row.id)] = row.revision
        return state

    def check(self, follower: Follower) -> None:
        """Fail unless a follower has what it wants, and nothing else."""
        state, expected = dict(follower.state), self.state(follower.wanted)
        if "types" in follower.wanted:  # of conversations it heard in the snapshot alone
            for id in (*self.conversations, *self.forgotten):
                state.pop(str(id), None), expected.pop(str(id), None)
        assert state == expected, follower.wanted

    # Transcripts, as the local feed asks for them

    async def snapshot_messages(self, conversation: UUID, last: int) -> Sequence[Message]:
        """Return the live messages of a conversation."""
        await asyncio.sleep(0)  # others write while a snapshot is taken
        found = [
            row
            for row in self.rows.values()
            if row.conversation_id == conversation and row.deleted_at is None
        ]
        return sorted(found, key=lambda row: row.seq)[-last:]

    async def snapshot_conversations(self) -> Sequence[Conversation]:
        """Return all conversations."""
        await asyncio.sleep(0)
        return list(self.conversations.values())


class _Transcripts:
    def __init__(self, world: World) -> None:
        self.conversations = world.snapshot_conversations
        self.messages = world.snapshot_messages


FILTERS = ("all", "one", "none", "project", "both", "messages", "messages of one")


def wanted_by(world: World, name: str) -> dict[str, Any]:
    """Return the filter of that name."""
    one, three = str(world.talk("a")), str(world.talk("c"))
    filters: dict[str, dict[str, Any]] = {
        "all": {},
        "one": {"conversations": [one]},
        "none": {"conversations": []},
        "project": {"projects": [str(world.project_of("a"))]},
        "both": {"projects": [str(world.project_of("c"))], "conversations": [three]},
        "messages": {"types": MESSAGE_TYPES},
        "messages of one": {"types": MESSAGE_TYPES, "conversations": [one]},
    }
    return filters[name]


clients = st.integers(0, 5)
acts: Any = st.one_of(
    st.tuples(st.just("join"), st.sampled_from(FILTERS), st.booleans()),
    st.tuples(st.just("choose"), clients, st.sampled_from(FILTERS)),
    st.tuples(st.just("come back"), clients, st.booleans()),
    st.tuples(st.just("away"), clients),
    st.tuples(st.just("leave"), clients),
    st.tuples(st.just("stall"), clients),
    st.tuples(st.just("read"), clients),
    st.tuples(st.just("turn"), st.integers(1, 4)),
)
writes: Any = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(SESSIONS), st.integers(1, 4), st.booleans()),
    st.tuples(st.just("burst"), st.sampled_from(SESSIONS)),
    st.tuples(st.just("gap"), st.sampled_from(SESSIONS)),
    st.tuples(st.just("forget"), st.sampled_from(SESSIONS)),
)


class Crowd:
    """The followers of one play."""

    def __init__(self, manager: ConnectionManager, world: World, **options: Any) -> None:
        self._manager = manager
        self._world = world
        self._options = options
        self.followers: list[Follower] = []
        self._join("all", False)
        self._join("all", True)

    def _join(self, name: str, direct: bool) -> None:
        wanted = wanted_by(self._world, name)
        self.followers.append(Follower(self._manager, wanted, direct, **self._options))

    async def act(self, step: Any) -> None:
        """Do what a step of a script says of the followers."""
        match step:
            case ("join", name, direct):
                self._join(name, direct)
            case ("leave", number) if len(self.followers) > 1:
                self.followers.pop(number % len(self.followers)).leave()
            case ("away", number):
                self._at(number).leave()
            case ("choose", number, name) if not self._at(number).away:
                self._at(number).choose(wanted_by(self._world, name))
            case ("come back", number, direct):
                self._at(number).come_back(direct)
            case ("stall", number):
                self._at(number).line.stall()
            case ("read", number):
                self._at(number).line.read()
            case ("turn", times):
                for _ in range(times):
                    await asyncio.sleep(0)

    def _at(self, number: int) -> Follower:
        return self.followers[number % len(self.followers)]

    async def end(self) -> None:
        """Let everybody read to the end, and compare each with the world."""
        for number, follower in enumerate(self.followers):
            if follower.away:
                follower.come_back(direct=bool(number % 2))
            follower.line.read()
        for follower in self.followers:
            await follower.settle()
            self._world.check(follower)
            follower.leave()
            await follower.task


async def play_local(script: list[Any]) -> None:
    """Play with tight bounds, so that queues overflow and the log forgets."""
    chosen = serving.settings(client_queue_events=8, replay_events=16)
    world, feed = World(), LocalFeed(chosen)
    feed.attach(_Transcripts(world))
    manager = ConnectionManager(chosen, feed=feed)
    running = asyncio.create_task(feed.run(manager.hub.take), name="feed")
    await asyncio.sleep(0)
    crowd = Crowd(manager, world)
    for step in script:
        match step:
            case ("write", session, seq, gone):
                feed.publish(world.write(session, seq, gone))
            case ("burst", session):
                for seq in range(12):
                    feed.publish(world.write(session, seq, False))
            case ("forget", session):
                feed.publish(world.forget(session))
            case ("gap", session):  # something happened, and the feed only knows that it did
                world.write(session, 1, False)
                feed._changes.clear()
                feed._position += 1
                manager.hub.take(Page((), feed._cursor(), resync=True))
            case _:
                await crowd.act(step)
    await crowd.end()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.one_of(acts, writes), max_size=40))
def test_with_the_local_feed_every_follower_ends_in_the_state_it_selected(
    script: list[Any],
) -> None:
    """Writers, filters, stalls, gaps and reconnects in any order lead to the same rows."""
    with patch.object(connections, "find_wire", lambda websocket: websocket.wire):
        asyncio.run(play_local(script))


async def play_supabase(local: Any, script: list[Any], written: list[Any]) -> None:
    """Play while others write into the database; the end is what that says."""
    me = uuid4()
    chosen = serving.settings(
        supabase_url=local.url,
        supabase_key=SecretStr(local.secret_key),
        client_queue_events=8,
        replay_events=16,
        reconcile_interval=60.0,
    )
    world, feed = World(me), SupabaseFeed(chosen)
    manager = ConnectionManager(chosen, feed=feed)
    running = asyncio.create_task(feed.run(manager.hub.take), name="feed")
    await serving.eventually(lambda: feed.health().state == "live", "the feed is live")
    async with client_of(local, local.secret_key) as client:
        await write(client, project("/one", me), project("/two", me))
        locks = {session: asyncio.Lock() for session in SESSIONS}  # one writer a transcript

        async def writing(steps: list[Any]) -> None:
            for step in steps:
                name, session, *rest = step
                seq, gone = rest or (1, False)
                async with locks[session]:
                    if name == "forget":
                        for talk in (change.row for change in world.forget(session)[-1:]):
                            forgotten = {"metadata": {"forgotten": True}, "deleted_at": None}
                            await write(client, talk.model_copy(update=forgotten))
                        continue
                    for change in world.write(session, seq, gone):
                        await write(client, change.row)

        async with asyncio.TaskGroup() as group:
            for first in range(3):
                group.create_task(writing(written[first::3]), name="writing")
            crowd = Crowd(manager, world, owner_id=me)
            for step in script:
                await crowd.act(step)
                await asyncio.sleep(0.002)
        await _compare_with_the_database(client, world)
    head = (await feed.since(None)).cursor
    await serving.eventually(lambda: manager.hub.log.cursor == head, "the relay is there, too")
    await crowd.end()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def _compare_with_the_database(client: Any, world: World) -> None:
    stored: dict[str, int] = {}
    for table in ("conversations", "messages"):
        query = client.table(table).select("id,revision").eq("owner_id", str(world.owner))
        answer = await query.is_("deleted_at", "null").limit(LAST).execute()
        stored |= {row["id"]: row["revision"] for row in answer.data}
    assert stored == world.state({})


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
@given(
    script=st.lists(acts, min_size=5, max_size=40),
    written=st.lists(writes, min_size=5, max_size=12),
)
def test_with_the_supabase_feed_every_follower_ends_in_the_databases_state(
    local_supabase: Any, script: list[Any], written: list[Any]
) -> None:
    """The same where three writers share a database, and cursors outlive what is in memory."""
    with patch.object(connections, "find_wire", lambda websocket: websocket.wire):
        asyncio.run(play_supabase(local_supabase, script, written))
