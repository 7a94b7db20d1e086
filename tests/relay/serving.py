"""A real uvicorn on a free loopback port, in the test's own loop, and a client that reads it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp
from websockets.asyncio.client import ClientConnection, connect

from conv_realtime.relay import LocalFeed, Relay
from conv_realtime.settings import Settings
from tests.relay.protocol import check_frame

DEADLINE = 10.0


def settings(**values: Any) -> Settings:
    """Return settings that no environment has touched."""
    return Settings.model_construct(**values)


class Client:
    """A `/ws` client; each frame that it reads must be one that the protocol describes."""

    def __init__(self, connection: ClientConnection, *, stamped: bool = False) -> None:
        self.connection = connection
        self._stamped = stamped

    async def next(self) -> dict[str, Any]:
        """Return the next frame, whatever it is."""
        async with asyncio.timeout(DEADLINE):
            return check_frame(await self.connection.recv(), stamped=self._stamped)

    async def until(self, name: str) -> list[dict[str, Any]]:
        """Return the frames up to the next of type `name`, which is the last of them."""
        frames = [await self.next()]
        while frames[-1]["type"] != name:
            frames.append(await self.next())
        return frames

    async def got(self, name: str) -> Any:
        """Return the data of the next frame of type `name`, skipping others."""
        return (await self.until(name))[-1]["data"]

    async def say(self, name: str, data: Any = None, **more: Any) -> None:
        """Send a frame."""
        frame = {"type": name, **more}
        if data is not None:
            frame["data"] = data
        await self.connection.send(json.dumps(frame))

    async def sync(self) -> list[dict[str, Any]]:
        """Return every frame that was on the way: those before the answer to a ping."""
        await self.say("ping", {"timestamp": "sync"})
        return (await self.until("pong"))[:-1]

    async def closed(self) -> int:
        """Wait until the server has closed; return its code."""
        async with asyncio.timeout(DEADLINE):
            await self.connection.wait_closed()
        code = self.connection.close_code
        assert code is not None
        return code


class Server:
    """Where a served application listens."""

    def __init__(self, port: int, server: uvicorn.Server) -> None:
        self.port = port
        self.server = server

    @property
    def url(self) -> str:
        """The URL of `/ws`."""
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def http(self) -> str:
        """The base URL for plain HTTP."""
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def client(self, query: str = "", **options: Any) -> AsyncIterator[Client]:
        """Connect; the first frame, `connection_established`, is still to be read."""
        options.setdefault("max_size", 2**22)
        async with connect(self.url + query, **options) as connection:
            yield Client(connection, stamped="timestamp=1" in query)


@asynccontextmanager
async def serve(app: ASGIApp, **options: Any) -> AsyncIterator[Server]:
    """Serve an application until left; its lifespan runs."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        options = {"log_level": "error", "timeout_graceful_shutdown": 2, **options}
        config = uvicorn.Config(app, **options)
        server = _Quiet(config)
        task = asyncio.create_task(server.serve([listening]), name="uvicorn")
        try:
            async with asyncio.timeout(DEADLINE):
                while not server.started:
                    assert not task.done(), "uvicorn did not start"
                    await asyncio.sleep(0.005)
            yield Server(listening.getsockname()[1], server)
        finally:
            server.should_exit = True
            await task


class _Quiet(uvicorn.Server):
    """Leaves the signals to pytest."""

    @asynccontextmanager
    async def _nothing(self) -> AsyncIterator[None]:
        yield

    def capture_signals(self) -> Any:
        from contextlib import nullcontext

        return nullcontext()


class Served:
    """A relay on a local feed, served."""

    def __init__(self, relay: Relay, feed: LocalFeed, server: Server) -> None:
        self.relay = relay
        self.feed = feed
        self.server = server
        self.client = server.client

    @classmethod
    @asynccontextmanager
    async def run(cls, uvicorn_options: Any = None, **values: Any) -> AsyncIterator[Self]:
        """Serve a relay with the given settings."""
        chosen = settings(**values)
        feed = LocalFeed(chosen)
        relay = Relay(feed=feed, settings=chosen)
        app = Starlette(routes=relay.routes, lifespan=relay.lifespan)
        async with serve(app, **(uvicorn_options or {})) as server:
            yield cls(relay, feed, server)


async def eventually(condition: Any, what: str) -> None:
    """Wait until `condition()` holds."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert condition(), what
