"""The clients: those who stay, those who come and go, those who resume, and those who are slow.

A message says which it is of which file, `<file>:<number>`, so whoever hears of all of them can
tell in passing that none is missing and none comes twice.
"""

from __future__ import annotations

import asyncio
import re
import socket
from random import Random
from struct import pack
from typing import Self

from conv_realtime import Live, connect
from conv_realtime.events import NewMessage, Resync
from tests.relay.raw import TEXT, masked, request

_SAID = re.compile(rb'"text":"(\d+):(\d+)"')
_SOME_SECONDS = (5.0, 60.0)


class Tally:
    """Which messages of each file were heard, if they come in their order."""

    def __init__(self) -> None:
        self.heard: dict[int, int] = {}
        self.missing = 0
        self.doubled = 0
        self.gaps = 0

    def hear(self, file: int, number: int) -> None:
        """Take note of a message; the first one of a file is where the listener came in."""
        last = self.heard.get(file)
        if last is not None and number > last + 1:
            self.missing += number - last - 1
        elif last is not None and number <= last:
            self.doubled += 1
            return
        self.heard[file] = number

    def forget(self) -> None:
        """Take note of a gap that was told."""
        self.gaps += 1
        self.heard.clear()


class Listener(asyncio.Protocol):
    """A client that costs little: it looks at frames and builds nothing of them."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.ended = asyncio.get_running_loop().create_future()
        self._data = bytearray()
        self._upgraded = False

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect."""
        _, listener = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(request())

    def connection_lost(self, error: Exception | None) -> None:
        """Take note."""
        if not self.ended.done():
            self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Take what is whole, keep what is not."""
        self._data += data
        if not self._upgraded:
            head, ended, rest = bytes(self._data).partition(b"\r\n\r\n")
            if not ended:
                return
            assert b" 101 " in head, head
            self._upgraded, self._data = True, bytearray(rest)
        at, there = 0, len(self._data)
        while there - at >= 2:
            length, start = self._data[at + 1], at + 2
            if length >= 126:
                wide = 2 if length == 126 else 8
                length, start = int.from_bytes(self._data[start : start + wide]), start + wide
            if start + length > there:
                break
            at = start + length
            self._hear(bytes(self._data[start:at]))
        del self._data[:at]

    def _hear(self, frame: bytes) -> None:
        if frame.startswith(b'{"type":"new_message"'):
            found = _SAID.search(frame)
            assert found, frame
            self.tally.hear(int(found[1]), int(found[2]))
        elif frame.startswith(b'{"type":"ping"'):
            self.transport.write(masked(TEXT, b'{"type":"pong"}'))
        elif frame.startswith(b'{"type":"resync"'):
            self.tally.forget()


async def stay(port: int, tally: Tally) -> None:
    """Listen to the end; a connection that ends is a fault."""
    listener = await Listener.open(port)
    listener.tally = tally
    await listener.ended
    raise AssertionError("a client that reads was cut off")


async def come_and_go(port: int, tally: Tally, chance: Random) -> None:
    """Listen for a while, leave in one of several ways, and come again as somebody else."""
    while True:
        listener = await Listener.open(port)
        listener.tally.gaps = 0
        await asyncio.sleep(chance.uniform(*_SOME_SECONDS))
        tally.missing += listener.tally.missing
        tally.doubled += listener.tally.doubled
        tally.gaps += listener.tally.gaps
        if chance.random() < 0.5:
            listener.transport.abort()
        else:
            listener.transport.write(masked(8, pack("!H", 1001)))
            listener.transport.close()


async def resume(port: int, tally: Tally, chance: Random) -> None:
    """Listen with the Python client for a while, and go on from the last cursor later."""
    cursor: str | None = None
    while True:
        wanted = {"since": cursor} if cursor else {"snapshot": 5}
        async with connect(f"ws://127.0.0.1:{port}/ws", subscribe=wanted) as live:
            try:
                async with asyncio.timeout(chance.uniform(*_SOME_SECONDS)):
                    await _listen(live, tally)
            except TimeoutError:
                cursor = live.cursor
        await asyncio.sleep(chance.uniform(0, 5))


async def _listen(live: Live, tally: Tally) -> None:
    async for event in live:
        if isinstance(event, Resync):
            tally.forget()
        elif isinstance(event, NewMessage):
            file, _, number = event.data.text.partition(":")
            tally.hear(int(file), int(number))


async def read_slowly(port: int, chance: Random) -> None:
    """Read less than there is, until cut off; come again."""
    loop = asyncio.get_running_loop()
    while True:
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.setblocking(False)
            await loop.sock_connect(slow, ("127.0.0.1", port))
            await loop.sock_sendall(slow, request())
            try:
                while await loop.sock_recv(slow, 2048):  # noqa: ASYNC110 - it has no event
                    await asyncio.sleep(chance.uniform(0.05, 0.5))
            except ConnectionError:
                pass
        await asyncio.sleep(chance.uniform(0, 5))
