"""Somebody else's application with a relay in it, for servers that run as processes.

`/publish` stands for an ingest, `/stats` for looking into the process.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from pydantic import SecretStr
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from conv_realtime.relay import LocalFeed, Relay
from tests.relay.rows import created, message
from tests.relay.serving import settings

TOKEN = "sesame"
HEARTBEAT_SECONDS = 1.5
"""Twice as long a stall of the tests themselves looks like a client that answers nothing."""


def _application() -> FastAPI:
    chosen = settings(ws_token=SecretStr(TOKEN), heartbeat_seconds=HEARTBEAT_SECONDS)
    feed = LocalFeed(chosen)
    relay = Relay(feed=feed, settings=chosen)
    app = FastAPI(lifespan=relay.lifespan)
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    app.router.routes.extend(relay.routes)
    app.mount("/live", relay.app)
    seqs = iter(range(1, 10**6))

    @app.post("/publish")
    async def publish(count: int, size: int = 10) -> None:
        feed.publish(created(*(message("x" * size, next(seqs)) for _ in range(count))))

    @app.get("/stats")
    async def stats() -> dict[str, Any]:
        clients = relay.manager.hub.clients.values()
        return {**relay.manager.stats(), "wires": sum(c.wire is not None for c in clients)}

    return app


class Watching:
    """A middleware that sees, and may change, everything that is sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add a header to the answer of a handshake."""

        async def watched(message: Message) -> None:
            if message["type"] == "websocket.accept":
                headers = [*message.get("headers", []), (b"x-watched", b"yes")]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, watched)


app = _application()
watched = Watching(_application())
