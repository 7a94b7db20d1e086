"""One connected client: what it wants, and what is still on the way to it.

A client is *level* when it has everything that the hub has written; then it costs nothing but
its place in a group. Otherwise it reads the shared log from a position of its own, behind a
backlog of frames that are for it alone. What it lags by is bounded; over the bound its events
are dropped and it gets one `resync` as soon as it reads again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from conv_realtime.core.envelope import encode, with_timestamp
from conv_realtime.core.log import Entry, Log
from conv_realtime.core.selection import Selection
from conv_realtime.edges.asgi import Wire
from conv_realtime.events import Event, Resync, ResyncData


class Client:
    """The state of one connection; it does no I/O.

    Attributes:
        wire: the transport, or None where frames are sent by the client's own writer.
        stamped: whether its frames have the older top-level timestamp.
        position: index in the log from which it has yet to read; while level, unused.
        held: events wait, because a replay or a snapshot comes first.
        gap_at: since when it has a gap, in loop seconds; None if it has none.
        unanswered: pings since it was last heard of.
        speaks: whether it ever sent anything, so that its silence means something.
        answer_bytes: what waits for it alone, answers to its own requests above all.
        idle: its own writer has nothing to write.
        wake: set when there may be something to write, for the client's own writer.
        moved: set when something was written, for who paces a replay.
        reading: lets the hub end the client's read loop.
        dismissed: it was told that the server goes away.
        closing: the code and reason with which that loop then closes.
    """

    __slots__ = (
        "_backlog", "_bytes", "_events", "answer_bytes", "closing", "dismissed", "gap_at", "held",
        "id", "idle", "moved", "position", "reading", "selection", "shows_pongs", "speaks",
        "stamped", "unanswered", "wake", "websocket", "wire", "writer",
    )  # fmt: skip

    def __init__(
        self,
        id: str,
        websocket: Any,
        wire: Wire | None,
        selection: Selection,
        *,
        stamped: bool,
    ) -> None:
        self.id = id
        self.websocket = websocket
        self.wire = wire
        self.selection = selection
        self.stamped = stamped
        self.position = 0
        self.held = False
        self.gap_at: float | None = None
        self.unanswered = 0
        self.speaks = False
        self.answer_bytes = 0
        self.idle = False
        self.shows_pongs = False
        self.wake = asyncio.Event()
        self.moved = asyncio.Event()
        self.writer: asyncio.Task[None] | None = None
        self.reading: asyncio.Timeout | None = None
        self.closing: tuple[int, str] | None = None
        self.dismissed = False
        self._backlog: deque[tuple[bytes, bool]] = deque()  # frame text, and whether an event
        self._bytes = 0
        self._events = 0

    @property
    def group(self) -> tuple[Selection, bool]:
        """Clients of one group get the same bytes."""
        return (self.selection, self.stamped)

    @property
    def empty(self) -> bool:
        """Whether no frame of its own waits."""
        return not self._backlog

    def end_reading(self) -> None:
        """End the client's read loop, which then closes with `closing`; once."""
        reading, self.reading = self.reading, None
        if reading is not None:
            reading.reschedule(asyncio.get_running_loop().time())

    def encode(self, event: Event, at_ms: int) -> bytes:
        """Return the frame's text in this client's form."""
        payload = encode(event)
        return with_timestamp(payload, at_ms) if self.stamped else payload

    def note(self, entries: Sequence[Entry], stop: int) -> None:
        """Count what of `entries`, the newest before index `stop`, is for this client."""
        if self.gap_at is not None:
            self.position = stop
            return
        for entry in entries:
            if entry.is_for(self.selection):
                self._events += 1
                self._bytes += len(entry.payload(self.stamped))
        if not self._events:
            self.position = stop

    def exceeds(self, log: Log, stop: int, max_events: int, max_bytes: int) -> bool:
        """Return whether what waits is too much, after collapsing what can be."""
        if self.gap_at is None and self.position < log.first:
            return True
        if self._events <= max_events and self._bytes <= max_bytes:
            return False
        mine = self._pending(log, stop)
        own = [payload for payload, is_event in self._backlog if is_event]
        self._events = len(mine) + len(own)
        self._bytes = sum(len(entry.payload(self.stamped)) for entry in mine) + sum(map(len, own))
        return self._events > max_events or self._bytes > max_bytes

    def drop_events(self, now: float) -> None:
        """Give up what waits, except answers to the client's own requests."""
        self._backlog = deque(item for item in self._backlog if not item[1])
        self._events = self._bytes = 0
        self.gap_at = now

    def progress(self, now: float) -> None:
        """Take note that it reads, so that our patience with it starts anew.

        Without a wire that only says that a server took a frame. It counts as a sign of life
        while the client is held: what it says then, a pong too, is read after its answer.
        """
        if self.held or self.wire is not None:
            self.unanswered = 0
        if self.gap_at is not None:
            self.gap_at = now

    def queue(self, payload: bytes) -> None:
        """Add a frame for this client alone; what was pending in the log must be sealed."""
        self._backlog.append((payload, False))
        self.answer_bytes += len(payload)

    def seal(self, log: Log, stop: int) -> None:
        """Put what is pending in the log before `stop` into the backlog, by today's selection."""
        if self.held or self.gap_at is not None:
            return
        for entry in self._pending(log, stop):
            self._backlog.append((entry.payload(self.stamped), True))
        self.position = stop

    def take(self, log: Log, stop: int, max_bytes: int, at_ms: int) -> list[bytes]:
        """Return the next frames, up to about `max_bytes`; an empty list when there are none."""
        taken: list[bytes] = []
        size = 0
        while self._backlog and size < max_bytes:
            payload, is_event = self._backlog.popleft()
            size += len(payload)
            if is_event:
                self._count_off(payload)
            else:
                self.answer_bytes -= len(payload)
            taken.append(payload)
        if self._backlog or self.held:
            return taken
        if self.gap_at is not None or self.position < min(log.first, stop):
            self.drop_events(0.0)
            self.gap_at = None
            self.position = stop
            taken.append(self.encode(_too_slow(log.cursor), at_ms))
            return taken
        while self.position < stop and size < max_bytes:
            for entry in log.read(self.position, min(self.position + 64, stop)):
                self.position += 1
                if not self._passes(entry):
                    continue
                payload = entry.payload(self.stamped)
                size += len(payload)
                self._count_off(payload)
                taken.append(payload)
                if size >= max_bytes:
                    break
        if self.position >= stop:
            self._events = self._bytes = 0
        return taken

    def is_level(self, stop: int) -> bool:
        """Return whether nothing at all waits before index `stop`."""
        return not self._backlog and not self.held and self.gap_at is None and self.position >= stop

    def _pending(self, log: Log, stop: int) -> list[Entry]:
        start = max(self.position, log.first)
        return [entry for entry in log.read(start, stop) if self._passes(entry)]

    def _passes(self, entry: Entry) -> bool:
        return not entry.superseded and entry.is_for(self.selection)

    def _count_off(self, payload: bytes) -> None:
        self._events -= 1
        self._bytes -= len(payload)


def _too_slow(cursor: str) -> Resync:
    return Resync(data=ResyncData(reason="too_slow", cursor=cursor))
