"""What `up` says on `/ws`, heard by a client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import websockets

WITHIN = 20.0


async def until_message(url: str, text: str, write: Callable[[], None]) -> dict[str, Any]:
    """Return the first new_message with `text` on /ws, written once the client is welcome."""
    async with asyncio.timeout(WITHIN), websockets.connect(url) as client:
        assert json.loads(await client.recv())["type"] == "connection_established"
        write()
        async for frame in client:
            event: dict[str, Any] = json.loads(frame)
            if event["type"] == "new_message" and event["data"]["text"] == text:
                return event
    raise AssertionError("the connection ended")
