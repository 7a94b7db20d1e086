"""What a host of one's own brings: a WebSocket of any make, events, and older libraries."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

from starlette.websockets import WebSocketDisconnect

from conv_realtime.core.envelope import event_of
from conv_realtime.events import NewMessage
from tests.relay.rows import created, message


class FakeWebSocket:
    """Has Starlette's methods and keeps what it is sent; can hang or fail."""

    def __init__(self) -> None:
        self.accepted = False
        self.sent: list[dict[str, Any]] = []
        self.closed: int | None = None
        self.failing = False
        self.reading = asyncio.Event()
        self.reading.set()
        self.inbox: asyncio.Queue[str | None] = asyncio.Queue()

    async def accept(self, subprotocol: str | None = None) -> None:
        self.accepted = True

    async def send_text(self, data: str) -> None:
        await self.reading.wait()
        if self.failing:
            raise RuntimeError("gone")
        self.sent.append(json.loads(data))

    async def receive_text(self) -> str:
        text = await self.inbox.get()
        if text is None:
            raise WebSocketDisconnect
        return text

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        self.closed = code

    @property
    def types(self) -> list[str]:
        return [frame["type"] for frame in self.sent]


async def give_up_by_cancelling() -> None:
    """Times out as older libraries do: they cancel the task, and never take that back."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(0)


def event(text: str = "hi", owner: Any = None) -> NewMessage:
    """Return an event such as a host would broadcast."""
    made = event_of(created(message(text))[0], "s.1")
    assert isinstance(made, NewMessage)
    return made
