"""The processes of the model: files that grow, a bridge that may die, a relay, and clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from conv_realtime.edges.feed import SupabaseFeed
from conv_realtime.ingest.batches import Batch
from conv_realtime.ingest.request import MissingParentError, PutOffError
from conv_realtime.ingest.sender import Sender
from conv_realtime.ingest.sending import LATER_SECONDS
from conv_realtime.models import Change, Conversation, Message, Row
from conv_realtime.ports import Feed
from conv_realtime.relay import ConnectionManager, LocalFeed
from conv_realtime.settings import Settings
from tests.model.supabase import ModelClient, ModelStore, Supabase
from tests.relay.rows import START, conversation, message, project

PATHS = {"a": "/one", "b": "/one", "c": "/two"}
PROJECTS = {session: project(path).id for session, path in PATHS.items()}
SETTINGS = Settings.model_construct(
    client_queue_events=8, replay_events=16, reconcile_interval=5.0, sweep_seconds=5.0
)
BATCH_LINES = 3
LAST = 1000


class File:
    """A transcript: each line is a message, or one more line of an earlier message."""

    def __init__(self, session: str) -> None:
        self.session = session
        self.lines: list[tuple[int, bool]] = []
        self.grown = asyncio.Event()

    def append(self, seq: int, *, gone: bool) -> None:
        """Write a line of message `seq`, which may take the message back."""
        self.lines.append((seq, gone))
        self.grown.set()

    def conversation(self, end: int) -> Conversation:
        """Return the row as the first `end` lines state it."""
        return conversation(self.session, revision=end, project_id=PROJECTS[self.session])

    def messages(self, start: int, end: int) -> list[Message]:
        """Return every message of the first `end` lines that has a line behind `start`."""
        talk = self.conversation(end)
        last = {seq: (number, gone) for number, (seq, gone) in enumerate(self.lines[:end], 1)}
        return [
            message(
                f"line {number}",
                seq,
                of=talk,
                revision=number,
                deleted_at=START + timedelta(1) if gone else None,
                project_id=talk.project_id,
            )
            for seq, (number, gone) in last.items()
            if number > start
        ]

    def batch(self, start: int) -> Batch | None:
        """Return what an ingest would send next behind line `start`."""
        end = min(len(self.lines), start + BATCH_LINES)
        if end == start:
            return None
        talk, rows = self.conversation(end), self.messages(start, end)
        known = {seq for seq, _ in self.lines[:start]}
        stub = [talk.model_copy(update={"revision": 0})] if start == 0 else []
        return Batch(
            projects=[project(PATHS[self.session])],
            stubs=stub,
            messages=sorted(rows, key=lambda row: row.id),
            gone=[],
            totals=[talk],
            created=frozenset(row.id for row in rows if row.seq not in known),
            mark=(end, 0),
            newest=None,
        )


class World:
    """What all processes share: the files, the checkpoints on disk, and Supabase."""

    def __init__(self, supabase: Supabase) -> None:
        self.supabase = supabase
        self.files = {session: File(session) for session in PATHS}
        self.checkpoints: dict[tuple[str, str], int] = {}

    async def conversations(self) -> Sequence[Conversation]:
        """Return what the files state, as `Transcripts`."""
        await asyncio.sleep(0)
        return [file.conversation(len(file.lines)) for file in self.files.values() if file.lines]

    async def messages(self, conversation: UUID, last: int) -> Sequence[Message]:
        """Return the messages of a file, as `Transcripts`."""
        await asyncio.sleep(0)
        for file in self.files.values():
            end = len(file.lines)
            if file.conversation(end).id == conversation:
                live = [row for row in file.messages(0, end) if row.deleted_at is None]
                return sorted(live, key=lambda row: row.seq)[-last:]
        return []

    def state(self, wanted: dict[str, Any]) -> dict[str, int]:
        """Return id and revision of what a filter selects."""
        state: dict[str, int] = {}
        for file in self.files.values():
            end = len(file.lines)
            talk = file.conversation(end)
            chosen = wanted.get("conversations", [str(talk.id)])
            places = wanted.get("projects", [str(talk.project_id)])
            if end and str(talk.id) in chosen and str(talk.project_id) in places:
                state[str(talk.id)] = end
                live = (row for row in file.messages(0, end) if row.deleted_at is None)
                state.update((str(row.id), row.revision) for row in live)
        return state

    def stored(self) -> dict[str, int]:
        """Return the same of the database."""
        rows = [stored.row for stored in self.supabase.database.rows.values()]
        state = {str(row.id): row.revision for row in rows if isinstance(row, Conversation)}
        live = (row for row in rows if isinstance(row, Message) and row.deleted_at is None)
        return state | {str(row.id): row.revision for row in live}


class Server:
    """A process that serves /ws from a feed, until it dies or stops."""

    def __init__(self, feed: Feed, name: str) -> None:
        self.manager = ConnectionManager(SETTINGS, feed=feed)
        self.clients: dict[Client, None] = {}
        self._running = [asyncio.create_task(feed.run(self.manager.hub.take), name=f"{name} feed")]

    def also(self, task: asyncio.Task[None]) -> None:
        """Have a task end with the process."""
        self._running.append(task)

    def check(self) -> None:
        """Raise what something in the process died of."""
        for task in self._running:
            if task.done():
                task.result()

    async def end(self, *, in_order: bool) -> None:
        """Die, or stop as on SIGTERM; its clients lose their connection."""
        if in_order:
            await self.manager.shutdown()
        for client in list(self.clients):
            client.lose()
        await _end(self._running)


def relay(world: World) -> Server:
    """Start a process that is fed by Supabase alone."""
    return Server(SupabaseFeed(SETTINGS, client=ModelClient(world.supabase)), "relay")  # type: ignore[arg-type]


def bridge(world: World) -> Server:
    """Start a process that reads the files, sends what they say, and serves it at once."""
    feed = LocalFeed(SETTINGS)
    feed.attach(world)
    server = Server(feed, "bridge")
    server.also(asyncio.create_task(_ingest(world, feed), name="ingest"))
    return server


async def _ingest(world: World, feed: LocalFeed) -> None:
    """Send every file to the database that is there; begin again when it is another one."""
    store = ModelStore(world.supabase)
    sender = Sender(store, SETTINGS)
    sender.stubborn = True
    while True:
        stream = await sender.ask(store.database)
        sender.forget_parents()
        sender.refused.clear()
        async with asyncio.TaskGroup() as files:
            tasks = [
                files.create_task(_follow(world, file, stream, sender, feed), name=file.session)
                for file in world.files.values()
            ]
            while await sender.ask(store.database) == stream:  # noqa: ASYNC110 - as ingest does
                await asyncio.sleep(SETTINGS.sweep_seconds)
            for task in tasks:
                task.cancel()


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel tasks; raise what one of them died of before."""
    for task in tasks:
        task.cancel()
    for end in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(end, Exception):
            raise end


async def _follow(world: World, file: File, stream: str, sender: Sender, feed: LocalFeed) -> None:
    published = position = world.checkpoints.get((stream, file.session), 0)
    lost_at = -1
    while True:
        file.grown.clear()
        while batch := file.batch(published):
            rows: list[Row] = [*batch.messages, *batch.totals]
            feed.publish([Change(row, row.id in batch.created) for row in rows])
            published = batch.mark[0]
        while batch := file.batch(position):
            try:
                outcome = await sender.write(batch, file.session, resent=lost_at >= 0)
            except MissingParentError:
                sender.forget_parents()
                position, lost_at = 0, batch.mark[0]
                continue
            except PutOffError:
                await asyncio.sleep(LATER_SECONDS)
                continue
            lost_at = -1 if batch.mark[0] >= lost_at else lost_at
            if outcome.faults or outcome.held:  # no row here is bad: a restore took its parent
                sender.refused.clear()
                sender.forget_parents()
                position = 0
                await asyncio.sleep(LATER_SECONDS)
                continue
            position = batch.mark[0]
            _check_acknowledged(world, file, stream, position)
            world.checkpoints[stream, file.session] = position
            if file.batch(published):
                break
        else:
            await file.grown.wait()


def _check_acknowledged(world: World, file: File, stream: str, position: int) -> None:
    """A checkpoint never moves beyond what the database has."""
    database = world.supabase.database
    if database.stream != stream:
        return
    for row in file.messages(0, position):
        stored = database.rows["messages", row.id].row
        assert isinstance(stored, Message)
        assert stored.revision >= row.revision


class Client:
    """A client by the book: a snapshot, then events; it comes back with its cursor.

    It has the WebSocket methods that `ConnectionManager` needs, of one connection after another.

    Attributes:
        wanted: its filter.
        state: id and revision of each row that it shows.
        reading: whether it reads.
        patience: how many frames it reads before it stops to; None: all.
    """

    def __init__(self, wanted: dict[str, Any]) -> None:
        self.wanted = wanted
        self.state: dict[str, int] = {}
        self.cursor: str | None = None
        self.reading = asyncio.Event()
        self.reading.set()
        self.patience: int | None = None
        self.pongs = 0
        self._fresh = True
        self._whole = False
        self._unanswered = 0
        self._inbox: asyncio.Queue[str | None] = asyncio.Queue()
        self._server: Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def connect(self, server: Server) -> None:
        """Leave where it is, and connect anew."""
        await self.leave()
        self._inbox = asyncio.Queue()
        self._server = server
        self._task = asyncio.create_task(server.manager.run(self), name="client")
        server.clients[self] = None
        self._unanswered = 0
        if self.cursor is not None and self._whole:
            self._ask({"since": self.cursor})
        else:
            self._start_over()

    async def leave(self) -> None:
        """Close the connection, if there is one."""
        self.lose()
        self.patience = None
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        self.reading.set()

    def lose(self) -> None:
        """Lose the connection."""
        if self._server is not None:
            self._server.clients.pop(self, None)
            self._server = None
        self._inbox.put_nowait(None)

    @property
    def connected(self) -> bool:
        """Whether it has a connection that stands."""
        return self._server is not None and self._task is not None and not self._task.done()

    async def settle(self) -> None:
        """Wait until everything that was on the way has arrived."""
        self.patience = None
        self.reading.set()
        for _ in range(4):  # an answer may be a resync, which asks again
            before = self.pongs
            self._say("ping", {})
            async with asyncio.timeout(60):
                while self.pongs == before:  # noqa: ASYNC110 - on virtual time
                    await asyncio.sleep(0.01)

    # What a WebSocket does ---------------------------------------------------------------------

    async def accept(self) -> None:
        """Be accepted."""

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Be closed by the server."""
        self.lose()

    async def receive(self) -> dict[str, Any]:
        """Give the server what was said."""
        text = await self._inbox.get()
        if text is None:
            return {"type": "websocket.disconnect"}
        return {"type": "websocket.receive", "text": text}

    async def send_text(self, data: str) -> None:
        """Take a frame, unless it does not read."""
        await self.reading.wait()
        frame = json.loads(data)
        self._hear(frame["type"], frame["data"])
        if self.patience is not None:
            self.patience -= 1
            if self.patience <= 0:
                self.patience = None
                self.reading.clear()

    def _hear(self, name: str, body: dict[str, Any]) -> None:
        if name == "subscribed":
            self._unanswered -= 1
        elif self._unanswered and name not in ("ping", "pong"):
            return  # of another filter, and far ahead of what was asked for
        match name:
            case "resync":
                self._start_over()
                return
            case "ping":
                self._say("pong", {})
            case "pong":
                self.pongs += 1
            case "snapshot":
                if self._fresh:
                    self.state.clear()
                    self._fresh = False
                for row in (*body["conversations"], *body["messages"]):
                    self._keep(row)
                self._whole = not body["more"]
            case "message_deleted" | "conversation_deleted":
                if self.state.get(body["id"], 0) <= body["revision"]:
                    self.state.pop(body["id"], None)
            case "error":
                self._start_over()
            case "new_conversation" | "conversation_update" | "new_message" | "message_update":
                self._keep(body)
        if not self._unanswered and body.get("cursor"):
            self.cursor = body["cursor"]

    def _keep(self, row: dict[str, Any]) -> None:
        if self.state.get(row["id"], 0) <= row["revision"]:
            self.state[row["id"]] = row["revision"]

    def _start_over(self) -> None:
        self._fresh, self._whole = True, False
        self._ask({"snapshot": LAST})

    def _ask(self, data: dict[str, Any]) -> None:
        self._unanswered += 1
        self._say("subscribe", {**self.wanted, **data})

    def _say(self, name: str, data: dict[str, Any]) -> None:
        self._inbox.put_nowait(json.dumps({"type": name, "data": data}))
