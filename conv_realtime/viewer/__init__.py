"""What `up` serves to browsers: a page, and the clients of `/ws` and of Supabase channels.

A few static files, and nothing from anywhere else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

_MODULE = "text/javascript; charset=utf-8"
_PAGE = ("list.js", "talk.js", "tools.js", "markdown.js", "dom.js")
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/viewer.css": ("viewer.css", "text/css; charset=utf-8"),
    "/viewer.js": ("viewer.js", _MODULE),
    **{f"/{name}": (name, _MODULE) for name in _PAGE},
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_CLIENTS = (
    *("client.js", "subscription.js", "conversations.js", "changes.js", "channels.js"),
    *("lifecycle.js", "pauses.js", "rows.js"),
)
"""Modules for pages of any origin to import; that they may is no secret and opens nothing."""

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


def routes(ws_path: str = "/ws", nothing: str = "") -> list[BaseRoute]:
    """Return the routes of the viewer.

    Args:
        ws_path: where it connects to, on the same host.
        nothing: what it says where there is no conversation yet, if not what it says anywhere.
    """
    attributes = {"ws": ("/ws", ws_path), "nothing": ("", nothing)}
    page = [
        Route(path, _endpoint(name, kind, _HEADERS, attributes))
        for path, (name, kind) in _FILES.items()
    ]
    return [*page, *client_routes()]


def client_routes() -> list[BaseRoute]:
    """Return the routes of the clients alone: `/client.js`, `/conversations.js` and their parts."""
    headers = {**_HEADERS, "access-control-allow-origin": "*"}
    return [Route(f"/{name}", _endpoint(name, _MODULE, headers)) for name in _CLIENTS]


def _endpoint(
    name: str,
    kind: str,
    headers: Mapping[str, str],
    attributes: Mapping[str, tuple[str, str]] | None = None,
) -> Callable[[Request], Awaitable[Response]]:
    body = files(__package__).joinpath(name).read_text(encoding="utf-8")
    for attribute, (old, new) in (attributes or {}).items():
        body = body.replace(f'data-{attribute}="{old}"', f'data-{attribute}="{escape(new)}"')

    async def endpoint(request: Request) -> Response:
        return Response(body, headers=headers, media_type=kind)

    return endpoint
