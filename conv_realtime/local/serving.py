"""A web server among others in one process, which stops as fast as its connections let it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from conv_realtime.background import whole
from conv_realtime.edges.doorstep import Doorstep, protocol

_MAX_HEADER_BYTES = 1 << 18
_MAX_FRAME_BYTES = 5_000_000  # of a websocket, as on a real Realtime server
_TICK_SECONDS = 0.1
_POLL_SECONDS = 0.001


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp, listener: socket.socket, grace_seconds: float
) -> AsyncIterator[asyncio.Task[None]]:
    """Serves until left; connections that have not ended within the grace are then cut.

    Gives the task that serves, which should not end before.
    """
    doorstep = Doorstep()

    async def called(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:  # uvicorn would log a traceback of what it cuts itself
            if not server.should_exit:
                raise

    config = uvicorn.Config(
        cast(Any, called),
        http=protocol(doorstep),
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        # Clients keep idle connections for some seconds; the server must not be the first to close.
        timeout_keep_alive=75,
        h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
        ws="websockets-sansio",
        ws_max_size=_MAX_FRAME_BYTES,
        ws_per_message_deflate=False,
    )
    server = _Server(config, grace_seconds)
    task = asyncio.create_task(server.serve([listener]), name="conv_realtime.local.gateway")
    try:
        while not server.started:
            if task.done():
                await task
            await asyncio.sleep(_POLL_SECONDS)
        yield task
    finally:
        server.stop()
        try:
            await whole(task)
        finally:
            doorstep.close()


class _Server(uvicorn.Server):
    """uvicorn's own looks ten times a second whether to stop, and then waits a tenth more."""

    def __init__(self, config: uvicorn.Config, grace_seconds: float) -> None:
        super().__init__(config)
        self._grace_seconds = grace_seconds
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Lets `serve` end."""
        self.should_exit = True
        self._stopping.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signal handlers alone: the process's signals are not this server's."""
        yield

    async def main_loop(self) -> None:
        """Ticks, for uvicorn's `Date` header among others, until told to stop."""
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_SECONDS):
                    await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends listening and connections, websockets with 1012."""
        for server in self.servers:
            server.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._grace_seconds):
                # uvicorn tells nobody when they change.
                while state.connections or state.tasks:  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_SECONDS)
        for connection in list(state.connections):
            cast(Any, connection).transport.abort()
        tasks = list(state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
