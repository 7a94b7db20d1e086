"""Clients of every kind, each with the state that it has come to."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import WebSocketException

from conv_realtime import Rows, connect
from conv_realtime.edges.feed import SupabaseFeed
from conv_realtime.errors import StoreError
from conv_realtime.models import Change, Conversation, Message, Row
from conv_realtime.ports import Page
from conv_realtime.settings import Settings
from tests.relay.protocol import check_frame

EVERYTHING = 1000
_SOON = 0.02

State = dict[str, tuple[Any, ...]]
"""Conversations and live messages by id, as `shown` gives them."""


def shown(row: Any) -> tuple[Any, ...]:
    """Return what is compared of a row, a mapping or an object."""
    get = row.get if isinstance(row, dict) else lambda name: getattr(row, name)
    if (row.get("seq") if isinstance(row, dict) else getattr(row, "seq", None)) is None:
        return get("revision"), get("title"), get("message_count"), get("output_tokens")
    return get("revision"), str(get("conversation_id")), get("seq"), get("role"), get("text")


class Client(ABC):
    """Follows in a task of its own from `start` to `stop`, over whatever happens.

    Attributes:
        place: whose changes it hears.
        faults: what it was told that it must not be told.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self.faults: list[str] = []
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Follow, or go on where it ended."""
        if self._task is None:
            self._task = asyncio.create_task(self._follow(), name=f"client of {self.place}")

    async def stop(self) -> None:
        """Follow no more; what it has stays."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled() and (error := task.exception()) is not None:
                self.faults.append(f"it died of {error!r}")

    def check(self) -> None:
        """Note that it has died, if so."""
        if self._task is not None and self._task.done():
            error = None if self._task.cancelled() else self._task.exception()
            self.faults.append(f"it died of {error!r}")
            self._task = None

    @abstractmethod
    async def _follow(self) -> None: ...

    @abstractmethod
    async def state(self) -> State:
        """Return what it has."""


class PythonClient(Client):
    """`connect` with `Rows`, from a snapshot on."""

    def __init__(self, place: str, url: str) -> None:
        super().__init__(place)
        self._url = url
        self._rows = Rows(EVERYTHING)

    async def _follow(self) -> None:
        self._rows = Rows(EVERYTHING)
        async with connect(self._url, subscribe={"snapshot": EVERYTHING}) as live:
            async for event in live:
                self._rows.apply(event)

    async def state(self) -> State:
        """Return what it has."""
        rows = self._rows
        state = {str(id): shown(row) for id, row in rows.conversations.items()}
        for id in rows.conversations:
            state |= {str(row.id): shown(row) for row in rows.messages(id)}
        return state


class RawClient(Client):
    """A client by the book: `since`, and after a gap a snapshot. Every frame is judged."""

    def __init__(self, place: str, url: str) -> None:
        super().__init__(place)
        self._url = url
        self._rows: dict[str, dict[str, Any]] = {}
        self._gone: dict[str, int] = {}
        self._cursor: str | None = None
        self._filling = False
        self._heard: dict[str, int] = {}
        self._in_order = False

    async def _follow(self) -> None:
        while True:
            try:
                async with connect_websocket(self._url, max_size=2**22) as connection:
                    await self._talk(connection)
            except (OSError, TimeoutError, WebSocketException, EOFError):
                pass
            await asyncio.sleep(_SOON)

    async def _talk(self, connection: ClientConnection) -> None:
        self._heard = {}
        due = 0
        if self._filling:
            self._cursor = None

        async def ask() -> None:
            nonlocal due
            due += 1
            wanted = {"since": self._cursor} if self._cursor else {"snapshot": EVERYTHING}
            self._filling = self._cursor is None
            # A `since` that the relay's log does not cover is answered from the database: what the
            # relay had read just before comes behind it, at the revision that it had then.
            self._in_order = self._filling
            await connection.send(json.dumps({"type": "subscribe", "data": wanted}))

        fresh = True
        await ask()
        async for text in connection:
            frame = check_frame(text)
            name, data = frame["type"], frame["data"]
            if name == "subscribed":
                due -= 1
                fresh = True
            elif name == "ping":
                await connection.send('{"type": "pong"}')
            elif due or name in ("connection_established", "server_shutdown"):
                continue
            elif name == "resync" or (name == "error" and self._filling):
                self._cursor = None
                await asyncio.sleep(_SOON)
                await ask()
            elif name == "error":
                self.faults.append(f"an error: {data}")
            elif name == "snapshot":
                self._take_snapshot(data, fresh)
                fresh = False
            else:
                self._take(name, data)

    def _take_snapshot(self, data: dict[str, Any], fresh: bool) -> None:
        if fresh:
            self._rows.clear()
            self._gone.clear()
            self._heard.clear()
        for row in (*data["conversations"], *data["messages"]):
            self._put(row)
        if not data["more"]:
            self._filling = False
            self._cursor = data["cursor"]

    def _take(self, name: str, data: dict[str, Any]) -> None:
        if not self._filling and "cursor" in data:
            self._cursor = data["cursor"]
        if name == "project_update":
            return
        id, revision = data["id"], data["revision"]
        if name.endswith(("_message", "message_update", "message_deleted")):
            if self._in_order and revision < self._heard.get(id, 0):
                self.faults.append(f"{id} fell from {self._heard[id]} to {revision} on one line")
            self._heard[id] = revision
        if name.endswith("_deleted"):
            if revision >= self._rows.get(id, data)["revision"]:
                self._rows.pop(id, None)
                self._gone[id] = max(revision, self._gone.get(id, 0))
            if name == "conversation_deleted":
                for row in [r for r in self._rows.values() if r.get("conversation_id") == id]:
                    del self._rows[row["id"]]
        else:
            self._put(data)

    def _put(self, row: dict[str, Any]) -> None:
        id, revision = row["id"], row["revision"]
        if revision >= max(self._gone.get(id, 0), self._rows.get(id, row)["revision"]):
            self._rows[id] = row

    async def state(self) -> State:
        """Return what it has."""
        return {id: shown(row) for id, row in self._rows.items()}


class ChannelClient(Client):
    """A user's own reader of the database: `SupabaseFeed`, a snapshot, and pages from there on."""

    def __init__(self, settings: Settings) -> None:
        super().__init__("channel")
        self._settings = settings
        self._rows: dict[str, Any] = {}
        self._fresh = asyncio.Event()
        self._loaded = False

    async def _follow(self) -> None:
        self._rows.clear()
        self._loaded = False
        feed = SupabaseFeed(self._settings)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(feed.run(self._take), name="channel client")
            tasks.create_task(self._fill(feed), name="channel client's snapshots")

    def _take(self, page: Page) -> None:
        if page.resync or not self._loaded:
            self._loaded = True
            self._fresh.set()
        for change in page.changes:
            self._put(change)

    async def _fill(self, feed: SupabaseFeed) -> None:
        while True:
            await self._fresh.wait()
            self._fresh.clear()
            wanted: dict[str, Any] = {"owner": None, "conversations": None, "projects": None}
            try:
                async for part in feed.snapshot(**wanted, messages=EVERYTHING):
                    rows: tuple[Row, ...] = (*part.conversations, *part.messages)
                    for row in rows:
                        self._put(Change(row, created=False))
            except StoreError:
                await asyncio.sleep(_SOON)
                self._fresh.set()

    def _put(self, change: Change) -> None:
        row = change.row
        if isinstance(row, Conversation | Message):
            known = self._rows.get(str(row.id))
            if known is None or known.revision <= row.revision:
                self._rows[str(row.id)] = row

    async def state(self) -> State:
        """Return what it has."""
        return {id: shown(row) for id, row in self._rows.items() if row.deleted_at is None}


class JavaScriptClient(Client):
    """One of ours in Node.js, which goes on by itself."""

    def __init__(self, place: str, ask: Callable[..., Any], name: str) -> None:
        super().__init__(place)
        self._ask = ask
        self._name = name

    async def _follow(self) -> None:
        await asyncio.Event().wait()

    async def state(self) -> State:
        """Return what it has: ids and revisions."""
        rows = await self._ask("rows", name=self._name)
        return {id: (revision,) for id, revision in rows.items()}
