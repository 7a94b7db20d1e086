"""The heartbeat: who is still there, and how far each has heard.

A browser cannot send WebSocket pings and a plain listener answers no JSON, so every client gets
both kinds, and either answer will do. A ping carries the cursor of the stream and stands in the
log like an event, so it says: everything up to here has been sent to you, or was not for you.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from conv_realtime.core.wire import ping_frame
from conv_realtime.events import Ping, PingData
from conv_realtime.relay.client import Client
from conv_realtime.relay.hub import Hub

logger = logging.getLogger("conv_realtime.relay")

_WAITING_BYTES = 4 * 2**20
"""More than the hub leaves in a transport: the server's own pongs, which nobody reads."""


class Heartbeat:
    """Beats every `interval` seconds while anybody is connected; a timer, no task."""

    def __init__(self, hub: Hub, interval: float) -> None:
        self.interval = interval
        self._hub = hub
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, client: Client) -> None:
        """Hear a client's WebSocket pongs, where its server shows them, and keep beating."""
        if client.wire is not None:

            def heard() -> None:
                client.unanswered = 0

            client.shows_pongs = client.wire.hear_pongs(heard)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.interval, self._beat)

    def stop(self) -> None:
        """Beat no more, until somebody is watched again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        """Abort who answered neither of the last two pings, and ping the others.

        Pings are counted, not seconds: after a stall of this process everybody looks silent.
        """
        self._timer = None
        for client in list(self._hub.clients.values()):
            if client.unanswered >= 2 and (client.speaks or client.shows_pongs):
                logger.info("client %s answers no ping", client.id)
                self._hub.abort(client)
            elif client.wire is not None and client.wire.waiting_bytes > _WAITING_BYTES:
                logger.info("client %s reads nothing", client.id)
                self._hub.abort(client)
            client.unanswered += 1
        if not self._hub.clients:
            return
        ping = PingData(timestamp=datetime.now(UTC), cursor=self._hub.log.cursor)
        self._hub.append(Ping(data=ping))
        self._hub.flush()
        for client in self._hub.clients.values():
            if client.wire is not None and client.shows_pongs:
                client.wire.write(ping_frame())
        self._timer = asyncio.get_running_loop().call_later(self.interval, self._beat)
