"""What a client says, and the answers: the read loop of one connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from starlette.websockets import WebSocketDisconnect

from conv_realtime.core.allowance import Allowance
from conv_realtime.core.requests import (
    MAX_REQUEST_BYTES,
    PingRequest,
    PongReply,
    error,
    read_request,
    snapshot_messages,
)
from conv_realtime.edges.asgi import cut_later
from conv_realtime.events import (
    Pong,
    PongData,
    Subscribed,
    SubscribeRequest,
    Unsubscribed,
    UnsubscribeRequest,
)
from conv_realtime.ports import Feed
from conv_realtime.relay.client import Client
from conv_realtime.relay.hub import Hub
from conv_realtime.relay.replay import replay, snapshot

logger = logging.getLogger("conv_realtime.relay")

FRAMES_PER_SECOND, FRAMES_AT_ONCE = 100.0, 1000.0
"""A client that sends more, in the long run or at once, is closed with 1008."""

_CLOSE_SECONDS = 5.0


class Dialogue:
    """Answers clients; one object serves them all.

    Requests of one client are answered one after the other: a `pong` behind a long snapshot
    waits for it, so its answer is a barrier for everything before.
    """

    def __init__(self, hub: Hub, feed: Feed | None) -> None:
        self._hub = hub
        self._feed = feed

    async def run(self, client: Client) -> None:
        """Read what a client says until it goes, or says what it may not."""
        loop = asyncio.get_running_loop()
        allowance = Allowance(FRAMES_PER_SECOND, FRAMES_AT_ONCE, loop.time())
        self._count_what_is_hidden(client, allowance)
        while True:
            await self._hub.room_for_answers(client)
            message = await _receive(client.websocket)
            if message["type"] != "websocket.receive":
                if client.wire is not None and client.wire.waiting_bytes:  # nobody reads it
                    self._hub.cut_later(client)
                return
            client.unanswered = 0
            client.speaks = True
            if not allowance.spend(loop.time()):
                return await self._reject(client, 1008, "too many frames")
            if not self._hub.hears(client):
                continue  # a snapshot for nobody would be read from the database, too
            text = message.get("text")
            if text is None:
                self._hub.send(client, error("invalid_message", "frames are text"))
            elif len(text) > MAX_REQUEST_BYTES or len(text.encode()) > MAX_REQUEST_BYTES:
                return await self._reject(client, 1009, "frame over 64 KiB")
            else:
                await self._answer(client, text)

    async def _answer(self, client: Client, text: str) -> None:
        request = read_request(text)
        match request:
            case PingRequest(timestamp):
                self._hub.send(client, Pong(data=PongData(timestamp=timestamp)))
            case PongReply():
                pass
            case SubscribeRequest():
                await self._subscribe(client, request)
            case UnsubscribeRequest():
                self._unsubscribe(client, request)
            case _:
                self._hub.send(client, request)

    async def _subscribe(self, client: Client, request: SubscribeRequest) -> None:
        try:
            selection = client.selection.subscribe(request)
            messages = snapshot_messages(request.snapshot)
        except ValueError as invalid:
            self._hub.send(client, error("invalid_data", str(invalid)))
            return
        self._hub.reselect(client, selection)
        if request.since is None and messages is None:
            self._hub.send(client, Subscribed(data=selection.describe()))
            return
        until = self._hub.hold(client)
        try:
            self._hub.send(client, Subscribed(data=selection.describe()))
            if request.since is not None:
                await replay(self._hub, self._feed, client, request.since, until)
            if messages is not None:
                await snapshot(self._hub, self._feed, client, messages)
        finally:
            self._hub.release(client)

    def _unsubscribe(self, client: Client, request: UnsubscribeRequest) -> None:
        try:
            selection = client.selection.unsubscribe(request)
        except ValueError as invalid:
            self._hub.send(client, error("invalid_data", str(invalid)))
            return
        self._hub.reselect(client, selection)
        self._hub.send(client, Unsubscribed(data=selection.describe()))

    def _count_what_is_hidden(self, client: Client, allowance: Allowance) -> None:
        """Let pings and parts of messages, which the server keeps to itself, count as frames."""
        if client.wire is None:
            return
        loop = asyncio.get_running_loop()

        def heard() -> None:
            if not allowance.spend(loop.time()) and client.id in self._hub.clients:
                # Not within the server's own reading, which has an answer yet to write.
                loop.call_soon(self._hub.evict, client, 1008, "too many frames")
                self._hub.remove(client)

        client.wire.hear_what_is_hidden(heard)

    async def _reject(self, client: Client, code: int, reason: str) -> None:
        if client.wire is not None:
            return self._hub.evict(client, code, reason)
        self._hub.remove(client)
        await close(client.websocket, code, reason)


async def _receive(websocket: Any) -> Mapping[str, Any]:
    """Return the next ASGI message, also from an object that only knows `receive_text`."""
    if hasattr(websocket, "receive"):
        message: Mapping[str, Any] = await websocket.receive()
        return message
    try:
        return {"type": "websocket.receive", "text": await websocket.receive_text()}
    except WebSocketDisconnect:
        return {"type": "websocket.disconnect"}


async def close(websocket: Any, code: int, reason: str) -> None:
    """Close a WebSocket whose peer may be gone already, or reads nothing."""
    # Before all else: a server's own patience may be longer, and no cancelling ends it.
    cut_later(websocket, _CLOSE_SECONDS)
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await websocket.close(code, reason)
    except Exception as failed:
        logger.debug("close %d: %r", code, failed)
