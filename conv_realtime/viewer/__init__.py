"""The page that `up` serves: a few static files and nothing from anywhere else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/viewer.css": ("viewer.css", "text/css; charset=utf-8"),
    "/viewer.js": ("viewer.js", "text/javascript; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_HEADERS = {
    # Transcripts are other people's text. Should any of it ever become markup, it runs nothing.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def routes(ws_path: str = "/ws") -> list[BaseRoute]:
    """Return the routes of the viewer, which connects to `ws_path` on the same host."""
    return [Route(path, _endpoint(name, kind, ws_path)) for path, (name, kind) in _FILES.items()]


def _endpoint(name: str, kind: str, ws_path: str) -> Callable[[Request], Awaitable[Response]]:
    body = files(__package__).joinpath(name).read_text(encoding="utf-8")
    body = body.replace('data-ws="/ws"', f'data-ws="{ws_path}"')

    async def endpoint(request: Request) -> Response:
        return Response(body, headers=_HEADERS, media_type=kind)

    return endpoint
