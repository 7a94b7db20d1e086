"""`write_to_all` on real sockets, on both event loops: what it writes past the transport."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import groupby
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from conv_realtime.edges import asgi
from conv_realtime.edges.asgi import Wire, write_to_all

MOST = 64 * 1024
LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
NewLoop = Callable[[], asyncio.AbstractEventLoop]


class Connection(asyncio.Protocol):
    """The server's side of one connection."""

    def __init__(self) -> None:
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Make a wire of it."""
        self.transport = transport
        self.wire = Wire(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Say so."""
        self.lost.set_result(exc)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Connection, socket.socket]]:
    """Connect over TCP; the client's side is a socket that reads when it is asked to."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as client:
        client.connect(listening.getsockname())
        accepted = listening.accept()[0]
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        accepted.setblocking(False)
        client.setblocking(False)
        transport, connection = await loop.connect_accepted_socket(Connection, accepted)
        yield connection, client
        asgi.cut(transport)
        await asyncio.wait([connection.lost])


async def read(client: socket.socket, length: int) -> bytes:
    """Read so many bytes."""
    data = b""
    async with asyncio.timeout(10):
        while len(data) < length:
            data += await asyncio.get_running_loop().sock_recv(client, 1 << 20)
    return data


def _runs(data: bytes) -> list[tuple[int, int]]:
    """Return the bytes with how often each follows itself: a difference that can be read."""
    return [(byte, sum(1 for _ in run)) for byte, run in groupby(data)]


def run(new_loop: NewLoop, test: Callable[[], Any]) -> None:
    """Run a test in a loop of this kind."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(test())


@LOOPS
def test_frames_are_on_the_socket_when_it_returns(new_loop: NewLoop) -> None:
    """Nothing waits for the loop, and nothing is left in the transport."""

    async def test() -> None:
        async with connected() as (one, first), connected() as (two, second):
            assert write_to_all([one.wire, two.wire], b"frame", MOST) == []
            for client in (first, second):
                client.settimeout(10)  # the kernel may pass it on later; the loop stands still
                assert client.recv(100) == b"frame"

    run(new_loop, test)


@LOOPS
def test_bytes_stay_in_order_whatever_the_socket_takes(new_loop: NewLoop) -> None:
    """What a full socket leaves of a frame comes before the next one, and before the server's."""

    async def test() -> None:
        async with connected() as (connection, client):
            sent, times_full = b"", 0
            for number in range(1000):
                frame = bytes([number % 256]) * 20_000
                sent += frame
                times_full += bool(write_to_all([connection.wire], frame, MOST))
                if number % 3 == 0:  # as the server answers a ping
                    connection.wire.transport.write(b"pong")
                    sent += b"pong"
                if times_full == 10:
                    break
            assert times_full == 10, "more is waiting than a socket holds"
            assert connection.wire.waiting_bytes > MOST
            arrived = await read(client, len(sent))
            assert _runs(arrived) == _runs(sent)

    run(new_loop, test)


@LOOPS
def test_what_the_server_wrote_before_comes_before(new_loop: NewLoop) -> None:
    """A transport that keeps what it was given until the end of the turn is not overtaken."""

    async def test() -> None:
        async with connected() as (connection, client):
            connection.wire.transport.write(b"pong ")
            assert write_to_all([connection.wire], b"frame", MOST) == []
            assert await read(client, 10) == b"pong frame"

    run(new_loop, test)


@LOOPS
def test_a_peer_that_has_gone_is_told_of_and_harms_nobody(new_loop: NewLoop) -> None:
    """The others get the frame, and the transport ends by itself; afterwards nothing is written."""

    async def test() -> None:
        async with connected() as (gone, cut), connected() as (there, client):
            cut.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            cut.close()
            for number in range(3):
                write_to_all([gone.wire, there.wire], b"frame %d" % number, MOST)
                assert await read(client, 7) == b"frame %d" % number
            await asyncio.wait_for(asyncio.shield(gone.lost), 10)
            assert write_to_all([gone.wire, there.wire], b"frame 3", MOST) == [gone.wire]
            assert await read(client, 7) == b"frame 3"

    run(new_loop, test)


def test_under_tls_everything_goes_through_the_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket below carries ciphertext."""
    monkeypatch.setattr(asgi, "write", None)  # a call would raise
    written: list[bytes] = []
    transport = SimpleNamespace(
        get_extra_info={"sslcontext": object(), "socket": SimpleNamespace(fileno=lambda: 5)}.get,
        get_write_buffer_size=lambda: 0,
        is_closing=lambda: False,
        write=written.append,
    )
    wire = Wire(SimpleNamespace(transport=transport))
    assert wire.descriptor == -1
    assert write_to_all([wire], b"frame", MOST) == []
    assert written == [b"frame"]


@LOOPS
def test_a_line_that_has_gone_is_not_cut(new_loop: NewLoop) -> None:
    """asyncio closes it itself when the rest is written; the timer for who reads nothing comes."""

    async def test() -> None:
        async with connected() as (connection, client):
            connection.wire.transport.write(b"x" * (4 << 20))
            connection.wire.transport.close()
            await read(client, 4 << 20)
            await asyncio.wait([connection.lost], timeout=10)
            asgi.cut(connection.wire.transport)
            assert connection.lost.result() is None

    run(new_loop, test)


@LOOPS
def test_a_line_of_which_something_is_unread_is_cut(new_loop: NewLoop) -> None:
    """Also when it is closed by then."""

    async def test() -> None:
        async with connected() as (connection, _):
            connection.wire.transport.write(b"x" * (4 << 20))
            connection.wire.transport.close()
            asgi.cut(connection.wire.transport)
            await asyncio.wait([connection.lost], timeout=10)
            assert connection.lost.done()

    run(new_loop, test)
