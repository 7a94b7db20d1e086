"""A second Realtime server on the database of a local Supabase, with rules of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette

from conv_realtime.local import LocalSupabase
from conv_realtime.local.realtime.outbox import SendOutbox, Turn, outbox
from conv_realtime.local.realtime.rules import Rules
from conv_realtime.local.realtime.server import RealtimeServer
from tests.local.realtime_client import PATIENCE


class QuietServer(uvicorn.Server):
    """A web server that leaves the process's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Does nothing."""
        yield


class Elsewhere:
    """A second Realtime server on the shared database, with rules of its own."""

    def __init__(self, local: LocalSupabase, web: uvicorn.Server) -> None:
        self.local = local
        self.url = f"http://127.0.0.1:{web.servers[0].sockets[0].getsockname()[1]}"
        self.publishable_key = local.publishable_key
        self._web = web

    def stop(self) -> None:
        """Lets the web server begin to end, as a restart does."""
        self._web.should_exit = True


@asynccontextmanager
async def serving(
    local: LocalSupabase, rules: Rules, *, wrapped: bool = False, dsn: str | None = None
) -> AsyncIterator[Any]:
    """Serves Realtime under some rules.

    Args:
        local: whose database and keys.
        rules: to hold sockets to.
        wrapped: hide the server's `send`, as an unknown web server would.
        dsn: another database.
    """
    server = RealtimeServer(dsn or local.postgres.dsn(), verify=local.keys.verify, rules=rules)
    async with server, asyncio.TaskGroup() as group:
        app: Any = Starlette(routes=server.routes)
        config = uvicorn.Config(
            hidden(app) if wrapped else app,
            port=0,
            lifespan="off",
            log_config=None,
            ws="websockets-sansio",
            timeout_graceful_shutdown=1,
        )
        web = QuietServer(config)
        task = group.create_task(web.serve(), name="test.realtime.web")
        async with asyncio.timeout(PATIENCE):
            while not web.started:  # noqa: ASYNC110
                await asyncio.sleep(0)  # uvicorn has no event for it
        try:
            yield Elsewhere(local, web)
        finally:
            web.should_exit = True
            await task


def hidden(app: Any) -> Any:
    """Wraps an ASGI app so deeply that nobody finds the transport behind `send`."""

    async def wrapper(scope: Any, receive: Any, send: Any) -> None:
        async def first(message: Any) -> None:
            await send(message)

        async def second(message: Any) -> None:
            await first(message)

        assert isinstance(outbox(second, 1, Turn()), SendOutbox)
        await app(scope, receive, second)

    return wrapper
