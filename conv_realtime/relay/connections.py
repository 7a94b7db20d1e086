"""`ConnectionManager`: the connected clients of `/ws`, whichever endpoint accepted them.

It works with any object that has Starlette's WebSocket methods, so a backend that has an endpoint
of its own keeps it:

    manager = ConnectionManager()

    @app.websocket("/live")
    async def live(websocket: WebSocket) -> None:
        await manager.run(websocket)

Who may connect is decided by the endpoint, not here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from secrets import token_hex
from types import MappingProxyType
from typing import Any
from uuid import UUID

from starlette.websockets import WebSocketDisconnect, WebSocketState

from conv_realtime.core.allowance import Allowance
from conv_realtime.core.requests import (
    MAX_REQUEST_BYTES,
    PingRequest,
    PongReply,
    error,
    read_request,
    snapshot_messages,
)
from conv_realtime.core.selection import UnknownType, select_types
from conv_realtime.core.wire import ping_frame
from conv_realtime.edges.asgi import find_wire
from conv_realtime.events import (
    ConnectionData,
    ConnectionEstablished,
    Event,
    Ping,
    PingData,
    Pong,
    PongData,
    ServerShutdown,
    ShutdownData,
    Subscribed,
    SubscribeRequest,
    Unsubscribed,
    UnsubscribeRequest,
)
from conv_realtime.ports import Feed
from conv_realtime.relay.client import Client
from conv_realtime.relay.hub import Hub
from conv_realtime.relay.replay import replay, snapshot
from conv_realtime.settings import Settings

logger = logging.getLogger("conv_realtime.relay")

FRAMES_PER_SECOND, FRAMES_AT_ONCE = 100.0, 1000.0
"""A client that sends more, in the long run or at once, is closed with 1008."""

RECONNECT_MS = 1000
_CLOSE_SECONDS = 5.0


class ConnectionManager:
    """Tracks the connected clients and sends them events.

    Args:
        settings: limits and heartbeat; defaults without the environment if left out.
        feed: answers `since` and `snapshot` beyond what the log in memory holds.
    """

    def __init__(self, settings: Settings | None = None, *, feed: Feed | None = None) -> None:
        self._settings = settings or Settings.model_construct()
        self._feed = feed
        self.hub = Hub(self._settings)
        self._websockets: dict[str, Any] = {}
        self._heartbeat: asyncio.TimerHandle | None = None
        self._accepted = 0

    def configure(self, settings: Settings, feed: Feed | None) -> None:
        """Take settings and feed that were not known when this was made."""
        self._settings, self._feed = settings, feed
        self.hub.configure(settings)

    # What a host calls ----------------------------------------------------------------------

    @property
    def active_connections(self) -> Mapping[str, Any]:
        """The WebSocket of each connected client, by client id."""
        self._websockets = {id: client.websocket for id, client in self.hub.clients.items()}
        return MappingProxyType(self._websockets)

    def stats(self) -> dict[str, int]:
        """Return counters: clients now, accepted, delivered frames, resyncs, evictions."""
        return {
            "clients": len(self.hub.clients),
            "accepted": self._accepted,
            "delivered": self.hub.delivered,
            "resyncs": self.hub.resyncs,
            "evicted": self.hub.evicted,
        }

    async def connect(
        self,
        websocket: Any,
        *,
        subscriptions: Iterable[str] | None = None,
        owner_id: UUID | str | None = None,
        subprotocol: str | None = None,
        timestamp: bool | None = None,
    ) -> str:
        """Accept a WebSocket and return its client id, with `connection_established` queued.

        Args:
            websocket: has Starlette's methods; not yet accepted.
            subscriptions: event types that it gets at first; default: all but `file_update`.
            owner_id: limits it to the rows of that owner; default: all rows.
            subprotocol: the one to answer the handshake with.
            timestamp: whether frames have the older top-level timestamp; default: the setting.

        Raises:
            UnknownType: a subscription is no event type; nothing was accepted.
        """
        owner = UUID(str(owner_id)) if owner_id is not None else None
        selection = select_types(subscriptions, owner)
        await _accept(websocket, subprotocol)
        if not self.hub.clients:
            self._revive()
        now = asyncio.get_running_loop().time()
        client = Client(
            token_hex(8),
            websocket,
            find_wire(websocket),
            selection,
            stamped=self._settings.ws_timestamp if timestamp is None else timestamp,
            now=now,
        )
        if client.wire is not None:
            self._listen(client)
        self._accepted += 1
        self.hub.add(client)
        self.hub.send(client, self._welcome(client))
        self._beat_later()
        return client.id

    async def run(
        self,
        websocket: Any,
        *,
        subscriptions: Iterable[str] | None = None,
        owner_id: UUID | str | None = None,
        subprotocol: str | None = None,
        timestamp: bool | None = None,
        expires_at: float | None = None,
    ) -> None:
        """Serve a WebSocket until it closes: connect, answer what it says, disconnect.

        `expires_at`, in seconds since the epoch, ends the connection with 4401. Cancelling this
        disconnects the client without a close frame. The other arguments are `connect`'s.
        """
        id = await self.connect(
            websocket,
            subscriptions=subscriptions,
            owner_id=owner_id,
            subprotocol=subprotocol,
            timestamp=timestamp,
        )
        client = self.hub.clients.get(id)
        if client is None:
            return
        expiry = self._expire_later(client, expires_at)
        try:
            async with asyncio.timeout(None) as client.reading:
                await self._read(client)
        except TimeoutError:
            await _close(websocket, *(client.closing or (1011, "gone")))
        finally:
            if expiry is not None:
                expiry.cancel()
            self.disconnect(id)

    def disconnect(self, client_id: str) -> None:
        """Forget a client; its WebSocket is not touched. Unknown ids are ignored."""
        client = self.hub.clients.get(client_id)
        if client is not None:
            self.hub.remove(client)

    async def broadcast(self, event: Event) -> int:
        """Queue an event for all clients that want it; return how many these are.

        It does not wait for any of them.
        """
        count = self.hub.append(event)
        self.hub.flush()
        await asyncio.sleep(0)
        return count

    async def send(self, client_id: str, event: Event) -> bool:
        """Queue an event for one client; False if it is not connected."""
        client = self.hub.clients.get(client_id)
        if client is None:
            return False
        self.hub.send(client, event)
        await asyncio.sleep(0)
        return True

    async def shutdown(self) -> None:
        """Tell every client that the server goes away, and close with 1012."""
        for client in list(self.hub.clients.values()):
            self._say_goodbye(client)
        clients = list(self.hub.clients.values())
        async with asyncio.timeout(_CLOSE_SECONDS), asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(self._dismiss(client), name=f"ws close {client.id}")
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            self._heartbeat = None

    # What a client says ---------------------------------------------------------------------

    async def _read(self, client: Client) -> None:
        loop = asyncio.get_running_loop()
        allowance = Allowance(FRAMES_PER_SECOND, FRAMES_AT_ONCE, loop.time())
        while True:
            message = await _receive(client.websocket)
            if message["type"] != "websocket.receive":
                return
            client.heard_at = loop.time()
            client.speaks = True
            if not allowance.spend(client.heard_at):
                return await self._reject(client, 1008, "too many frames")
            text = message.get("text")
            if text is None:
                self.hub.send(client, error("invalid_message", "frames are text"))
            elif len(text) > MAX_REQUEST_BYTES or len(text.encode()) > MAX_REQUEST_BYTES:
                return await self._reject(client, 1009, "frame over 64 KiB")
            else:
                await self._answer(client, text)

    async def _answer(self, client: Client, text: str) -> None:
        request = read_request(text)
        match request:
            case PingRequest(timestamp):
                self.hub.send(client, Pong(data=PongData(timestamp=timestamp)))
            case PongReply():
                pass
            case SubscribeRequest():
                await self._subscribe(client, request)
            case UnsubscribeRequest():
                self._unsubscribe(client, request)
            case _:
                self.hub.send(client, request)

    async def _subscribe(self, client: Client, request: SubscribeRequest) -> None:
        try:
            selection = client.selection.subscribe(request)
            messages = snapshot_messages(request.snapshot)
        except UnknownType as unknown:
            self.hub.send(client, error("invalid_data", f"no such type: {unknown.args[0]}"))
            return
        except ValueError as invalid:
            self.hub.send(client, error("invalid_data", str(invalid)))
            return
        self.hub.reselect(client, selection)
        if request.since is None and messages is None:
            self.hub.send(client, Subscribed(data=selection.describe()))
            return
        until = self.hub.hold(client)
        try:
            self.hub.send(client, Subscribed(data=selection.describe()))
            if request.since is not None:
                await replay(self.hub, self._feed, client, request.since, until)
            if messages is not None:
                await snapshot(self.hub, self._feed, client, messages)
        finally:
            self.hub.release(client)

    def _unsubscribe(self, client: Client, request: UnsubscribeRequest) -> None:
        try:
            selection = client.selection.unsubscribe(request)
        except UnknownType as unknown:
            self.hub.send(client, error("invalid_data", f"no such type: {unknown.args[0]}"))
            return
        self.hub.reselect(client, selection)
        self.hub.send(client, Unsubscribed(data=selection.describe()))

    async def _reject(self, client: Client, code: int, reason: str) -> None:
        self.hub.remove(client)
        await _close(client.websocket, code, reason)

    # What the clock says --------------------------------------------------------------------

    def _revive(self) -> None:
        """Start afresh: a host's tests may serve one manager in several event loops."""
        self.hub.revive()
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            self._heartbeat = None

    def _beat_later(self) -> None:
        if self._heartbeat is None:
            loop = asyncio.get_running_loop()
            self._heartbeat = loop.call_later(self._settings.heartbeat_seconds, self._beat)

    def _beat(self) -> None:
        """Ping every client, and abort those that answered neither of the last two pings."""
        self._heartbeat = None
        now = asyncio.get_running_loop().time()
        silent = now - 2 * self._settings.heartbeat_seconds
        for client in list(self.hub.clients.values()):
            if client.heard_at <= silent and (client.speaks or client.shows_pongs):
                logger.info("client %s answers no ping", client.id)
                self.hub.abort(client)
        if not self.hub.clients:
            return
        ping = PingData(timestamp=datetime.now(UTC), cursor=self.hub.log.cursor)
        self.hub.append(Ping(data=ping))
        self.hub.flush()
        for client in self.hub.clients.values():
            if client.wire is not None and client.shows_pongs:
                client.wire.write(ping_frame())
        self._beat_later()

    def _listen(self, client: Client) -> None:
        """Hear a client's pongs, and the server's shutdown while there is time to tell."""
        assert client.wire is not None
        loop = asyncio.get_running_loop()

        def heard() -> None:
            client.heard_at = loop.time()

        client.shows_pongs = client.wire.hear_pongs(heard)
        client.wire.before_shutdown(lambda: self._say_goodbye(client))

    def _expire_later(self, client: Client, at: float | None) -> asyncio.TimerHandle | None:
        if at is None:
            return None
        loop = asyncio.get_running_loop()
        delay = min(max(0.0, at - datetime.now(UTC).timestamp()), 7 * 86400.0)
        return loop.call_later(delay, self.hub.evict, client, 4401, "token expired")

    def _say_goodbye(self, client: Client) -> None:
        if client.id in self.hub.clients and not client.dismissed:
            client.dismissed = True
            data = ShutdownData(reconnect_after_ms=RECONNECT_MS)
            self.hub.send(client, ServerShutdown(data=data))

    async def _dismiss(self, client: Client) -> None:
        try:
            async with asyncio.timeout(_CLOSE_SECONDS / 2):
                await self.hub.drained(client)
        except TimeoutError:
            pass
        self.hub.evict(client, 1012, "server shutdown")

    def _welcome(self, client: Client) -> ConnectionEstablished:
        described = client.selection.describe()
        return ConnectionEstablished(
            data=ConnectionData(
                client_id=client.id,
                subscriptions=described.subscriptions,
                filter=described.filter,
                server_time=datetime.now(UTC),
                cursor=self.hub.log.cursor,
                heartbeat_seconds=self._settings.heartbeat_seconds,
            )
        )


async def _receive(websocket: Any) -> Mapping[str, Any]:
    """Return the next ASGI message, also from an object that only knows `receive_text`."""
    if hasattr(websocket, "receive"):
        message: Mapping[str, Any] = await websocket.receive()
        return message
    try:
        return {"type": "websocket.receive", "text": await websocket.receive_text()}
    except WebSocketDisconnect:
        return {"type": "websocket.disconnect"}


async def _accept(websocket: Any, subprotocol: str | None) -> None:
    if getattr(websocket, "application_state", None) is WebSocketState.CONNECTED:
        return  # the endpoint accepted it
    if subprotocol is None:
        await websocket.accept()
    else:
        await websocket.accept(subprotocol=subprotocol)


async def _close(websocket: Any, code: int, reason: str) -> None:
    """Close a WebSocket whose peer may be gone already."""
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await websocket.close(code, reason)
    except Exception as failed:
        logger.debug("close %d: %r", code, failed)
