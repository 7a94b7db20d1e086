"""Clients of `/ws` that cost next to nothing: they count frames and keep none.

    python -m tests.bench.sinks PORT COUNT

connects so many, says `ready`, and reads until it is ended: load from a process of its own, so
that its CPU is not the server's.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self

from tests.relay.raw import request

DEADLINE = 60.0


class Sink(asyncio.Protocol):
    """One client; `frames` is how many whole frames came since it was connected, if it counts."""

    def __init__(self) -> None:
        self.counting = True
        self.frames = 0
        self.upgraded = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport
        self._data = bytearray()
        self._wanted = 0
        self._arrived: Callable[[], None] = lambda: None

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect, and return when the handshake is through."""
        loop = asyncio.get_running_loop()
        _, sink = await loop.create_connection(cls, "127.0.0.1", port)
        await sink.upgraded
        return sink

    def when(self, frames: int, arrived: Callable[[], None]) -> None:
        """Call `arrived` once so many frames have come."""
        self._wanted, self._arrived = frames, arrived
        self._check()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(request())

    def data_received(self, data: bytes) -> None:
        """Count what is whole, keep what is not."""
        if not self.counting:
            return
        self._data += data
        if not self.upgraded.done():
            head, ended, rest = bytes(self._data).partition(b"\r\n\r\n")
            if not ended:
                return
            assert b" 101 " in head
            self._data = bytearray(rest)
            self.upgraded.set_result(None)
        self._count()
        self._check()

    def _count(self) -> None:
        at, there = 0, len(self._data)
        while there - at >= 10:
            length, start = self._data[at + 1], at + 2
            if length == 126:
                length, start = int.from_bytes(self._data[start : start + 2]), at + 4
            elif length == 127:
                length, start = int.from_bytes(self._data[start : start + 8]), at + 10
            if start + length > there:
                break
            at = start + length
            self.frames += 1
        del self._data[:at]

    def _check(self) -> None:
        if self._wanted and self.frames >= self._wanted:
            arrived, self._wanted = self._arrived, 0
            arrived()


async def all_have(sinks: list[Sink], frames: int) -> None:
    """Wait until each has so many frames."""
    done = asyncio.Event()
    missing = len(sinks)

    def arrived() -> None:
        nonlocal missing
        missing -= 1
        if not missing:
            done.set()

    for sink in sinks:
        sink.when(frames, arrived)
    async with asyncio.timeout(DEADLINE):
        await done.wait()


@asynccontextmanager
async def sinks(port: int, count: int) -> AsyncIterator[list[Sink]]:
    """Connect so many in this process."""
    opened = [await Sink.open(port) for _ in range(count)]
    try:
        yield opened
    finally:
        for sink in opened:
            sink.transport.abort()


@asynccontextmanager
async def distant_sinks(port: int, count: int) -> AsyncIterator[None]:
    """Connect so many in another process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, str(port), str(count), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE):
            assert await process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.terminate()
        await process.wait()


async def _main(port: int, count: int) -> None:
    async with sinks(port, count) as opened:
        for sink in opened:
            sink.counting = False
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2])))
