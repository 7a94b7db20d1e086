"""The shared log: every event once, in order, encoded once for all who want it.

Readers hold an index and read on from it; the log knows none of them. Its rules:

* An index never changes its meaning; `first` to `head` are kept, older ones are gone for good.
* A mark says which index lies behind a cursor. Where a feed tells only one a page, events within
  the page carry the cursor before it: who goes on from there hears some twice and misses none.
* A gap in the stream drops all marks and what is known of rows: no cursor from before it leads
  anywhere, and revisions begin anew.
* An update of a conversation is superseded by a newer one, and by its deletion.
* What was said of a conversation is erased by its deletion: who comes back hears nothing of it.
* Who comes back hears of each row once, as it is by then: what appeared meanwhile is new.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from uuid import UUID

from conv_realtime.core.cursor import parse_cursor
from conv_realtime.core.envelope import encode, event_of, with_timestamp
from conv_realtime.core.selection import DELETIONS, Selection, Subject
from conv_realtime.core.weight import weight_of
from conv_realtime.events import Event
from conv_realtime.models import Change, Conversation

MAX_BYTES = 64 * 2**20
"""About how many bytes are kept in memory for who comes back; see `weight_of`."""

_NEW = ("new_conversation", "new_message")
_SUPERSEDING = frozenset({"conversation_update", "conversation_deleted"})


class Entry:
    """One event of the log, encoded when somebody first wants it.

    Attributes:
        subject: what it is about; None if it is for every client.
        cursor: the place in the stream that who has read it may go on from.
        revision: of what it tells of; 0 of what has none.
        superseded: whether the log has something newer of the same conversation.
        erased: whether nothing is left of it, because its conversation is gone.
        weight: its size in bytes, about.
        index: its place in the log.
        newer: what the log says of the same row next.
        late: whether the log had a higher revision of the row before: nobody is told.
        appeared: the index at which the log says that the row is new, if it does.
    """

    __slots__ = ("_as_new", "_at_ms", "_change", "_event", "_payload", "_stamped", "appeared",
                 "cursor", "erased", "index", "late", "newer", "revision", "subject",
                 "superseded", "weight")  # fmt: skip

    def __init__(
        self,
        subject: Subject | None,
        cursor: str,
        at_ms: int,
        *,
        change: Change | None = None,
        event: Event | None = None,
    ) -> None:
        self.subject = subject
        self.cursor = cursor
        about = change.row if change is not None else event and event.data
        self.revision: int = getattr(about, "revision", 0)
        self.superseded = self.erased = self.late = False
        said = change or event
        self.weight = weight_of(said) if said is not None else 0
        self.index = 0
        self.newer: Entry | None = None
        self.appeared: int | None = None
        self._as_new: Entry | None = None
        self._at_ms = at_ms
        self._change = change
        self._event = event
        self._payload: bytes | None = None
        self._stamped: bytes | None = None

    @property
    def is_change(self) -> bool:
        """Whether it is part of the stream, so that a cursor cannot skip it."""
        return self._change is not None

    @property
    def event(self) -> Event:
        """The event, whole; that of a change is made anew, or the log would hold all twice."""
        if self._event is not None:
            return self._event
        assert self._change is not None
        return event_of(self._change, self.cursor)

    def payload(self, stamped: bool) -> bytes:
        """Return the frame's text; `stamped` in the older form with a timestamp."""
        if self._payload is None:
            self._payload = encode(self.event)
        if not stamped:
            return self._payload
        if self._stamped is None:
            self._stamped = with_timestamp(self._payload, self._at_ms)
        return self._stamped

    def is_for(self, selection: Selection) -> bool:
        """Return whether a client with `selection` gets this event."""
        if self.erased or self.late:
            return False
        return self.subject is None or selection.wants(self.subject)

    @property
    def row(self) -> tuple[UUID, UUID] | None:
        """Which row it tells of, as owner and id; None if of none."""
        return None if self._change is None else (self._change.row.owner_id, self._change.row.id)

    @property
    def is_deletion(self) -> bool:
        """Whether it says that its row is gone."""
        return self.subject is not None and self.subject.type in DELETIONS

    @property
    def tells_of_new(self) -> bool:
        """Whether it says that its row appeared."""
        return self.subject is not None and self.subject.type in _NEW

    @property
    def is_of_conversation(self) -> bool:
        """Whether its row is a conversation."""
        return self._change is not None and isinstance(self._change.row, Conversation)

    def as_new(self, cursor: str) -> Entry:
        """Return what tells of its row as one that appeared, for who reads on from `cursor`."""
        assert self._change is not None and self.subject is not None
        if self._as_new is None:
            change = Change(self._change.row, created=True)
            subject = replace(self.subject, type=_NEW[0 if self.is_of_conversation else 1])
            self._as_new = Entry(subject, cursor, self._at_ms, change=change)
        return self._as_new

    def up_to(self, cursor: str) -> Entry:
        """Return the same for who has everything up to `cursor` with it."""
        if self._change is None or cursor == self.cursor:
            return self
        return Entry(self.subject, cursor, self._at_ms, change=self._change)

    def erase(self) -> None:
        """Forget what it says; nobody gets it any more."""
        self.erased = True
        self._change = self._event = self._payload = self._stamped = self._as_new = None


_GONE = Entry(None, "", 0)


class Log:
    """The last events and where cursors lie among them.

    Args:
        max_entries: events kept.
        max_bytes: bytes kept, about; rows of megabytes shorten the log.
    """

    def __init__(self, max_entries: int, max_bytes: int = MAX_BYTES) -> None:
        self.max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: list[Entry] = []
        self._offset = 0  # index of _entries[0]
        self._first = 0
        self._stream: str | None = None
        self._marks: list[tuple[tuple[int, ...], int]] = []
        self._updates: dict[UUID, Entry] = {}
        self._rows: dict[tuple[UUID, UUID], Entry] = {}
        self.cursor = ""

    @property
    def first(self) -> int:
        """The oldest index that is kept."""
        return self._first

    @property
    def head(self) -> int:
        """The index that the next event will have."""
        return self._offset + len(self._entries)

    def append(self, entry: Entry) -> None:
        """Add an event; one whose cursor is new marks the place behind it."""
        entry.index = self.head
        self._follow_row(entry)
        self._entries.append(entry)
        self._bytes += entry.weight
        if entry.subject is not None and entry.subject.type in _SUPERSEDING:
            self._supersede(entry.subject, entry)
            if entry.subject.type == "conversation_deleted" and not entry.late:
                self._erase(entry.subject)
        self._trim()
        if entry.is_change and entry.cursor != self.cursor:
            self.mark(entry.cursor)

    def mark(self, cursor: str) -> None:
        """Say that everything before `cursor` is in the log or older than it."""
        if cursor == self.cursor and self._marks and self._marks[-1][1] == self.head:
            return
        self.cursor = cursor
        place = parse_cursor(cursor)
        if place is None:
            return
        if place.stream != self._stream:
            self._stream, self._marks = place.stream, []
        if self._marks and self._marks[-1][0] > place.position:
            return
        if len(self._marks) > 1 and self._marks[-2][1] == self.head:
            self._marks.pop()  # an idle stream moves on without events: its ends will do
        self._marks.append((place.position, self.head))

    def begin_anew(self) -> None:
        """Say that the stream has a gap here: what it told says nothing of what comes.

        A database that was restored goes on below the revisions that it had.
        """
        self._marks.clear()
        self._rows.clear()
        self._updates.clear()

    def find(self, cursor: str) -> int | None:
        """Return the index to read on from behind `cursor`; None if that is not known here."""
        place = parse_cursor(cursor)
        if place is None or place.stream != self._stream or not self._marks:
            return None
        if place.position > self._marks[-1][0]:
            return None
        at = bisect_right(self._marks, (place.position, self.head)) - 1
        if at < 0 or self._marks[at][1] < self._first:
            return None
        return self._marks[at][1]

    def read(self, start: int, stop: int) -> Sequence[Entry]:
        """Return the events from index `start`, kept, up to `stop`."""
        return self._entries[start - self._offset : stop - self._offset]

    def told_once(self, start: int, stop: int, since: int, until: int) -> Iterator[Entry]:
        """Yield from indexes `start` to `stop` what is for a reader of `since` to `until`.

        A row comes where its last revision stands, and a conversation that appeared where it did
        so, before its messages. What appeared behind `since` is told of as new, however it changed.
        """
        for entry in self.read(start, stop):
            appeared = entry.appeared if (entry.appeared or 0) >= since else None
            if entry.erased or entry.row is None or entry.is_deletion:
                appeared = None
            elif appeared is not None and entry.is_of_conversation:
                if entry.index == appeared:
                    newest = _newest(entry, until)
                    yield entry if newest is entry else newest.as_new(entry.cursor)
                continue
            newer = entry.newer
            if not entry.late and (newer is None or newer.index >= until or newer.erased):
                yield entry if appeared in (None, entry.index) else entry.as_new(entry.cursor)

    def _follow_row(self, entry: Entry) -> None:
        """Link what the log says of one row."""
        row = entry.row
        if row is None:
            return
        older = self._rows.get(row)
        if older is not None and entry.revision < older.revision:
            entry.late = True
            return
        self._rows[row] = entry
        if older is not None:
            older.newer = entry
            if not older.is_deletion:
                entry.appeared = older.appeared
        if entry.appeared is None and entry.tells_of_new:
            entry.appeared = entry.index

    def _supersede(self, subject: Subject, entry: Entry) -> None:
        if subject.conversation is None:
            return
        older = self._updates.get(subject.conversation)
        if older is not None and entry.revision < older.revision:
            return
        if older is not None:
            older.superseded = True
            del self._updates[subject.conversation]
        if subject.type == "conversation_update":
            self._updates[subject.conversation] = entry

    def _erase(self, deletion: Subject) -> None:
        for entry in self.read(self._first, self.head):
            subject = entry.subject
            if subject is not None and subject.conversation == deletion.conversation:
                if subject.type not in DELETIONS:
                    self._forget_row(entry)
                    entry.erase()

    def _trim(self) -> None:
        while self.head - self._first > self.max_entries or (
            self._bytes > self._max_bytes and self.head - self._first > 1
        ):
            self._drop(self._entries[self._first - self._offset])
        dead = self._first - self._offset
        if dead > 1024 and dead * 2 > len(self._entries):
            del self._entries[:dead]
            self._offset = self._first
            at = bisect_right(self._marks, self._first - 1, key=lambda mark: mark[1])
            del self._marks[:at]

    def _forget_row(self, entry: Entry) -> None:
        if entry.row is not None and self._rows.get(entry.row) is entry:
            del self._rows[entry.row]

    def _drop(self, entry: Entry) -> None:
        self._bytes -= entry.weight
        self._forget_row(entry)
        if not entry.is_change:
            self._skip_marks()
        subject = entry.subject
        if subject is not None and subject.conversation is not None:
            if self._updates.get(subject.conversation) is entry:
                del self._updates[subject.conversation]
        self._entries[self._first - self._offset] = _GONE  # its place goes later, with others
        self._first += 1

    def _skip_marks(self) -> None:
        """Move marks before the oldest entry behind it: nothing of the stream is lost with it."""
        at = bisect_left(self._marks, self._first, key=lambda mark: mark[1])
        while at < len(self._marks) and self._marks[at][1] == self._first:
            self._marks[at] = (self._marks[at][0], self._first + 1)
            at += 1


def _newest(entry: Entry, until: int) -> Entry:
    """Return the last before `until` that tells of the same row."""
    while entry.newer is not None and entry.newer.index < until:
        entry = entry.newer
    return entry
