"""One port for the Data API and Realtime, under the paths that Supabase clients expect."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Self

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from conv_realtime.local.address import listening
from conv_realtime.local.keys import Keys
from conv_realtime.local.postgres.server import Postgres
from conv_realtime.local.realtime.server import RealtimeServer
from conv_realtime.local.rest.service import DataApi

_GRACE_SECONDS = 2
_MAX_HEADER_BYTES = 1 << 18
_MAX_FRAME_BYTES = 5_000_000  # of a websocket, as on a real Realtime server


class Gateway:
    """The HTTP and websocket server of a local Supabase, as an async context manager.

    Args:
        postgres: a running database that has been provisioned.
        keys: what signs and checks tokens.
        host: the address to listen on; `address.check_host` says which are fit.
        port: the port; 0 picks a free one, which `port` then tells.
    """

    def __init__(self, postgres: Postgres, keys: Keys, host: str, port: int) -> None:
        self.port = port
        self._postgres = postgres
        self._keys = keys
        self._host = host
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Starts listening.

        Raises:
            ConfigError: the port is taken, or the host is not this machine's.
        """
        async with contextlib.AsyncExitStack() as stack:
            listener = stack.enter_context(listening(self._host, self.port))
            self.port = listener.getsockname()[1]
            routes: list[BaseRoute] = [Route("/auth/v1/health", _auth_health)]
            rest = DataApi(self._postgres.dsn(user="authenticator"), self._keys.verify)
            routes += (await stack.enter_async_context(rest)).routes
            realtime = RealtimeServer(self._postgres.dsn(), verify=self._keys.verify)
            routes += (await stack.enter_async_context(realtime)).routes
            await stack.enter_async_context(_serving(_application(routes), listener))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Stops listening, closes websockets with 1012, then stops what stands behind."""
        await self._stack.aclose()


def _application(routes: list[BaseRoute]) -> Starlette:
    # Frontends live on other origins, and every request carries its own key: nothing to protect
    # by origin, as on the hosted platform.
    cors = Middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
        allow_headers=["*"],
        expose_headers=["Content-Range", "Content-Location", "Location", "Preference-Applied"],
        max_age=86400,
    )
    return Starlette(routes=routes, middleware=[cors])


async def _auth_health(_: Request) -> Response:
    return JSONResponse({"name": "conv_realtime", "description": "tokens are made by the CLI"})


class _Server(uvicorn.Server):
    """A server among others in one process: the process's signals are not its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signal handlers alone."""
        yield


@contextlib.asynccontextmanager
async def _serving(app: Starlette, listener: socket.socket) -> AsyncIterator[None]:
    config = uvicorn.Config(
        app,
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
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve([listener]), name="conv_realtime.local.gateway")
    try:
        while not server.started:
            if task.done():
                await task
            await asyncio.sleep(0.001)
        yield
    finally:
        server.should_exit = True
        await task
