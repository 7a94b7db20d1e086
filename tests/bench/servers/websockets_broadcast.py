"""`websockets.broadcast`, on the event loop and in the way that its documentation shows."""

from __future__ import annotations

import asyncio

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

from tests.bench.servers import read_lines, say_ready

connected: set[ServerConnection] = set()


async def hold(connection: ServerConnection) -> None:
    """Hold a client until it goes."""
    connected.add(connection)
    try:
        await connection.wait_closed()
    finally:
        connected.remove(connection)


async def main() -> None:
    """Serve until the input ends."""

    def take(lines: list[bytes]) -> None:
        for line in lines:
            broadcast(connected, line.decode())

    async with serve(hold, "127.0.0.1", 0, ping_interval=None) as server:
        say_ready(next(iter(server.sockets)).getsockname()[1])
        await read_lines(take)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
