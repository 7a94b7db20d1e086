"""From what a feed says to entries of the log: each with its subject and a cursor to go on from.

Each carries the cursor behind its change, as far as the feed tells it: see `ports.Page.placed`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from uuid import UUID

from conv_realtime.core.envelope import subject_of, subject_of_event
from conv_realtime.core.log import Entry, Log
from conv_realtime.core.selection import Subject
from conv_realtime.events import Event, FileUpdate, Resync, ResyncData
from conv_realtime.models import Change, Conversation, Message
from conv_realtime.ports import Page

_MAX_CONVERSATIONS = 100_000


class Intake:
    """Makes entries, and remembers whose and in which project conversations are."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._places: dict[UUID, tuple[UUID, UUID | None]] = {}  # owner and project

    def entries_of(self, page: Page) -> Iterator[Entry]:
        """Yield what a page says, in order; a gap of the stream comes first.

        Each has to be in the log before the next is asked for, which its place there follows from.
        """
        if page.resync:
            self._log.begin_anew()
            self._log.cursor = page.cursor
            yield self.entry_of(Resync(data=ResyncData(reason="source_gap", cursor=page.cursor)))
        for change, cursor in page.placed(self._log.cursor or page.cursor):
            project = self._project_of(change)
            yield Entry(subject_of(change, project), cursor, now_ms(), change=change)

    def finish(self, page: Page) -> None:
        """Mark the end of a page whose entries are in the log."""
        self._log.mark(page.cursor)

    def entry_of(self, event: Event) -> Entry:
        """Return the entry of a ready-made event."""
        subject = subject_of_event(event)
        if subject is not None and subject.conversation in self._places:
            owner, project = self._places[subject.conversation]
            subject = Subject(subject.type, owner, subject.conversation, project)
        return Entry(subject, self._log.cursor, now_ms(), event=event)

    def files_of(self, page: Page) -> Iterator[Entry]:
        """Yield what a page says of files."""
        for data in page.files:
            yield self.entry_of(FileUpdate(data=data))

    def _project_of(self, change: Change) -> UUID | None:
        row = change.row
        if isinstance(row, Conversation):
            known = self._places.get(row.id)
            project = row.project_id
            if row.deleted_at is not None and known is not None:
                project = known[1]  # what is forgotten says no more where it was
            self._places[row.id] = (row.owner_id, project)
            if len(self._places) > _MAX_CONVERSATIONS:
                del self._places[next(iter(self._places))]
            return project
        if isinstance(row, Message):
            known = self._places.get(row.conversation_id)
            return row.project_id or (known[1] if known is not None else None)
        return row.id


def now_ms() -> int:
    """Return the time of the older form's frames."""
    return time.time_ns() // 1_000_000
