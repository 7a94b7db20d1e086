"""Whatever happens, a client that follows the protocol ends with the state it selected."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from unittest.mock import patch
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from conv_realtime.core import following
from conv_realtime.core.rows import Rows
from conv_realtime.events import SubscribeRequest
from conv_realtime.models import Change, Conversation, Message
from conv_realtime.relay import ConnectionManager, LocalFeed, connections
from tests.relay import serving
from tests.relay.rows import START, conversation, message, project
from tests.relay.test_fanout import split_frames

SESSIONS = ("a", "b", "c")
PROJECTS = {"a": project("/one").id, "b": project("/one").id, "c": project("/two").id}
LAST = 1000


class World:
    """What the files state: the truth that snapshots are made from and clients must end with."""

    def __init__(self) -> None:
        self.conversations: dict[UUID, Conversation] = {}
        self.rows: dict[UUID, Message] = {}
        self.revision = 0

    async def messages(self, conversation: UUID, last: int) -> Sequence[Message]:
        await asyncio.sleep(0)  # others write while a snapshot is taken
        found = [
            row
            for row in self.rows.values()
            if row.conversation_id == conversation and row.deleted_at is None
        ]
        return sorted(found, key=lambda row: row.seq)[-last:]

    async def _conversations(self) -> Sequence[Conversation]:
        await asyncio.sleep(0)
        return list(self.conversations.values())

    def write(self, session: str, seq: int, gone: bool) -> list[Change]:
        """Change a message and its conversation; return the changes."""
        self.revision += 1
        talk = conversation(session, revision=self.revision, project_id=PROJECTS[session])
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


class _Transcripts:
    def __init__(self, world: World) -> None:
        self.conversations = world._conversations
        self.messages = world.messages


class FakeWire:
    """A transport whose peer reads at once, or not at all while it stalls."""

    closing = False

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._buffer = b""

    @property
    def waiting_bytes(self) -> int:
        """Bytes that the peer has not read. A stalled one holds up anything at once."""
        return 10**6 if self._buffer else 0

    def write(self, frames: bytes) -> bool:
        """Take frames."""
        self._buffer += frames
        if self._follower.reading.is_set():
            self.read()
        return True

    def read(self) -> None:
        """Let the peer read."""
        frames, rest = split_frames(self._buffer)
        assert not rest
        self._buffer = b""
        for frame in frames:
            self._follower.hear(frame)

    def hear_pongs(self, heard: Any) -> bool:
        """Show no pongs."""
        return False

    def hear_what_is_hidden(self, heard: Any) -> None:
        """Hide nothing."""

    def before_shutdown(self, act: Any) -> bool:
        """Know of no shutdown."""
        return False


class Follower:
    """The client that we ship, without its socket: `core.following` and `core.rows`."""

    def __init__(self, manager: ConnectionManager, wanted: dict[str, Any], direct: bool) -> None:
        self.wire = FakeWire(self) if direct else None
        self.wanted = wanted
        self.inbox: asyncio.Queue[str | None] = asyncio.Queue()
        self.reading = asyncio.Event()
        self.reading.set()
        self.pongs = 0
        self.pings = 0
        self._protocol = following.Follower(
            SubscribeRequest.model_validate({**wanted, "snapshot": LAST})
        )
        self._protocol.connected()
        self._rows = Rows(LAST)
        self.task = asyncio.create_task(manager.run(self), name="follower")

    @property
    def state(self) -> dict[str, int]:
        """Id and revision of what it has."""
        state = {str(id): row.revision for id, row in self._rows.conversations.items()}
        for id in self._rows.conversations:
            state |= {str(row.id): row.revision for row in self._rows.messages(id)}
        return state

    async def accept(self) -> None: ...

    async def close(self, code: int = 1000, reason: str | None = None) -> None: ...

    async def receive(self) -> dict[str, Any]:
        text = await self.inbox.get()
        if text is None:
            return {"type": "websocket.disconnect"}
        return {"type": "websocket.receive", "text": text}

    async def send_text(self, data: str) -> None:
        await self.reading.wait()
        self.hear(json.loads(data))

    def hear(self, frame: dict[str, Any]) -> None:
        """Take a frame."""
        self.pongs += frame["type"] == "pong"
        protocol = self._protocol
        protocol.hear(json.dumps(frame))
        if protocol.due:
            protocol.ask()
        while protocol.told:
            self._rows.apply(protocol.told.popleft())
        while protocol.saying:
            self.inbox.put_nowait(protocol.saying.popleft())

    def read(self) -> None:
        """Read again."""
        self.reading.set()
        if self.wire is not None:
            self.wire.read()

    async def settle(self) -> None:
        """Wait until everything that was on the way has arrived."""
        self.read()
        for _ in range(4):  # an answer may be a resync, which asks again
            self.pings += 1
            self.inbox.put_nowait('{"type": "ping"}')
            await serving.eventually(lambda: self.pongs == self.pings, "the answer comes")


filters = st.sampled_from(
    [
        {},
        {"conversations": [str(conversation("a").id)]},
        {"conversations": []},
        {"projects": [str(PROJECTS["a"])]},
        {"projects": [str(PROJECTS["c"])], "conversations": [str(conversation("c").id)]},
    ]
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(SESSIONS), st.integers(1, 4), st.booleans()),
        st.tuples(st.just("burst"), st.sampled_from(SESSIONS)),
        st.tuples(st.just("join"), filters, st.booleans()),
        st.tuples(st.just("leave"), st.integers(0, 5)),
        st.tuples(st.just("stall"), st.integers(0, 5)),
        st.tuples(st.just("read"), st.integers(0, 5)),
        st.tuples(st.just("turn"), st.integers(1, 4)),
    ),
    max_size=40,
)


async def play(script: list[Any]) -> None:
    """Run a script against a manager with tight bounds; compare every client at its end."""
    chosen = serving.settings(client_queue_events=8, replay_events=16)
    world, feed = World(), LocalFeed(chosen)
    feed.attach(_Transcripts(world))
    manager = ConnectionManager(chosen, feed=feed)
    running = asyncio.create_task(feed.run(manager.hub.take), name="feed")
    await asyncio.sleep(0)
    followers: list[Follower] = [
        Follower(manager, {}, direct=False),
        Follower(manager, {}, direct=True),
    ]
    for step in script:
        match step:
            case ("write", session, seq, gone):
                feed.publish(world.write(session, seq, gone))
            case ("burst", session):
                for seq in range(12):
                    feed.publish(world.write(session, seq, False))
            case ("join", wanted, direct):
                followers.append(Follower(manager, wanted, direct))
            case ("leave", number) if len(followers) > 1:
                followers.pop(number % len(followers)).inbox.put_nowait(None)
            case ("stall", number):
                followers[number % len(followers)].reading.clear()
            case ("read", number):
                followers[number % len(followers)].read()
            case ("turn", times):
                for _ in range(times):
                    await asyncio.sleep(0)
    for follower in followers:
        follower.read()
    for follower in followers:
        await follower.settle()
        assert follower.state == world.state(follower.wanted), follower.wanted
        follower.inbox.put_nowait(None)
        await follower.task
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_every_follower_ends_in_the_state_it_selected(script: list[Any]) -> None:
    """Writers, filters, stalls, resyncs and reconnects in any order lead to the same rows."""
    with patch.object(connections, "find_wire", lambda websocket: websocket.wire):
        asyncio.run(play(script))
