"""A server of `/ws` that says what a test tells it to, frame by frame."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.relay.serving import DEADLINE


class Line:
    """One connection, from the server's side."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self._heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.ended = asyncio.Event()

    async def read(self) -> None:
        """Read until the client has gone."""
        try:
            async for text in self._connection:
                self._heard.put_nowait(json.loads(text))
        except ConnectionClosed:
            pass
        self.ended.set()

    async def says(self, name: str, **data: Any) -> None:
        """Say a frame."""
        await self._connection.send(json.dumps({"type": name, "data": data}))

    async def welcomes(self, cursor: str = "s.5", heartbeat_seconds: float = 20) -> None:
        """Say the first frame of a connection."""
        await self.says(
            "connection_established",
            client_id="c",
            subscriptions=[],
            filter={},
            server_time="2026-01-02T03:04:05Z",
            cursor=cursor,
            heartbeat_seconds=heartbeat_seconds,
        )

    async def hears(self) -> dict[str, Any]:
        """Wait for what the client says next."""
        async with asyncio.timeout(DEADLINE):
            return await self._heard.get()

    async def confirms(self) -> dict[str, Any]:
        """Wait for a subscription and confirm it; give what was asked for."""
        frame = await self.hears()
        assert frame["type"] == "subscribe"
        await self.says("subscribed", subscriptions=[], filter={})
        data: dict[str, Any] = frame["data"]
        return data

    async def barrier(self) -> None:
        """Return when the client has taken what was said; it must say nothing else until then."""
        await self.says("ping", timestamp="2026-01-02T03:04:05Z", cursor="")
        assert (await self.hears())["type"] == "pong"

    async def closes(self, code: int) -> None:
        """End the connection."""
        await self._connection.close(code)


class Scripted:
    """Listens; each connection is a line."""

    def __init__(self) -> None:
        self._lines: asyncio.Queue[Line] = asyncio.Queue()
        self.port = 0

    @property
    def url(self) -> str:
        """Where it is."""
        return f"ws://127.0.0.1:{self.port}/ws"

    async def line(self) -> Line:
        """Wait for the next connection."""
        async with asyncio.timeout(DEADLINE):
            return await self._lines.get()

    @classmethod
    @asynccontextmanager
    async def run(cls) -> AsyncIterator[Self]:
        """Listen until left."""
        scripted = cls()

        async def handle(connection: ServerConnection) -> None:
            line = Line(connection)
            scripted._lines.put_nowait(line)
            await line.read()

        async with serve(handle, "127.0.0.1", 0, ping_interval=None, close_timeout=1) as server:
            scripted.port = next(iter(server.sockets)).getsockname()[1]
            yield scripted
