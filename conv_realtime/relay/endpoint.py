"""`/ws` and `/healthz` as Starlette routes: who comes in, and what is told to whom."""

from __future__ import annotations

from typing import Any, Protocol

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from conv_realtime.edges.asgi import hide_token
from conv_realtime.edges.door import Caller, Door, Refused
from conv_realtime.edges.metrics import Metrics
from conv_realtime.relay.connections import ConnectionManager
from conv_realtime.settings import Settings

_TRUE = frozenset({"1", "true", "yes"})
_NO_UPGRADE = """This is a WebSocket endpoint, and the request asks for no upgrade.
Behind a proxy, let that forward the headers Upgrade and Connection.
"""


class Served(Protocol):
    """What the routes ask a relay for; it has no door, and no metrics, while it does not run."""

    manager: ConnectionManager
    door: Door | None
    metrics: Metrics | None

    def health(self) -> tuple[int, dict[str, Any]]:
        """Return status and body of `/healthz`."""
        ...


def routes_of(relay: Served, settings: Settings) -> list[BaseRoute]:
    """Return the routes that serve `relay`: `/ws`, and what has a path beside it."""
    ws_path, health_path = settings.ws_path, settings.health_path

    async def ws(websocket: WebSocket) -> None:
        await _serve(relay, websocket)

    async def no_upgrade(request: Request) -> Response:
        hide_token(request)
        return PlainTextResponse(_NO_UPGRADE, 426, headers={"upgrade": "websocket"})

    async def healthz(request: Request) -> Response:
        caller = _caller_of(request)
        hide_token(request)
        status, body = relay.health()
        if relay.door is None or not relay.door.is_local(caller):
            body = {"status": body["status"]}
        return JSONResponse(body, status, headers={"cache-control": "no-store"})

    async def metrics(request: Request) -> Response:
        caller = _caller_of(request)
        hide_token(request)
        if relay.door is None or relay.metrics is None:
            return PlainTextResponse("not running", 503)
        if not relay.door.is_local(caller):
            return PlainTextResponse("metrics are for this machine alone", 403)
        text, media_type = relay.metrics.page()
        return Response(text, media_type=media_type, headers={"cache-control": "no-store"})

    routes: list[BaseRoute] = [
        WebSocketRoute(ws_path, ws, name="conv_realtime_ws"),
        Route(ws_path, no_upgrade, name="conv_realtime_no_upgrade"),
    ]
    if health_path is not None:
        routes.append(Route(health_path, healthz, name="conv_realtime_healthz"))
    if settings.metrics_path is not None:
        routes.append(Route(settings.metrics_path, metrics, name="conv_realtime_metrics"))
    return routes


async def _serve(relay: Served, websocket: WebSocket) -> None:
    caller = _caller_of(websocket)
    stamped = websocket.query_params.get("timestamp", "").lower() in _TRUE or None
    hide_token(websocket)
    door = relay.door
    if door is None:
        return await _refuse(websocket, 503, "not running")
    admitted = door.admit(caller)
    if isinstance(admitted, Refused):
        return await _refuse(websocket, admitted.status, admitted.reason)
    await relay.manager.run(
        websocket,
        owner_id=admitted.owner,
        timestamp=stamped,
        expires_at=admitted.expires_at,
    )


async def _refuse(websocket: WebSocket, status: int, reason: str) -> None:
    """Answer the handshake with an HTTP error; a server without that extension says 403."""
    if "websocket.http.response" in (websocket.scope.get("extensions") or {}):
        headers = {"www-authenticate": "Bearer"} if status == 401 else {}
        await websocket.send_denial_response(
            PlainTextResponse(reason + "\n", status, headers=headers)
        )
    else:
        await websocket.close()


def _caller_of(connection: HTTPConnection) -> Caller:
    return Caller(
        peer=connection.client.host if connection.client else None,
        headers=dict(connection.headers),
        token=connection.query_params.get("token"),
        subprotocols=connection.scope.get("subprotocols", ()),
    )
