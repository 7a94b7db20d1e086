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
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from secrets import token_hex
from types import MappingProxyType
from typing import Any
from uuid import UUID

from starlette.websockets import WebSocketState

from conv_realtime.core.selection import select_types
from conv_realtime.edges.asgi import find_wire, send_at_once
from conv_realtime.events import (
    ConnectionData,
    ConnectionEstablished,
    Event,
    ServerShutdown,
    ShutdownData,
)
from conv_realtime.ports import Feed
from conv_realtime.relay.client import Client
from conv_realtime.relay.dialogue import Dialogue, close
from conv_realtime.relay.heartbeat import Heartbeat
from conv_realtime.relay.hub import Hub
from conv_realtime.settings import Settings

SUBPROTOCOL = "conv_realtime"
RECONNECT_MS = 1000
_SHUTDOWN = "server shutdown"
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
        self._heartbeat = Heartbeat(self.hub, self._settings.heartbeat_seconds)
        self._accepted = 0

    def configure(self, settings: Settings, feed: Feed | None) -> None:
        """Take settings and feed that were not known when this was made."""
        self._settings, self._feed = settings, feed
        self.hub.configure(settings)
        self._heartbeat.interval = settings.heartbeat_seconds

    # What a host calls ----------------------------------------------------------------------

    @property
    def active_connections(self) -> Mapping[str, Any]:
        """The WebSocket of each connected client, by client id."""
        clients = self.hub.clients.values()
        return MappingProxyType({client.id: client.websocket for client in clients})

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
        """Accept a WebSocket, send it `connection_established` and return its client id.

        A WebSocket that does not take the frame at once is not waited for.

        Args:
            websocket: has Starlette's methods; not yet accepted.
            subscriptions: event types that it gets at first; default: all but `file_update`.
            owner_id: limits it to the rows of that owner; default: all rows.
            subprotocol: the one to answer the handshake with; default: `conv_realtime` where
                that is offered.
            timestamp: whether frames have the older top-level timestamp; default: the setting.

        Raises:
            ValueError: a subscription is no event type; nothing was accepted.
        """
        owner = UUID(str(owner_id)) if owner_id is not None else None
        selection = select_types(subscriptions, owner)
        await _accept(websocket, subprotocol or _offered(websocket))
        send_at_once(websocket)
        if not self.hub.clients:
            # A host's tests may serve one manager in several event loops.
            self.hub.revive()
            self._heartbeat.stop()
        client = Client(
            token_hex(8),
            websocket,
            find_wire(websocket),
            selection,
            stamped=self._settings.ws_timestamp if timestamp is None else timestamp,
        )
        if client.wire is not None:
            client.wire.before_shutdown(lambda: self._say_goodbye(client))
        self._accepted += 1
        self.hub.add(client)
        self.hub.send(client, self._welcome(client))
        self._heartbeat.watch(client)
        if client.wire is None:
            try:
                await asyncio.sleep(0)  # the turn of its writer
            except asyncio.CancelledError:
                self.hub.remove(client)
                raise
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
        try:
            async with asyncio.timeout(None) as client.reading:
                if expires_at is not None:
                    self._expire(id, expires_at)
                await Dialogue(self.hub, self._feed).run(client)
        except TimeoutError:
            if client.reading is not None:  # nobody ended it: the feed raised this
                raise
            await close(websocket, *(client.closing or (1011, "gone")))
        finally:
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
        try:
            async with asyncio.timeout(_CLOSE_SECONDS), asyncio.TaskGroup() as group:
                for client in clients:
                    group.create_task(self._dismiss(client), name=f"ws close {client.id}")
        finally:
            for client in clients:
                if client.id in self.hub.clients:  # cancelled: nobody is waited for
                    self._close(client)
            self._heartbeat.stop()

    def _expire(self, client_id: str, at: float) -> None:
        """Close a client when the clock says `at`: a timer stands still while a machine sleeps."""
        client = self.hub.clients.get(client_id)
        if client is None:
            return
        left = at - time.time()
        if left <= 0:
            self.hub.evict(client, 4401, "token expired")
        else:
            again = min(left, self._settings.heartbeat_seconds)
            asyncio.get_running_loop().call_later(again, self._expire, client_id, at)

    def _say_goodbye(self, client: Client) -> None:
        if client.id not in self.hub.clients:
            self.hub.cut_later(client)  # a server waits for who was closed and reads nothing
        elif not client.dismissed:
            client.dismissed = True
            data = ShutdownData(reconnect_after_ms=RECONNECT_MS)
            self.hub.send(client, ServerShutdown(data=data))
            if client.held and client.wire is not None:
                # A server waits for whoever still waits for an answer, of a store that is away.
                client.closing = (1012, _SHUTDOWN)
                client.end_reading()

    async def _dismiss(self, client: Client) -> None:
        try:
            async with asyncio.timeout(_CLOSE_SECONDS / 2):
                await self.hub.drained(client)
        except TimeoutError:
            pass
        self._close(client)

    def _close(self, client: Client) -> None:
        self.hub.evict(client, 1012, _SHUTDOWN)

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


def _offered(websocket: Any) -> str | None:
    """Return our subprotocol if it is offered: who offers one and gets none hangs up."""
    scope = getattr(websocket, "scope", None)
    offered = scope.get("subprotocols", ()) if isinstance(scope, dict) else ()
    return SUBPROTOCOL if SUBPROTOCOL in offered else None


async def _accept(websocket: Any, subprotocol: str | None) -> None:
    if getattr(websocket, "application_state", None) is WebSocketState.CONNECTED:
        return  # the endpoint accepted it
    if subprotocol is None:
        await websocket.accept()
    else:
        await websocket.accept(subprotocol=subprotocol)
