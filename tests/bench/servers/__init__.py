"""Servers that a benchmark compares: each broadcasts the lines of its input to all its clients.

The first line of their output is `{"port": PORT}`, and they end with their input. A line is the
text of a frame of type `new_message`, so that all of them send the same bytes.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable


def say_ready(port: int) -> None:
    """Tell the benchmark where to connect."""
    print(json.dumps({"port": port}), flush=True)


async def read_lines(take: Callable[[list[bytes]], None]) -> None:
    """Call `take` with the lines that came together, until the input ends."""
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    pipe = _Lines(take, ended)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: pipe, sys.stdin)
    try:
        await ended
    finally:
        transport.close()


class _Lines(asyncio.Protocol):
    def __init__(self, take: Callable[[list[bytes]], None], ended: asyncio.Future[None]) -> None:
        self._take = take
        self._ended = ended
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if lines:
            self._take(lines)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
