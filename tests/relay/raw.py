"""A client made by hand, which does what no library would."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from struct import pack
from typing import Self

DEADLINE = 15.0
TEXT, CONTINUATION, BINARY, CLOSE, PING, PONG = 1, 0, 2, 8, 9, 10


def masked(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """Return a client's frame; the mask is zero, which leaves the payload as it is."""
    length = len(payload)
    first = opcode | (0x80 if fin else 0)
    if length < 126:
        head = bytes((first, 0x80 | length))
    elif length < 2**16:
        head = pack("!BBH", first, 0x80 | 126, length)
    else:
        head = pack("!BBQ", first, 0x80 | 127, length)
    return head + bytes(4) + payload


def request(target: str = "/ws", headers: Mapping[str, str] | None = None) -> bytes:
    """Return the head that asks for a WebSocket; a header given as "" is left out."""
    chosen = {
        "Host": "127.0.0.1",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version": "13",
        **(headers or {}),
    }
    lines = [f"{name}: {value}" for name, value in chosen.items() if value]
    return "\r\n".join([f"GET {target} HTTP/1.1", *lines, "", ""]).encode()


UNREADABLE = {
    "a cookie above 8 KB": (request(headers={"Cookie": "a" * 9000}), 431),
    "a long target": (request("/ws?token=" + "a" * 9000), 431),
    "many headers": (request(headers={f"X-{number}": "1" for number in range(200)}), 431),
    "no GET": (request().replace(b"GET", b"POST"), 400),
    "a body": (request(headers={"Content-Length": "2"}) + b"{}", 400),
    "no ASCII": (request(headers={"Sec-WebSocket-Protocol": "bearer.é"}), 400),
}
"""Upgrades that websockets cannot read, each with the status of the answer."""


class Raw:
    """A socket that reads only when it is told to."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._loop = asyncio.get_running_loop()

    @classmethod
    @asynccontextmanager
    async def open(cls, port: int, *, buffer: int | None = None) -> AsyncIterator[Self]:
        """Connect, without a word; `buffer` bounds what arrives unread."""
        with socket.socket() as sock:
            if buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            yield cls(sock)

    @classmethod
    @asynccontextmanager
    async def upgraded(
        cls,
        port: int,
        target: str = "/ws",
        headers: Mapping[str, str] | None = None,
        buffer: int | None = 4096,
    ) -> AsyncIterator[Self]:
        """Connect to /ws; nothing is read behind the head of the answer."""
        async with cls.open(port, buffer=buffer) as raw:
            await raw.send(request(target, headers))
            assert await raw.status() == 101
            yield raw

    async def send(self, data: bytes) -> None:
        """Send all of `data`; raises OSError once the other side has gone."""
        async with asyncio.timeout(DEADLINE):
            await self._loop.sock_sendall(self.sock, data)

    async def read(self, most: int = 2**20) -> bytes:
        """Return what is there; b"" when the connection has ended, in whatever way."""
        async with asyncio.timeout(DEADLINE):
            try:
                return await self._loop.sock_recv(self.sock, most)
            except ConnectionError:
                return b""

    async def status(self) -> int:
        """Return the status of the answer, of which the head is read; 0 if none comes."""
        head = b""
        while b"\r\n\r\n" not in head:
            data = await self.read(1)
            if not data:
                return 0
            head += data
        return int(head.split(b" ", 2)[1])

    async def rest(self) -> bytes:
        """Return everything up to the end of the connection."""
        data = b""
        while part := await self.read():
            data += part
        return data

    async def ended(self) -> None:
        """Wait until the other side has cut the line, without reading what it sent before."""
        async with asyncio.timeout(DEADLINE):
            while True:
                try:
                    await self._loop.sock_sendall(self.sock, masked(PONG))
                except OSError:
                    return
                await asyncio.sleep(0.01)
