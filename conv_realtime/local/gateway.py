"""One port for the Data API and Realtime, under the paths that Supabase clients expect."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from conv_realtime.local.address import listening
from conv_realtime.local.keys import Keys
from conv_realtime.local.postgres.server import Postgres
from conv_realtime.local.realtime.server import RealtimeServer
from conv_realtime.local.rest.service import DataApi
from conv_realtime.local.seams import NO_SEAMS, Seams
from conv_realtime.local.serving import serving


class Gateway:
    """The HTTP and websocket server of one project, as an async context manager.

    Args:
        postgres: a running PostgreSQL.
        database: the name of a database in it that has been provisioned.
        keys: what signs and checks tokens.
        host: the address to listen on; `address.check_host` says which are fit.
        port: the port; 0 picks a free one, which `port` then tells.
        seams: where a test takes a hand.

    Attributes:
        realtime: the Realtime server behind it.
    """

    def __init__(
        self,
        postgres: Postgres,
        database: str,
        keys: Keys,
        host: str,
        port: int,
        seams: Seams = NO_SEAMS,
    ) -> None:
        verify = seams.judging(keys.verify) if seams.judging else keys.verify
        self.port = port
        self.realtime = RealtimeServer(postgres.dsn(database), verify=verify, policy=seams.policy)
        self._rest = DataApi(postgres.dsn(database, "authenticator"), verify)
        self._host = host
        self._seams = seams
        self._serving: asyncio.Task[None] | None = None
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Starts listening.

        Raises:
            ConfigError: the port is taken, or the host is not this machine's.
        """
        async with contextlib.AsyncExitStack() as stack:
            listener = stack.enter_context(listening(self._host, self.port))
            self.port = listener.getsockname()[1]
            await stack.enter_async_context(self._rest)
            await stack.enter_async_context(self.realtime)
            app = _application([*self._rest.routes, *self.realtime.routes])
            if self._seams.around is not None:
                app = self._seams.around(app)
            served = serving(app, listener, self._seams.grace_seconds)
            self._serving = await stack.enter_async_context(served)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Stops listening, closes websockets with 1012, then stops what stands behind."""
        await self._stack.aclose()

    async def ended(self) -> None:
        """Returns when it serves no more, though nobody has left it."""
        assert self._serving is not None
        await asyncio.wait({self._serving})


def _application(routes: list[BaseRoute]) -> ASGIApp:
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
    health = Route("/auth/v1/health", _auth_health)
    return Starlette(routes=[health, *routes], middleware=[cors])


async def _auth_health(_: Request) -> Response:
    return JSONResponse({"name": "conv_realtime", "description": "tokens are made by the CLI"})
