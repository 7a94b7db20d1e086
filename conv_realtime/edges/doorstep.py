"""Connections that have not asked for anything yet, and may not stand in the door for ever.

uvicorn waits without end for the rest of a request's head: a thousand sockets that send half of
one keep everybody else out, and cost nothing. Here a head has `HEAD_SECONDS`, the first as well
as one after an answer, and where more than `MAX_WAITING` stand there, the one that has waited
longest goes, unless it came just now, or has asked and was not read yet: a crowd that returns
after a restart is let in.
"""

from __future__ import annotations

import asyncio
import re
import selectors
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from websockets.exceptions import SecurityError

HEAD_SECONDS = 10.0
MAX_WAITING = 256
GRACE_SECONDS = 1.0

_QUOTED = re.compile(rb"connection|upgrade|sec-websocket-.*")
"""Headers that websockets quotes when it refuses them, and fails where they are not ASCII."""


class Doorstep:
    """Who stands there, the one that came first in front."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Transport, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self, transport: asyncio.Transport) -> None:
        """Begin to wait for a head; harmless when it is waited for already."""
        if transport in self._waiting:
            return
        loop = asyncio.get_running_loop()
        self._waiting[transport] = loop.time()
        if len(self._waiting) > MAX_WAITING:
            self._drop_before(loop.time() - GRACE_SECONDS, at_most=1)
        if self._timer is None:
            self._timer = loop.call_later(HEAD_SECONDS, self._look)

    def leave(self, transport: asyncio.Transport) -> None:
        """Wait no longer. Harmless when nobody waits."""
        self._waiting.pop(transport, None)

    def close(self) -> None:
        """Look after nobody any more."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        self._drop_before(loop.time() - HEAD_SECONDS, at_most=len(self._waiting))
        if self._waiting:
            first = next(iter(self._waiting.values()))
            self._timer = loop.call_at(first + HEAD_SECONDS, self._look)

    def _drop_before(self, came: float, *, at_most: int) -> None:
        for transport, since in list(self._waiting.items())[:at_most]:
            if since > came or _lies_unread(transport):
                return
            del self._waiting[transport]
            transport.abort()


def protocol(doorstep: Doorstep) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP protocol, with its connections on `doorstep` until they ask."""

    class Patient(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            doorstep.enter(transport)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            answered = self.cycle is None or self.cycle.response_complete
            if answered and _protocol_of(self.transport) is self:
                doorstep.enter(self.transport)
            else:
                doorstep.leave(self.transport)

        def handle_websocket_upgrade(self, event: Any) -> None:
            if all(value.isascii() for name, value in self.headers if _QUOTED.match(name)):
                super().handle_websocket_upgrade(event)
                wrong = _protocol_of(self.transport).conn.handshake_exc
                if wrong is None or self.transport.is_closing():
                    return
                self.transport.write(_refusal(wrong))
            else:
                self.transport.write(_refusal(None))
            self.transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            doorstep.leave(self.transport)
            super().connection_lost(exc)

    return Patient


def _refusal(wrong: BaseException | None) -> bytes:
    status, word = "400 Bad Request", "an upgrade is asked for with GET, without a body, in ASCII"
    if wrong is not None and isinstance(wrong.__cause__, SecurityError):
        status = "431 Request Header Fields Too Large"
        word = "a header, a cookie perhaps, is above 8 KB, or there are too many"
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nConnection: close"
    return f"{head}\r\nContent-Length: {len(word) + 1}\r\n\r\n{word}\n".encode()


def _lies_unread(transport: asyncio.Transport) -> bool:
    """Return whether there is something to read that a busy loop has not got to."""
    with selectors.DefaultSelector() as selector:
        selector.register(transport.get_extra_info("socket"), selectors.EVENT_READ)
        return bool(selector.select(0))


def _protocol_of(transport: Any) -> Any:
    return transport.get_protocol()
