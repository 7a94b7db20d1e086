"""A client by the book, on a connection that a test can hold up or cut. It has no sockets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from conv_realtime.relay import ConnectionManager
from tests.relay import serving
from tests.relay.test_fanout import split_frames

LAST = 1000
"""Messages that a snapshot is asked for: all, in these tests."""


class Follower:
    """Ends in the state that it selected, whatever happens: what a client has to do, and no more.

    * What comes before the last `subscribed` that is due is of another filter.
    * A snapshot replaces everything; only its last frame has a cursor to go on from.
    * Rows are kept by id, lower revisions dropped.
    * After `resync` a snapshot; on a new connection `since`, if there is a cursor.
    """

    def __init__(
        self, manager: ConnectionManager, wanted: dict[str, Any], direct: bool, **options: Any
    ) -> None:
        self.wanted = wanted
        self.state: dict[str, int] = {}
        self.cursor: str | None = None
        self.resyncs = 0
        self._manager = manager
        self._options = options
        self._due = 0
        self._fresh = True
        self._pings = self._pongs = 0
        self._connect(direct)
        self._snapshot()

    def _connect(self, direct: bool) -> None:
        self.line = Line(self, direct)
        self.task = asyncio.create_task(
            self._manager.run(self.line, **self._options), name="follower"
        )

    def come_back(self, direct: bool) -> None:
        """Lose the connection and go on over another one."""
        self.line.cut()
        self._due = self._pings = self._pongs = 0
        self._connect(direct)
        if self.cursor is None:
            self._snapshot()
        else:
            self._subscribe({"since": self.cursor})

    def choose(self, wanted: dict[str, Any]) -> None:
        """Want something else from now on."""
        self.wanted = wanted
        self._snapshot()

    @property
    def away(self) -> bool:
        """Whether it has no connection."""
        return self.line.ended

    def leave(self) -> None:
        """Go, without a word."""
        self.line.cut()

    def _snapshot(self) -> None:
        self.cursor = None
        self._fresh = True
        self._subscribe({"snapshot": LAST})

    def _subscribe(self, start: dict[str, Any]) -> None:
        self._due += 1
        self._say("subscribe", {**self.wanted, **start})

    def _say(self, name: str, data: dict[str, Any]) -> None:
        self.line.inbox.put_nowait(json.dumps({"type": name, "data": data}))

    def hear(self, frame: dict[str, Any]) -> None:
        """Take a frame."""
        name, data = frame["type"], frame["data"]
        if name == "subscribed":
            self._due -= 1
        elif name == "pong":
            self._pongs += 1
        elif name == "error":
            raise AssertionError(data)
        elif name == "resync":
            self.resyncs += 1
            self._snapshot()
        elif not self._due and name != "connection_established":
            self._take(name, data)

    def _take(self, name: str, data: dict[str, Any]) -> None:
        if name == "snapshot":
            if self._fresh:
                self.state.clear()
                self._fresh = False
            for row in (*data["conversations"], *data["messages"]):
                self._keep(row)
            self.cursor = None if data["more"] else data["cursor"]
            return
        if name in ("message_deleted", "conversation_deleted"):
            if self.state.get(data["id"], 0) <= data["revision"]:
                self.state.pop(data["id"], None)
        elif name not in ("ping", "project_update"):
            self._keep(data)
        if self.cursor is not None:
            self.cursor = data["cursor"]

    def _keep(self, row: dict[str, Any]) -> None:
        if self.state.get(row["id"], 0) <= row["revision"]:
            self.state[row["id"]] = row["revision"]

    async def settle(self) -> None:
        """Read until everything that was on the way has arrived."""
        self.line.read()
        while True:
            resyncs = self.resyncs
            self._pings += 1
            self._say("ping", {})
            await serving.eventually(lambda: self._pongs == self._pings, "the answer comes")
            if self.resyncs == resyncs:  # otherwise it asked again
                return


class Line:
    """A connection: a WebSocket for the manager, and with `direct` a transport for the hub."""

    def __init__(self, follower: Follower, direct: bool) -> None:
        self.wire = Wire(self) if direct else None
        self.inbox: asyncio.Queue[str | None] = asyncio.Queue()
        self.reading = asyncio.Event()
        self.reading.set()
        self._follower: Follower | None = follower

    async def accept(self) -> None: ...

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        self.cut()

    async def receive(self) -> dict[str, Any]:
        text = await self.inbox.get()
        if text is None:
            return {"type": "websocket.disconnect"}
        return {"type": "websocket.receive", "text": text}

    async def send_text(self, data: str) -> None:
        await self.reading.wait()
        self.deliver(json.loads(data))

    @property
    def ended(self) -> bool:
        """Whether it was cut."""
        return self._follower is None

    def deliver(self, frame: dict[str, Any]) -> None:
        """Give a frame to who is at the other end, if anybody is."""
        if self._follower is not None:
            self._follower.hear(frame)

    def cut(self) -> None:
        """End the connection; what is on the way is lost."""
        self._follower = None
        self.inbox.put_nowait(None)
        self.reading.set()

    def stall(self) -> None:
        """Read no more for now."""
        self.reading.clear()

    def read(self) -> None:
        """Read again."""
        self.reading.set()
        if self.wire is not None:
            self.wire.read()


class Wire:
    """A transport whose peer reads at once, or not at all while it stalls."""

    closing = False
    descriptor = -1

    def __init__(self, line: Line) -> None:
        self._line = line
        self._buffer = b""

    @property
    def waiting_bytes(self) -> int:
        """Bytes that the peer has not read. A stalled one holds up anything at once."""
        return 10**6 if self._buffer else 0

    def write(self, frames: bytes) -> bool:
        """Take frames."""
        self._buffer += frames
        if self._line.reading.is_set():
            self.read()
        return True

    def read(self) -> None:
        """Let the peer read."""
        frames, rest = split_frames(self._buffer)
        assert not rest
        self._buffer = b""
        for frame in frames:
            self._line.deliver(frame)

    def hear_pongs(self, heard: Any) -> bool:
        """Show no pongs."""
        return False

    def hear_what_is_hidden(self, heard: Any) -> None:
        """Hide nothing."""

    def before_shutdown(self, act: Any) -> bool:
        """Know of no shutdown."""
        return False

    def hang_up(self, code: int, reason: str) -> None:
        """Close."""
        self._line.cut()
