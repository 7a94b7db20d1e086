"""The way from a Starlette WebSocket to the socket itself, where the server lets us.

ASGI builds a frame per client and awaits each send. Under uvicorn (websockets-sansio, wsproto)
the callable `send` that an application gets is a method of the connection's protocol object, so
frames that are built once can be written to its transport, or past it to the socket: a third of
the work. Every use is guarded; anywhere else there is no `Wire`, and frames are sent by
`await websocket.send_text(...)`.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from os import write
from types import FunctionType
from typing import Any
from urllib.parse import unquote_to_bytes

from conv_realtime.core.wire import close_frame

# uvicorn's older `websockets` protocol is not among them: it answers the handshake after `accept`
# has returned, so a frame written at once would come before the answer.
_SERVERS = (
    "uvicorn.protocols.websockets.websockets_sansio_impl",
    "uvicorn.protocols.websockets.wsproto_impl",
)
_UVICORN = "uvicorn.protocols.websockets."
_WRAPPERS = ("starlette.", "fastapi.")
_MAX_WRAPPERS = 16


class Wire:
    """The transport below one WebSocket, after it was accepted.

    Frames written here stay in order with those that the server sends itself, because both go
    through the same transport, and we never leave a fragmented message open.

    Attributes:
        transport: what the server reads and writes.
        descriptor: the socket's, if bytes may be written to it as they are; -1 under TLS, and on
            Windows, where a socket is no file: another one may have its number.
    """

    __slots__ = ("_protocol", "descriptor", "transport")

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self.transport: asyncio.WriteTransport = protocol.transport
        self.descriptor = _descriptor(self.transport)

    @property
    def closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self.transport.is_closing()

    @property
    def waiting_bytes(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self.transport.get_write_buffer_size()

    def write(self, frames: bytes) -> bool:
        """Write whole frames; return False if the connection is gone (uvloop would raise)."""
        if self.transport.is_closing():
            return False
        try:
            self.transport.write(frames)
        except (OSError, RuntimeError):
            return False
        return True

    def hang_up(self, code: int, reason: str) -> None:
        """Close behind what is still unread."""
        if self.write(close_frame(code, reason)):
            self.transport.close()

    def hear_pongs(self, heard: Callable[[], None]) -> bool:
        """Call `heard` at every pong frame; False if this server does not show them."""
        return self._before("handle_pong", heard)

    def hear_what_is_hidden(self, heard: Callable[[], None]) -> None:
        """Call `heard` at every ping and every further part of a fragmented message.

        No application sees them, and they cost memory: a ping its answer, if nobody reads that,
        and a part, even an empty one, a place in the list of parts.
        """
        self._before("handle_ping", heard)
        self._before("handle_cont", heard)

    def before_shutdown(self, act: Callable[[], None]) -> bool:
        """Call `act` when the server begins to shut down, before it closes the connection.

        uvicorn closes all connections before it runs the application's shutdown, so this is
        the only moment at which a last word can be sent.
        """
        return self._before("shutdown", act)

    def _before(self, name: str, act: Callable[[], None]) -> bool:
        original = getattr(self._protocol, name, None)
        if original is None:
            return False

        def called(*args: Any) -> Any:
            act()
            return original(*args)

        try:
            setattr(self._protocol, name, called)
        except AttributeError:
            return False
        return True


def write_to_all(wires: Iterable[Wire], frames: bytes, most: int) -> list[Wire]:
    """Write the same whole frames to many; return those with more than `most` bytes waiting.

    A connection that is gone is among them. Where nothing waits, the bytes go to the socket at
    once, past the transport; what that does not take goes to the transport, as does every error.
    A transport that closes its socket is closing before, and nothing else runs here meanwhile,
    so no descriptor is somebody else's.

    It runs for every client and message, and after each write the processor has forgotten all
    but the kernel's data: so first all transports are looked at, and then there are only writes.
    """
    late: list[tuple[Wire, bytes]] = []
    ready: list[Wire] = []
    for wire in wires:
        if wire.descriptor >= 0 and not (
            wire.transport.get_write_buffer_size() or wire.transport.is_closing()
        ):
            ready.append(wire)
        else:
            late.append((wire, frames))
    length = len(frames)
    for at, descriptor in enumerate([wire.descriptor for wire in ready]):
        try:
            written = write(descriptor, frames)
        except OSError:  # the socket is full, or the peer has gone: the transport finds out which
            written = 0
        if written != length:
            late.append((ready[at], frames[written:]))
    return [wire for wire, rest in late if not wire.write(rest) or wire.waiting_bytes > most]


def find_wire(websocket: object) -> Wire | None:
    """Return the wire below an accepted Starlette WebSocket, or None if it is out of reach.

    Only Starlette's own wrappers are looked through: a middleware of the host that wraps `send`
    wants to see what is sent, and does.
    """
    protocol = _protocol_below(websocket, _WRAPPERS)
    if type(protocol).__module__ not in _SERVERS or getattr(protocol, "transport", None) is None:
        return None
    return Wire(protocol)


def cut_later(websocket: object, patience: float) -> None:
    """Cut the line of a WebSocket after `patience` seconds, where uvicorn serves it.

    uvicorn waits without end for a peer that does not read what is left. Unlike frames, this may
    go past the host's middleware.
    """
    transport = getattr(_protocol_below(websocket, ("",)), "transport", None)
    if transport is not None:
        asyncio.get_running_loop().call_later(patience, cut, transport)


def cut(transport: asyncio.WriteTransport) -> None:
    """Cut a line, unless it has gone by itself.

    A transport of asyncio fails then, if it was closed while something was left to write.
    """
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() >= 0:
        transport.abort()


def send_at_once(websocket: object) -> None:
    """Turn Nagle's algorithm off below a WebSocket, where uvicorn serves it.

    asyncio does that only for sockets that say that they are TCP, and uvicorn's own for several
    workers do not: the second frame of a pair came 40 ms late.
    """
    transport = getattr(_protocol_below(websocket, ("",)), "transport", None)
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):  # it has gone already
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _descriptor(transport: Any) -> int:
    if sys.platform == "win32" or transport.get_extra_info("sslcontext") is not None:
        return -1
    sock = transport.get_extra_info("socket")
    return int(sock.fileno()) if sock is not None else -1


def _protocol_below(websocket: object, wrappers: tuple[str, ...]) -> Any | None:
    """Return uvicorn's protocol object behind wrappers from modules of these beginnings."""
    send = getattr(websocket, "_send", None)
    for _ in range(_MAX_WRAPPERS):
        owner = getattr(send, "__self__", None)
        if owner is not None:
            return owner if type(owner).__module__.startswith(_UVICORN) else None
        if not getattr(send, "__module__", "").startswith(wrappers):
            return None
        send = _wrapped(send)
    return None


def _wrapped(function: Any) -> Any | None:
    """Return the `send` that a wrapping closure calls."""
    if not isinstance(function, FunctionType) or "send" not in function.__code__.co_freevars:
        return None
    closure = function.__closure__ or ()
    try:
        return closure[function.__code__.co_freevars.index("send")].cell_contents
    except ValueError:  # an empty cell
        return None


def step(coroutine: Coroutine[Any, Any, Any]) -> bool:
    """Run a coroutine that need not wait; return False if it would, and drop it, or if it fails."""
    try:
        coroutine.send(None)
    except StopIteration:
        return True
    except Exception:
        return False
    coroutine.close()
    return False


def hide_token(connection: object) -> None:
    """Take `token` out of the query string that the server is going to log."""
    scopes = [getattr(connection, "scope", None)]
    scopes.append(getattr(_protocol_below(connection, ("",)), "scope", None))
    for scope in scopes:
        if isinstance(scope, dict) and scope.get("query_string"):
            scope["query_string"] = b"&".join(
                b"token=***" if unquote_to_bytes(part.partition(b"=")[0]) == b"token" else part
                for part in scope["query_string"].split(b"&")
            )
