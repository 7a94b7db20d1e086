"""Faults of HTTP and of websocket handshakes: an ASGI application around the project's own.

While none is in force the project's application gets the server's own `send`, untouched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, cast

from starlette.types import ASGIApp, Receive, Scope, Send

from conv_realtime.testing.faults.fault import Fault, Registry, first_of, matches

_TRANSPORT = "conv_realtime.transport"
"""Where a scope keeps the connection, which ASGI has no way to break: it is behind uvicorn's own
`send`, and not behind that of another fault."""


class HttpFault(Fault):
    """What happens to some requests.

    Attributes:
        answers: whether it stands in the application's place: of those, the newest does.
    """

    answers: ClassVar[bool] = False

    def __init__(self, path: str, method: str | None, times: int | None) -> None:
        super().__init__(times)
        self._path = path
        self._method = method.upper() if method else None

    def concerns(self, scope: Scope) -> bool:
        """Says whether a request is meant."""
        if scope["type"] not in ("http", "websocket") or not matches(scope["path"], self._path):
            return False
        if self._method == "*":
            return True
        if scope["type"] == "websocket":
            return self._method == "WEBSOCKET"
        return self._method is None or self._method == scope["method"]

    async def apply(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers in its way, with or without the application that it stands before."""
        raise NotImplementedError


class Gate:
    """The application in front of a project.

    Args:
        app: the project's own.
        faults: those in force.
    """

    def __init__(self, app: ASGIApp, faults: Registry[HttpFault]) -> None:
        self._app = app
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        active = self._faults.active
        if active:
            # Stable: what answers stands innermost, so that an invented answer is delayed or cut
            # as a real one would be.
            answered = False
            scope[_TRANSPORT] = cast(Any, send).__self__.transport
            for fault in sorted(reversed(active), key=lambda one: not one.answers):
                if fault.concerns(scope) and not (fault.answers and answered) and fault.strike():
                    answered = answered or fault.answers
                    app = partial(fault.apply, app)
        await app(scope, receive, send)


class Answer(HttpFault):
    """Another answer than the project's, which never hears of the request."""

    answers = True

    def __init__(
        self,
        status: int,
        body: bytes,
        headers: Mapping[str, str],
        path: str,
        method: str | None,
        times: int | None,
    ) -> None:
        super().__init__(path, method, times)
        self._status = status
        self._body = body
        self._headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in {**headers, "content-length": str(len(body))}.items()
        ]

    async def apply(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Reads the request to its end, as servers do, and answers."""
        kind = "http" if scope["type"] == "http" else "websocket.http"
        await _read(scope, receive)
        start = {"type": f"{kind}.response.start", "status": self._status}
        await send(start | {"headers": self._headers})
        body = b"" if scope.get("method") == "HEAD" else self._body
        await send({"type": f"{kind}.response.body", "body": body})


class Delay(HttpFault):
    """The request is done at once; the answer comes late."""

    def __init__(self, seconds: float, path: str, method: str | None, times: int | None) -> None:
        super().__init__(path, method, times)
        self._seconds = seconds

    async def apply(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Holds the answer back; of a websocket, the handshake."""
        if scope["type"] == "websocket":
            await self._wait()
            await app(scope, receive, send)
            return

        async def late(message: Any) -> None:
            if message["type"] == "http.response.start":
                await self._wait()
            await send(message)

        await app(scope, receive, late)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await self._undone.wait()
        except TimeoutError:
            pass


class _Silence(HttpFault):
    """No answer; whether the request is done all the same is `done`."""

    answers = True

    def __init__(self, done: bool, path: str, method: str | None, times: int | None) -> None:
        super().__init__(path, method, times)
        self._done = done

    async def _do(self, app: ASGIApp, scope: Scope, receive: Receive) -> None:
        if self._done and scope["type"] == "http":
            await app(scope, receive, _nowhere)


class Hang(_Silence):
    """No answer, for as long as the fault is in force; then the connection ends."""

    async def apply(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Says nothing until the fault is undone or the client has had enough."""
        await self._do(app, scope, receive)
        await first_of(_gone(receive), self._undone.wait())
        _transport(scope).abort()
        await _gone(receive)


class Disconnect(_Silence):
    """The connection ends instead of an answer."""

    async def apply(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets the request be done or not, and tells nobody."""
        await self._do(app, scope, receive)
        _transport(scope).abort()
        await _gone(receive)


class Cut(HttpFault):
    """The answer ends early, and the connection with it."""

    def __init__(self, bytes_kept: int, path: str, method: str | None, times: int | None) -> None:
        super().__init__(path, method, times)
        self._bytes_kept = bytes_kept

    async def apply(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the head on, as it is, and the beginning of the body."""
        head: Any = None

        async def short(message: Any) -> None:
            nonlocal head
            if message["type"] == "http.response.start":
                head = message
            elif head is not None:
                body = message.get("body", b"")
                if body:  # there is nothing to cut off an answer without one: it is not given
                    await send(head)
                    kept = body[: min(self._bytes_kept, len(body) - 1)]
                    await send({"type": "http.response.body", "body": kept, "more_body": True})
                head = None
                _transport(scope).close()

        if scope["type"] == "http":
            await app(scope, receive, short)
        else:
            _transport(scope).abort()
        await _gone(receive)


async def _nowhere(_: Any) -> None:
    """Takes an answer that nobody will see."""


async def _read(scope: Scope, receive: Receive) -> None:
    message = await receive()
    while scope["type"] == "http" and message.get("more_body"):
        message = await receive()


async def _gone(receive: Receive) -> None:
    """Returns when the client has gone, and does not mind what it says before."""
    while not (await receive())["type"].endswith("disconnect"):
        pass


def _transport(scope: Scope) -> asyncio.Transport:
    return scope[_TRANSPORT]  # type: ignore[no-any-return]
