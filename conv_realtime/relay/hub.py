"""The hub: one log in, one write per client and loop turn out.

Its rules:

* What is appended within one turn of the loop is written together at its end, in pieces of
  about 256 KB if it is more.
* Level clients share one position and, group by group, the bytes (`level.py`); a client whose
  socket does not take them falls behind and reads the log at its own pace until it is level
  again (`laggards.py`).
* Nobody waits for anybody: no call here suspends, except for `drained` and `room_for_answers`.
* A frame for one client (an answer, a snapshot) stands behind every event that was published
  before it.
* There are no tasks per message.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from conv_realtime.core.log import Entry, Log
from conv_realtime.core.selection import Selection
from conv_realtime.core.wire import text_frames
from conv_realtime.edges.asgi import cut, cut_later, step
from conv_realtime.events import Event, Resync, ResyncData
from conv_realtime.ports import Page
from conv_realtime.relay.client import Client
from conv_realtime.relay.intake import Intake, now_ms
from conv_realtime.relay.laggards import CHUNK_BYTES, Laggards
from conv_realtime.relay.level import BEHIND_BYTES, Level
from conv_realtime.settings import Settings

ANSWER_BYTES = 256 * 1024
"""A client with more answers to read is not asked what else it wants."""

HANG_UP_SECONDS = 5.0
"""How long a client that was closed may still read what was sent, before the line is cut."""

LAST_WORD_SECONDS = 30.0
"""The same for one that was too slow: it reads late, and is to learn why it was closed."""

_MAX_UNFLUSHED = 500


class Hub:
    """Keeps the log and the clients level with it."""

    def __init__(self, settings: Settings) -> None:
        self.log = Log(settings.replay_events)
        self.clients: dict[str, Client] = {}
        self.level = Level()
        self.laggards = Laggards(
            self.log, self.level, settings, give_up=self._give_up, lose=self._lose
        )
        self.evicted = 0
        self.gaps: Counter[str] = Counter()  # told of, by reason, beside slow clients
        self.appended: list[Callable[[Entry], None]] = []
        self.iterators: set[asyncio.Event] = set()  # of `events()`: what wakes each
        self._flush_due = False
        self._unwritten = 0  # bytes in the log that nobody was sent yet, about
        self._intake = Intake(self.log)

    @property
    def delivered(self) -> int:
        """Frames written to clients."""
        return self.level.delivered + self.laggards.delivered

    @property
    def resyncs(self) -> int:
        """How often a client's events were dropped because it did not read them."""
        return self.laggards.resyncs

    def revive(self) -> None:
        """Forget timers of an event loop that has ended; nobody is connected."""
        self._flush_due = False
        self.laggards.revive()

    def configure(self, settings: Settings) -> None:
        """Take the limits from `settings`."""
        self.log.max_entries = settings.replay_events
        self.laggards.configure(settings)

    # What comes in --------------------------------------------------------------------------

    def take(self, page: Page) -> None:
        """Publish a page of changes; a `ports.PageHandler`."""
        if not self.log.cursor and (self.clients or self.iterators):
            # They came before the stream had a beginning: between what they read by then, if
            # anything, and this page may lie changes that no feed will tell again.
            page = replace(page, resync=True)
        if page.resync:
            self.gaps["source_gap"] += len(self.clients)
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
        waiting = self.log.head - self.level.position
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

    def flush(self) -> None:
        """Write to every client what was published and not yet written."""
        self._flush_due = False
        start, head = self.level.position, self.log.head
        if start == head:
            return
        entries = self.log.read(start, head)
        self.level.position, self._unwritten = head, 0
        self.laggards.note(entries)
        for client in self.level.write(entries):
            self._fall_behind(client)

    # Clients ---------------------------------------------------------------------------------

    def add(self, client: Client) -> None:
        """Let a client take part, from the events on that are published after this call."""
        self.flush()
        self.clients[client.id] = client
        if client.wire is None:
            self.laggards.add(client)
        else:
            self.level.add(client)

    def remove(self, client: Client) -> None:
        """Forget a client; whatever waits for it is dropped. Harmless when it is gone."""
        if self.clients.pop(client.id, None) is None:
            return
        self.level.discard(client)
        self.laggards.discard(client)
        client.moved.set()

    def reselect(self, client: Client, selection: Selection) -> None:
        """Give a client another selection, which holds for every event from now on."""
        self.flush()
        self._step_aside(client)
        client.selection = selection
        self.laggards.pump(client)

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
        if wire is not None and client in self.level:
            if not wire.write(text_frames((payload,))) or wire.waiting_bytes > BEHIND_BYTES:
                self._fall_behind(client)
            return
        client.seal(self.log, self.level.position)
        client.queue(payload)
        self.laggards.pump(client)

    def hold(self, client: Client) -> int:
        """Keep events from a client until `release`; return the index they will go on from."""
        self.flush()
        self._step_aside(client)
        client.held = True
        return self.level.position

    def release(self, client: Client) -> None:
        """Let a client that was held go on."""
        client.held = False
        self.laggards.pump(client)

    def hears(self, client: Client) -> bool:
        """Return whether a client is there: what one has said who has gone may still come in."""
        return client.id in self.clients and not (client.wire is not None and client.wire.closing)

    async def room_for_answers(self, client: Client) -> None:
        """Wait until a client has read enough of its answers, or is gone."""
        while self.hears(client) and client.answer_bytes > ANSWER_BYTES:
            client.moved.clear()
            self.laggards.poll_soon()
            await client.moved.wait()

    async def drained(self, client: Client) -> bool:
        """Wait until a client has read its backlog, for a turn at least; False if it is gone."""
        await asyncio.sleep(0)  # however fast it reads, others have their turn
        while self.hears(client):
            if client.empty and (client.wire is None or client.wire.waiting_bytes <= BEHIND_BYTES):
                return True
            client.moved.clear()
            self.laggards.poll_soon()
            await client.moved.wait()
        return False

    def _fall_behind(self, client: Client) -> None:
        if self.level.discard(client):
            self.laggards.add(client)

    def _step_aside(self, client: Client) -> None:
        """Take a client out of its level group, with everything before it written or sealed."""
        if client in self.laggards:
            client.seal(self.log, self.level.position)
        else:
            self._fall_behind(client)

    # Ends ------------------------------------------------------------------------------------

    def evict(self, client: Client, code: int, reason: str, patience: float | None = None) -> None:
        """Close a client's connection, whether or not it reads, and forget it.

        The line is cut after `patience`, in seconds; default: HANG_UP_SECONDS.
        """
        self.remove(client)
        if client.wire is None:
            client.closing = (code, reason)
            client.end_reading()
            return
        if client.wire.waiting_bytes > BEHIND_BYTES or not step(
            client.websocket.close(code, reason)
        ):
            client.wire.hang_up(code, reason)
        self.cut_later(client, patience)

    def cut_later(self, client: Client, patience: float | None = None) -> None:
        """Cut a client's line after `patience`, in seconds; default: HANG_UP_SECONDS."""
        cut_later(client.websocket, HANG_UP_SECONDS if patience is None else patience)

    def abort(self, client: Client) -> None:
        """Cut the line of a client that is not there any more."""
        self.remove(client)
        self.evicted += 1
        if client.wire is not None:
            cut(client.wire.transport)
        else:
            client.closing = (1011, "no answer to ping")
            client.end_reading()

    def _give_up(self, client: Client) -> None:
        """Close a client that goes on not reading, behind a last word."""
        self.evicted += 1
        if client.wire is not None:
            event = Resync(data=ResyncData(reason="too_slow", cursor=self.log.cursor))
            client.wire.write(text_frames((client.encode(event, now_ms()),)))
        self.evict(client, 1013, "too slow", LAST_WORD_SECONDS)

    def _lose(self, client: Client) -> None:
        self.remove(client)
        client.end_reading()
