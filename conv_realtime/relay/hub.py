"""The hub: one log in, one write per client and loop turn out.

Its rules:

* What is appended within one turn of the loop is written together at its end, in pieces of
  about 256 KB if it is more.
* Level clients share one position and, group by group, the bytes; a client whose socket does
  not take them falls behind and reads the log at its own pace until it is level again.
* Nobody waits for anybody: no call here suspends, except for `drained` and `room_for_answers`.
* A frame for one client (an answer, a snapshot) stands behind every event that was published
  before it.
* There are no tasks per message. A client without a wire has one writer task for its life.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from conv_realtime.core.log import Entry, Log
from conv_realtime.core.selection import Selection
from conv_realtime.core.wire import text_frames
from conv_realtime.edges.asgi import cut_later, step
from conv_realtime.events import Event, Resync, ResyncData
from conv_realtime.ports import Page
from conv_realtime.relay.client import Client
from conv_realtime.relay.intake import Intake, now_ms
from conv_realtime.settings import Settings

logger = logging.getLogger("conv_realtime.relay")

CHUNK_BYTES = 256 * 1024
"""What is written to one client at a time, about."""

BEHIND_BYTES, AGAIN_BYTES = 64 * 1024, 16 * 1024
"""A socket with more waiting falls behind; with less, it is written to again."""

ANSWER_BYTES = 256 * 1024
"""A client with more answers to read is not asked what else it wants."""

POLL_SECONDS = 0.01
STALL_SECONDS = 5.0
"""How long a client with a gap may go on not reading before it is closed with 1013."""

HANG_UP_SECONDS = 5.0
"""How long a client that was closed may still read what was sent, before the line is cut."""

_MAX_UNFLUSHED = 500


class Hub:
    """Keeps the log and the clients level with it."""

    def __init__(self, settings: Settings) -> None:
        self.log = Log(settings.replay_events)
        self.clients: dict[str, Client] = {}
        self.delivered = 0
        self.resyncs = 0
        self.evicted = 0
        self.appended: list[Callable[[Entry], None]] = []
        self.iterators = 0  # of `events()`
        self._max_events = settings.client_queue_events
        self._max_bytes = settings.client_queue_bytes
        self._common = 0
        self._level: dict[tuple[Selection, bool], dict[Client, None]] = {}
        self._behind: dict[Client, None] = {}
        self._flush_due = False
        self._unwritten = 0  # bytes in the log that nobody was sent yet, about
        self._poll: asyncio.TimerHandle | None = None
        self._intake = Intake(self.log)

    def revive(self) -> None:
        """Forget timers of an event loop that has ended; nobody is connected."""
        self._flush_due = False
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None

    def configure(self, settings: Settings) -> None:
        """Take the limits from `settings`."""
        self.log.max_entries = settings.replay_events
        self._max_events = settings.client_queue_events
        self._max_bytes = settings.client_queue_bytes

    # What comes in --------------------------------------------------------------------------

    def take(self, page: Page) -> None:
        """Publish a page of changes; a `ports.PageHandler`."""
        if not self.log.cursor and (self.clients or self.iterators):
            # They came before the stream had a beginning: between what they read by then, if
            # anything, and this page may lie changes that no feed will tell again.
            page = replace(page, resync=True)
        for entry in self._intake.entries_of(page):
            self._append(entry)
        self._intake.finish(page)
        for entry in self._intake.files_of(page):
            self._append(entry)

    def append(self, event: Event) -> int:
        """Publish a ready-made event; return how many clients it is queued for.

        Its owner and project are those of its conversation, as far as that was heard of; an
        event without a known owner is not for clients that are limited to one.
        """
        entry = self._intake.entry_of(event)
        self._append(entry)
        wanted: dict[Selection, bool] = {}
        for client in self.clients.values():
            if client.selection not in wanted:
                wanted[client.selection] = entry.is_for(client.selection)
        return sum(wanted[client.selection] for client in self.clients.values())

    def _append(self, entry: Entry) -> None:
        # The log must never drop what is not yet written.
        waiting = self.log.head - self._common
        if waiting >= min(_MAX_UNFLUSHED, self.log.max_entries) or (
            waiting and self._unwritten + entry.weight > CHUNK_BYTES
        ):
            self.flush()
        self.log.append(entry)
        self._unwritten += entry.weight
        for hear in self.appended:
            hear(entry)
        if not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self.flush)

    # What goes out --------------------------------------------------------------------------

    def flush(self) -> None:
        """Write to every client what was published and not yet written."""
        self._flush_due = False
        if self._common == self.log.head:
            return
        entries = self.log.read(self._common, self.log.head)
        self._common, self._unwritten = self.log.head, 0
        for client in list(self._behind):
            self._note(client, entries)
        for group, clients in list(self._level.items()):
            selection, stamped = group
            payloads = [entry.payload(stamped) for entry in entries if entry.is_for(selection)]
            if payloads:
                self.delivered += len(payloads) * len(clients)
                self._write_all(clients, text_frames(payloads))

    def _write_all(self, clients: dict[Client, None], frames: bytes) -> None:
        left: list[Client] = []
        for client in clients:
            wire = client.wire
            assert wire is not None
            if not wire.write(frames) or wire.waiting_bytes > BEHIND_BYTES:
                left.append(client)
        for client in left:
            self._fall_behind(client)

    def _fall_behind(self, client: Client) -> None:
        group = self._level.get(client.group)
        if group is None or client not in group:
            return
        del group[client]
        if not group:
            del self._level[client.group]
        client.position = self._common
        self._behind[client] = None
        self._poll_soon()

    def _note(self, client: Client, entries: Sequence[Entry]) -> None:
        client.note(entries, self._common)
        if client.exceeds(self.log, self._common, self._max_events, self._max_bytes):
            client.drop_events(asyncio.get_running_loop().time())
            self.resyncs += 1
        client.wake.set()
        self._poll_soon()

    # Clients ---------------------------------------------------------------------------------

    def add(self, client: Client) -> None:
        """Let a client take part, from the events on that are published after this call."""
        self.flush()
        client.position = self._common
        self.clients[client.id] = client
        if client.wire is None:
            self._behind[client] = None
            client.writer = asyncio.create_task(self._write_slowly(client), name=f"ws {client.id}")
        else:
            self._level.setdefault(client.group, {})[client] = None

    def remove(self, client: Client) -> None:
        """Forget a client; whatever waits for it is dropped. Harmless when it is gone."""
        if self.clients.pop(client.id, None) is None:
            return
        self._fall_behind(client)
        self._behind.pop(client, None)
        client.moved.set()
        if client.writer is not None and client.writer is not asyncio.current_task():
            client.writer.cancel()

    def reselect(self, client: Client, selection: Selection) -> None:
        """Give a client another selection, which holds for every event from now on."""
        self.flush()
        self._step_aside(client)
        client.selection = selection
        self._pump(client)

    def send(self, client: Client, event: Event) -> None:
        """Send an event to one client, behind all that was published before."""
        self.send_text(client, client.encode(event, now_ms()))

    def send_text(self, client: Client, payload: bytes) -> None:
        """Send a frame's text to one client, behind all that was published before.

        One that is forgotten, whose requests may still come in, gets nothing more.
        """
        if client.id not in self.clients:
            return
        self.flush()
        wire = client.wire
        if wire is not None and client in self._level.get(client.group, ()):
            if not wire.write(text_frames((payload,))) or wire.waiting_bytes > BEHIND_BYTES:
                self._fall_behind(client)
            return
        client.seal(self.log, self._common)
        client.queue(payload)
        self._pump(client)

    def hold(self, client: Client) -> int:
        """Keep events from a client until `release`; return the index they will go on from."""
        self.flush()
        self._step_aside(client)
        client.held = True
        return self._common

    def release(self, client: Client) -> None:
        """Let a client that was held go on."""
        client.held = False
        self._pump(client)

    async def room_for_answers(self, client: Client) -> None:
        """Wait until a client has read enough of its answers, or is gone."""
        while client.id in self.clients and client.answer_bytes > ANSWER_BYTES:
            client.moved.clear()
            self._poll_soon()
            await client.moved.wait()

    async def drained(self, client: Client) -> bool:
        """Wait until a client has read its backlog; False if it is gone."""
        while client.id in self.clients:
            wire = client.wire
            if wire is not None and wire.closing:
                return False
            if client.empty and (wire is None or wire.waiting_bytes <= BEHIND_BYTES):
                return True
            client.moved.clear()
            self._poll_soon()
            await client.moved.wait()
        return False

    def evict(self, client: Client, code: int, reason: str) -> None:
        """Close a client's connection, whether or not it reads, and forget it."""
        self.remove(client)
        if client.wire is None:
            client.closing = (code, reason)
            _end_reading(client)
            return
        if client.wire.waiting_bytes > BEHIND_BYTES or not step(
            client.websocket.close(code, reason)
        ):
            client.wire.hang_up(code, reason)
        cut_later(client.websocket, HANG_UP_SECONDS)

    def abort(self, client: Client) -> None:
        """Cut the line of a client that is not there any more."""
        self.remove(client)
        self.evicted += 1
        if client.wire is not None:
            client.wire.transport.abort()
        else:
            client.closing = (1011, "no answer to ping")
            _end_reading(client)

    def _step_aside(self, client: Client) -> None:
        """Take a client out of its level group, with everything before it written or sealed."""
        if client in self._behind:
            client.seal(self.log, self._common)
        else:
            self._fall_behind(client)

    def _pump(self, client: Client) -> None:
        """Write what waits for a client, if its socket takes it; make it level if that is all."""
        client.wake.set()
        wire = client.wire
        if wire is None or client.id not in self.clients:
            return
        while wire.waiting_bytes <= AGAIN_BYTES:
            payloads = client.take(self.log, self._common, CHUNK_BYTES, now_ms())
            if not payloads:
                break
            self.delivered += len(payloads)
            if not wire.write(text_frames(payloads)):
                break
        client.moved.set()
        if client.is_level(self._common) and not wire.closing:
            self._behind.pop(client, None)
            self._level.setdefault(client.group, {})[client] = None
        else:
            self._poll_soon()

    def _poll_soon(self) -> None:
        if self._poll is None and self._behind:
            self._poll = asyncio.get_running_loop().call_later(POLL_SECONDS, self._poll_behind)

    def _poll_behind(self) -> None:
        self._poll = None
        now = asyncio.get_running_loop().time()
        waiting = False
        for client in list(self._behind):
            if client.idle and client.gap_at is not None:
                client.gap_at = now  # it waits for us, as during a long snapshot
            if client.gap_at is not None and now - client.gap_at > STALL_SECONDS:
                self._give_up(client)
            elif client.wire is None:
                waiting = waiting or client.gap_at is not None
            elif client.wire.closing:
                client.moved.set()
            else:
                if client.wire.waiting_bytes <= AGAIN_BYTES:
                    client.progress(now)
                    self._pump(client)
                waiting = waiting or client in self._behind
        if waiting:
            self._poll_soon()

    def _give_up(self, client: Client) -> None:
        logger.info("client %s is too slow", client.id)
        self.evicted += 1
        if client.wire is not None:
            event = Resync(data=ResyncData(reason="too_slow", cursor=self.log.cursor))
            client.wire.write(text_frames((client.encode(event, now_ms()),)))
        self.evict(client, 1013, "too slow")

    async def _write_slowly(self, client: Client) -> None:
        """Send a client its frames one by one, where there is no wire to write them to."""
        try:
            while True:
                client.wake.clear()
                payloads = client.take(self.log, self._common, CHUNK_BYTES, now_ms())
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
            self.remove(client)
            _end_reading(client)


def _end_reading(client: Client) -> None:
    if client.reading is not None:
        client.reading.reschedule(asyncio.get_running_loop().time())
