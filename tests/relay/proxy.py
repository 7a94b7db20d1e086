"""A TCP proxy on loopback that can be cut: the network between a relay and its Supabase."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self


class Proxy:
    """Passes bytes on while it is `open`; `silent` keeps connections and passes nothing.

    While it is `mute`, WebSockets can be opened and nothing comes through them from the other side.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()
        self.open = True
        self.silent = False
        self.mute = False
        self.accepted = 0
        self.port = 0

    @classmethod
    @asynccontextmanager
    async def to(cls, host: str, port: int) -> AsyncIterator[Self]:
        """Listen until left."""
        proxy = cls(host, port)
        server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            server.close()
            proxy.silent = False
            proxy.cut()
            await server.wait_closed()

    def point_at(self, host: str, port: int) -> None:
        """Pass later connections on to another address."""
        self._target = (host, port)

    def cut(self) -> None:
        """End every connection at once."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.open:
            writer.transport.abort()
            return
        self.accepted += 1
        try:
            there, back = await asyncio.open_connection(*self._target)
        except OSError:  # nobody is there
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        with suppress(asyncio.CancelledError):  # asyncio's streams would log it
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        self._writers -= {writer, back}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        websocket = False
        with suppress(OSError):
            while data := await reader.read(2**16):
                if not self.silent and not (websocket and self.mute):
                    websocket = websocket or data.startswith(b"HTTP/1.1 101")
                    writer.write(data)
                    await writer.drain()
        # Over a dead line nobody hears that the other side has hung up.
        while self.silent and not writer.transport.is_closing():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        writer.transport.abort()
