"""What `up` waits for before it says ready."""

from __future__ import annotations

import asyncio

import pytest
from websockets.asyncio.server import ServerConnection, serve

from conv_realtime.cli.serve import _live, _welcomed
from conv_realtime.errors import FeedError


async def test_what_does_not_come_to_life_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not live, and who says why."""
    monkeypatch.setattr("conv_realtime.cli.serve._LIVE_SECONDS", 0.05)
    health = {"status": "down", "feed": {"state": "down"}, "ingest": {"watcher": "stopped"}}
    said = r"not live after 0 s \(feed down, watcher stopped\); conv-realtime doctor says why"
    with pytest.raises(FeedError, match=said):
        await _live(lambda: (503, health), "ws://127.0.0.1:1/ws")


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
