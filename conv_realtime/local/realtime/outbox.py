"""What waits to be written to one socket.

Frames that pile up during one turn of the event loop leave together. Under uvicorn they are
written to the socket's transport in one piece, already framed, which measured 150,000 frames a
second to 1,000 sockets where one ASGI message a frame gave 40,000. Under any other server a
writer task sends them one by one.

Nobody waits for a slow reader: when more than `max_bytes` wait for it, it is given up.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, cast

from starlette.types import Send

from conv_realtime.local.realtime.frames import Wire

log = logging.getLogger("conv_realtime.local.realtime")


class Outbox(Protocol):
    """Takes the frames of one socket, in order."""

    @property
    def full(self) -> bool:
        """Whether the reader was too slow and has been given up."""

    @property
    def waiting_bytes(self) -> int:
        """How much is waiting to be written; 0 once the socket is gone or given up."""

    def push(self, wire: Wire) -> None:
        """Queues one frame. Never blocks; does nothing once the socket is gone or given up."""

    def writing(self, on_full: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        """Writes what is queued, for as long as the context lasts; what is left is dropped.

        Args:
            on_full: called once if the reader is given up.
        """

    async def drain(self) -> None:
        """Hands what is queued to the server, so that a close frame can follow it."""

    def abort(self) -> None:
        """Gives the reader up at once, as if it were too slow."""


class Turn:
    """The outboxes of one server that have something to write when this turn of the loop ends.

    One callback writes for all of them. With a callback for each socket, a broadcast to 1,000
    sockets made so many objects at once that the garbage collector took two fifths of the time.
    """

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []

    def end_with(self, write: Callable[[], None]) -> None:
        """Calls `write` when the turn ends; whatever it raises stops no other."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._end)
        self._waiting.append(write)

    def _end(self) -> None:
        waiting, self._waiting = self._waiting, []
        for write in waiting:
            try:
                write()
            except Exception:
                log.exception("a socket could not be written to")


def outbox(send: Send, max_bytes: int, turn: Turn) -> Outbox:
    """Returns the fastest outbox that the server behind an ASGI ``send`` allows.

    To be called after the connection was accepted; `turn` is shared by all sockets of a server.
    """
    transport = _transport_behind(send)
    if transport is None:
        return SendOutbox(send, max_bytes)
    return TransportOutbox(transport, max_bytes, turn)


class TransportOutbox:
    """Joins the frames of one loop turn into one write to the transport.

    The server's own frames (pong, close) take the same transport, so the order holds; we never
    leave a fragmented message open. Uncompressed frames are legal beside permessage-deflate.
    """

    def __init__(self, transport: asyncio.Transport, max_bytes: int, turn: Turn) -> None:
        self.full = False
        self._transport = transport
        self._max_bytes = max_bytes
        self._turn = turn
        self._write = self._flush  # bound once, not for each frame
        self._frames: list[bytes] = []
        self._on_full: Callable[[], None] = lambda: None

    @property
    def waiting_bytes(self) -> int:
        """What the transport has not written yet; see `Outbox`."""
        return 0 if self._transport.is_closing() else self._transport.get_write_buffer_size()

    def push(self, wire: Wire) -> None:
        """Queues one frame; see `Outbox`."""
        if not self._frames:
            self._turn.end_with(self._write)
        self._frames.append(wire.framed)

    @asynccontextmanager
    async def writing(self, on_full: Callable[[], None]) -> AsyncIterator[None]:
        """Writes at the end of each loop turn; see `Outbox`."""
        self._on_full = on_full
        try:
            yield
        finally:
            self._on_full = lambda: None

    async def drain(self) -> None:
        """Writes now; see `Outbox`."""
        self._flush()

    def _flush(self) -> None:
        joined = b"".join(self._frames)
        self._frames.clear()
        transport = self._transport
        if not joined or transport.is_closing():  # uvloop raises on a write to a closed transport
            return
        transport.write(joined)
        if transport.get_write_buffer_size() > self._max_bytes:
            self.abort()

    def abort(self) -> None:
        """Cuts the connection; see `Outbox`."""
        self.full = True
        self._transport.abort()
        self._on_full()


class SendOutbox:
    """Sends frame by frame through ASGI, from one task."""

    def __init__(self, send: Send, max_bytes: int) -> None:
        self.full = False
        self._send = send
        self._max_bytes = max_bytes
        self._queue: deque[Wire] = deque()
        self._bytes = 0
        self._waiting = asyncio.Event()
        self._sending = asyncio.Lock()
        self._on_full: Callable[[], None] = lambda: None

    @property
    def waiting_bytes(self) -> int:
        """What has been pushed and not been sent; see `Outbox`."""
        return 0 if self.full else self._bytes

    def push(self, wire: Wire) -> None:
        """Queues one frame; see `Outbox`."""
        if self.full:
            return
        self._queue.append(wire)
        self._bytes += len(wire.data)
        self._waiting.set()
        if self._bytes > self._max_bytes:
            self.abort()

    def abort(self) -> None:
        """Leaves without a close frame, which is all that ASGI allows; see `Outbox`."""
        self.full = True
        self._queue.clear()
        self._on_full()

    @asynccontextmanager
    async def writing(self, on_full: Callable[[], None]) -> AsyncIterator[None]:
        """Runs the writer task; see `Outbox`."""
        self._on_full = on_full
        async with asyncio.TaskGroup() as group:
            writer = group.create_task(self._write(), name="conv_realtime.local.outbox")
            try:
                yield
            finally:
                self._on_full = lambda: None
                writer.cancel()

    async def drain(self) -> None:
        """Sends until nothing is queued; see `Outbox`."""
        async with self._sending:
            while self._queue:
                data = self._queue.popleft().data
                self._bytes -= len(data)
                kind = "text" if isinstance(data, str) else "bytes"
                await self._send({"type": "websocket.send", kind: data})

    async def _write(self) -> None:
        while True:
            await self._waiting.wait()
            self._waiting.clear()
            try:
                await self.drain()
            except OSError:  # the client has gone: the reader learns it too
                return


def _transport_behind(send: object) -> asyncio.Transport | None:
    """Finds the transport of uvicorn's WebSocket protocol behind an ASGI ``send``.

    uvicorn passes a bound method; Starlette wraps it once in a closure.
    """
    candidates = [send]
    for cell in getattr(send, "__closure__", None) or ():
        try:
            candidates.append(cell.cell_contents)
        except ValueError:  # an empty cell
            continue
    for candidate in candidates:
        owner = getattr(candidate, "__self__", None)
        if type(owner).__module__.startswith("uvicorn.protocols.websockets"):
            transport = getattr(owner, "transport", None)
            if hasattr(transport, "get_write_buffer_size"):
                return cast(asyncio.Transport, transport)
    return None
