"""What `up` waits for before it says ready."""

from __future__ import annotations

import asyncio

from websockets.asyncio.server import ServerConnection, serve

from conv_realtime.cli.serve import _welcomed


async def test_a_busy_stream_does_not_hold_up_ready() -> None:
    """Events that pour in behind the welcome are not read, and leaving waits for none of them."""

    async def pour(client: ServerConnection) -> None:
        for number in range(1000):
            await client.send(f'{{"type":"new_message","data":{{"seq":{number}}}}}')
        await client.wait_closed()

    async with serve(pour, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with asyncio.timeout(5):  # a goodbye that is not heard is waited for 10 s
            await _welcomed(f"ws://127.0.0.1:{port}/ws")
