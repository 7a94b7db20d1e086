"""Plays one capture: sends its client's frames, keeps what the server answers."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from conv_realtime.local.realtime.frames import Version
from tests.local.realtime_client import PATIENCE
from tests.local.replay.captures import Capture, Line
from tests.local.replay.compare import Gap, gaps
from tests.local.replay.flows import Flow
from tests.local.replay.project import SETTLED, Server

_SHORT = 0.05
"""Seconds to wait for a frame that is not expected, when everything has settled."""


class _Connection:
    """One connection of the capture.

    Attributes:
        received: what the capture's server would have sent.
        websocket: None before and after.
        over: set when the capture has ended: what comes now is no part of it.
        number: as in the capture.
    """

    def __init__(self, number: int, version: Version) -> None:
        self.received: list[Line] = []
        self.websocket: ClientConnection | None = None
        self.over = False
        self.number = number
        self._version = version
        self._refs = itertools.count(1)
        self._answered: set[str] = set()
        self._arrived = asyncio.Event()

    async def open(self, url: str) -> None:
        """Connects, or keeps the refusal."""
        try:
            self.websocket = await connect(url, compression=None, ping_interval=None, max_size=None)
        except InvalidStatus as refused:
            response = refused.response
            body = (response.body or b"").decode()
            status = f"{response.status_code} {response.reason_phrase}  body: {body}"
        else:
            status = "101 Switching Protocols"
        self._keep("http", f"HTTP/1.1 {status}")

    async def read(self) -> None:
        """Keeps what arrives, to the end of the connection."""
        if self.websocket is None:
            return
        with suppress(ConnectionClosed):
            async for data in self.websocket:
                if isinstance(data, bytes):
                    self._keep("binary", data)
                elif SETTLED in data:
                    self._note_own(data)
                else:
                    self._keep("text", data)
        self._keep("close", "", self.websocket.close_code)
        self.websocket = None

    async def settle(self) -> None:
        """Returns when every frame that was sent before has been handled."""
        if self.websocket is None:
            return
        ref = f"{SETTLED} {next(self._refs)}"
        frame: object = {"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": ref}
        if self._version is Version.V2:
            frame = [None, ref, "phoenix", "heartbeat", {}]
        with suppress(ConnectionClosed):
            await self.websocket.send(json.dumps(frame))
        await self.until(lambda: ref in self._answered or self.websocket is None, PATIENCE)

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Waits for something that comes with a frame; gives whether it came."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition():
                    self._arrived.clear()
                    await self._arrived.wait()
        return condition()

    async def has(self, count: int, seconds: float) -> bool:
        """Waits for so many frames; gives whether they came."""
        return await self.until(lambda: len(self.received) >= count, seconds)

    def _keep(self, op: str, data: str | bytes, code: int | None = None) -> None:
        if not self.over:
            self.received.append(Line(self.number, True, op, data, code))
        self._arrived.set()

    def _note_own(self, data: str) -> None:
        """Notes an answer to a heartbeat of the player's; its rows reach wide subscriptions."""
        frame = json.loads(data)
        self._answered.add(frame["ref"] if isinstance(frame, dict) else frame[1])
        self._arrived.set()


class Player:
    """Plays a capture once.

    Args:
        server: to play it against.
        capture: what to play.
        flow: what is not in the capture.
        complete: whether everything in the capture is known to come from our server, too.
    """

    def __init__(self, server: Server, capture: Capture, flow: Flow, *, complete: bool) -> None:
        self._server = server
        self._capture = capture
        self._flow = flow
        self._patience = PATIENCE if complete else _SHORT
        self._steps = list(flow.steps)
        self._connections: dict[int, _Connection] = {}
        self._expected: dict[int, int] = {}
        self._gaps: list[Gap] = []

    async def play(self) -> list[Gap]:
        """Gives how our server differed from the captured one, connection by connection.

        Raises:
            LookupError: a step belongs before a line that the capture does not have.
        """
        for step in self._steps:
            if not any(re.search(step.before, line.text) for line in self._capture.lines):
                raise LookupError(f"no line of {self._capture.name} has {step.before!r}")
        versions = self._capture.connections()
        async with asyncio.TaskGroup() as group, self._closing():
            for line in self._capture.lines:
                await self._do_steps_before(line)
                if line.incoming:
                    self._expected[line.conn] = self._expected.get(line.conn, 0) + 1
                elif line.op == "http":
                    await self._caught_up()
                    connection = _Connection(line.conn, line.version)
                    self._connections[line.conn] = connection
                    await connection.open(
                        self._server.url.replace("http", "ws")
                        + f"/realtime/v1/websocket?{line.query}"
                    )
                    group.create_task(connection.read(), name=f"replay.read.{line.conn}")
                else:
                    await self._caught_up()
                    await self._send(line)
            await self._caught_up()
        for number, connection in self._connections.items():
            self._gaps += gaps(
                self._capture.received(number),
                connection.received,
                self._capture.sent(number),
                versions[number],
            )
        return self._gaps

    @asynccontextmanager
    async def _closing(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                yield
            finally:
                for connection in self._connections.values():
                    connection.over = True
                    if connection.websocket is not None:
                        stack.push_async_callback(connection.websocket.close)

    async def _do_steps_before(self, line: Line) -> None:
        while self._steps and re.search(self._steps[0].before, line.text):
            await self._caught_up()
            gap = await self._steps.pop(0).action(self._server)
            if gap is not None:
                self._gaps.append(gap)

    async def _send(self, line: Line) -> None:
        connection = self._connections[line.conn]
        if line.op == "close":
            await self._settle()
        websocket = connection.websocket
        if websocket is None:
            return  # ours has closed it, which shows in what was received
        with suppress(ConnectionClosed):
            if line.op == "close":
                await websocket.close(line.code or 1000)
            else:
                await websocket.send(self._flow.rewrite(line))

    async def _caught_up(self) -> None:
        """Waits until each connection has what its captured one had by then.

        What does not come is told as a difference in the end; from there on nobody waits long.
        """
        if self._patience == _SHORT and self._behind():
            await self._settle()
        for connection, expected in self._behind():
            if not await connection.has(expected, self._patience):
                self._patience = _SHORT
                self._expected[connection.number] = len(connection.received)

    def _behind(self) -> list[tuple[_Connection, int]]:
        return [
            (connection, expected)
            for connection in self._connections.values()
            if len(connection.received) < (expected := self._expected.get(connection.number, 0))
        ]

    async def _settle(self) -> None:
        await self._server.settle()
        for connection in self._connections.values():
            await connection.settle()
