"""The clients that are not level: each reads the log from a position of its own.

Its rules:

* A client whose socket is full is written to again when that has room, until it is level.
* What waits for it is bounded; over the bound its events are dropped, and it gets one `resync`
  when it reads again. If it goes on not reading, it is given up.
* A client without a wire is never level: a task of its own, for its life, sends what waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from conv_realtime.core.log import Entry, Log
from conv_realtime.core.wire import text_frames
from conv_realtime.relay.client import Client
from conv_realtime.relay.intake import now_ms
from conv_realtime.relay.level import Level
from conv_realtime.settings import Settings

logger = logging.getLogger("conv_realtime.relay")

CHUNK_BYTES = 256 * 1024
"""What is written to one client at a time, about."""

AGAIN_BYTES = 16 * 1024
"""A socket with less waiting is written to again."""

POLL_SECONDS = 0.01
STALL_SECONDS = 5.0
"""How long a client with a gap may go on not reading before it is given up."""


class Laggards:
    """Clients that have yet to be written to.

    Args:
        log: what they read.
        level: where they go when they have read everything.
        settings: how much may wait for one of them.
        give_up: called with a client that goes on not reading.
        lose: called with a client whose WebSocket cannot be sent to.
    """

    def __init__(
        self,
        log: Log,
        level: Level,
        settings: Settings,
        *,
        give_up: Callable[[Client], None],
        lose: Callable[[Client], None],
    ) -> None:
        self.delivered = 0
        self.resyncs = 0
        self._log = log
        self._level = level
        self._give_up = give_up
        self._lose = lose
        self._clients: dict[Client, None] = {}
        self._poll: asyncio.TimerHandle | None = None
        self.configure(settings)

    def __contains__(self, client: Client) -> bool:
        return client in self._clients

    def __len__(self) -> int:
        return len(self._clients)

    def configure(self, settings: Settings) -> None:
        """Take the limits from `settings`."""
        self._max_events = settings.client_queue_events
        self._max_bytes = settings.client_queue_bytes

    def revive(self) -> None:
        """Forget the timer of an event loop that has ended."""
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None

    def add(self, client: Client) -> None:
        """Take a client in; it has everything up to the position of the level ones."""
        client.position = self._level.position
        self._clients[client] = None
        if client.wire is None:
            client.writer = asyncio.create_task(self._write_slowly(client), name=f"ws {client.id}")
        self.poll_soon()

    def discard(self, client: Client) -> None:
        """Let go of a client, which nothing is written to any more."""
        self._clients.pop(client, None)
        if client.writer is not None and client.writer is not asyncio.current_task():
            client.writer.cancel()

    def note(self, entries: Sequence[Entry]) -> None:
        """Count what was published for each; the log holds it until they read it."""
        position = self._level.position
        for client in self._clients:
            client.note(entries, position)
            if client.exceeds(self._log, position, self._max_events, self._max_bytes):
                client.drop_events(asyncio.get_running_loop().time())
                self.resyncs += 1
            client.wake.set()
        self.poll_soon()

    def pump(self, client: Client) -> None:
        """Write what waits for a client, if its socket takes it; make it level if that is all."""
        client.wake.set()
        wire = client.wire
        if wire is None or client not in self._clients:
            return
        position = self._level.position
        while wire.waiting_bytes <= AGAIN_BYTES:
            payloads = client.take(self._log, position, CHUNK_BYTES, now_ms())
            if not payloads:
                break
            self.delivered += len(payloads)
            if not wire.write(text_frames(payloads)):
                break
        client.moved.set()
        if client.is_level(position) and not wire.closing:
            del self._clients[client]
            self._level.add(client)
        else:
            self.poll_soon()

    def poll_soon(self) -> None:
        """Look after the clients in a moment, if there are any."""
        if self._poll is None and self._clients:
            self._poll = asyncio.get_running_loop().call_later(POLL_SECONDS, self._look_after)

    def _look_after(self) -> None:
        self._poll = None
        now = asyncio.get_running_loop().time()
        waiting = False
        for client in list(self._clients):
            if client.idle and client.gap_at is not None:
                client.gap_at = now  # it waits for us, as during a long snapshot
            if client.gap_at is not None and now - client.gap_at > STALL_SECONDS:
                logger.info("client %s is too slow", client.id)
                self._give_up(client)
            elif client.wire is None:
                waiting = waiting or client.gap_at is not None
            elif client.wire.closing:
                client.moved.set()
            else:
                if client.wire.waiting_bytes <= AGAIN_BYTES:
                    client.progress(now)
                    self.pump(client)
                waiting = waiting or client in self._clients
        if waiting:
            self.poll_soon()

    async def _write_slowly(self, client: Client) -> None:
        """Send a client its frames one by one, where there is no wire to write them to."""
        try:
            while True:
                client.wake.clear()
                payloads = client.take(self._log, self._level.position, CHUNK_BYTES, now_ms())
                for payload in payloads:
                    await client.websocket.send_text(payload.decode())
                    self.delivered += 1
                    client.progress(asyncio.get_running_loop().time())
                client.moved.set()
                if not payloads:
                    client.idle = True
                    await client.wake.wait()
                    client.idle = False
        except Exception as error:
            # Whatever a foreign WebSocket raises, it means that this client is gone.
            logger.debug("client %s: %r", client.id, error)
            self._lose(client)
