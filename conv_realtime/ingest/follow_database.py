"""A database that another program writes, followed: sessions that changed are read again.

Which did, the database tells: each session has a mark. Marks are kept across restarts, with what
was sent, so that a start reads only what changed meanwhile. What is left unread that way is read
when somebody asks for it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID
from zlib import crc32

from conv_realtime.core.checkpoint import Checkpoint, FileStat
from conv_realtime.core.conversation_fold import Span
from conv_realtime.core.document import DatabaseFormat, Layout, StatedConversation
from conv_realtime.core.document_fold import Statement
from conv_realtime.core.memory import Judged
from conv_realtime.core.said import Said
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.edges import sqlite
from conv_realtime.edges.disk import OpenFile
from conv_realtime.ingest.blame import blaming
from conv_realtime.ingest.follow_statements import Common, StatementFollower
from conv_realtime.ingest.following import READ_BYTES
from conv_realtime.ingest.rows import RewrittenError
from conv_realtime.models import Skipped

_Mark = tuple[Any, ...]

# A session that was written just now may change once more within the same millisecond, and have the
# same mark: it is read again when that is over.
_DOUBT_MS = 1_000


@dataclass(slots=True)
class _Found:
    """One state of a database: layouts, marks, and rows that cannot be read, by session."""

    layouts: dict[str, Layout] = field(default_factory=dict)
    marks: dict[str, _Mark] = field(default_factory=dict)
    statements: dict[str | None, Statement] = field(default_factory=dict)
    sessions: dict[str | None, str] = field(default_factory=dict)
    odd: dict[str, Skipped] = field(default_factory=dict)


class DatabaseFollower(StatementFollower):
    """Follows the sessions of a database.

    What says whether it changed is in it, and not in the file's time: a writer's changes lie in a
    log beside it for long.
    """

    keeps_open = False  # closing a file would end what SQLite has locked of it

    def __init__(
        self,
        path: str,
        form: DatabaseFormat,
        common: Common,
        sanitizer: Sanitizer,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        super().__init__(path, form.source, common, sanitizer, checkpoint)
        self._form = form
        self._layouts: Mapping[str, Layout] = {}
        self._marks: Mapping[str, _Mark] = {}
        self._sessions: Mapping[str | None, str] = {}
        self._unread: dict[str, Judged] | None = None  # by session; None before it is known
        self._wanted: frozenset[str] = frozenset()  # to be read, whatever their marks say
        self._doubted: Mapping[str, int] = {}  # to be read again, and from when on
        self._unkept_marks: frozenset[str] = frozenset()
        self._odd: Mapping[str, Skipped] = {}

    def is_read(self, now: FileStat) -> bool:
        """Return False: only the database knows."""
        return False

    def stands_at(self, now: FileStat) -> bool:
        """Return whether it has been read."""
        return self._whole and self._seen is not None

    def read(self, file: OpenFile, limit: int = READ_BYTES) -> bool:
        """Fold the sessions that changed since they were read last; return False.

        Raises:
            SourceError: it cannot be read.
        """
        if self._unread is None:
            kept = self._memories.judged(self.path)
            self._unread = {str(one.mark[0]): one for one in kept}
            self._marks = {id: one.mark[1:] for id, one in self._unread.items()}
        now = time.time_ns() // 10**6
        wanted = self._wanted | {id for id, at in self._doubted.items() if at <= now}
        with blaming(self.path):
            found = sqlite.read(self.path, lambda snapshot: self._changed(snapshot, wanted))
        marks, sessions, self._layouts = found.marks, found.sessions, found.layouts
        self._seen, self._whole = file.stat(), True
        changed = {id for id, mark in marks.items() if self._marks.get(id) is not mark}
        fresh = {id for id in changed if _is_fresh(marks[id], now)}
        self._sessions = {**self._sessions, **sessions}
        self._take_all(found.statements)
        self.transcript.drop(thread for thread, id in self._sessions.items() if id not in marks)
        self._sessions = {t: id for t, id in self._sessions.items() if id in marks}
        self._marks, self._wanted = marks, frozenset()
        self._doubted = {
            **{id: at for id, at in self._doubted.items() if id not in wanted and id in marks},
            **dict.fromkeys(fresh, now + _DOUBT_MS),
        }
        read = changed | wanted
        still = {id: one for id, one in self._odd.items() if id in marks and id not in read}
        self._odd = {**still, **found.odd}
        self.skipped = list(self._odd.values())
        self._unkept_marks |= read
        left = marks.keys() - read
        self._unread = {id: one for id, one in self._unread.items() if id in left}
        if self._unread:
            self.copy_of = None
        return False

    def unread_rest(self) -> Skipped | None:
        """Return None: of a row nothing is written in part."""

    def survey(self, file: OpenFile) -> None:
        """Claim nothing: a database is read where it is written."""

    def _changed(self, snapshot: sqlite.Snapshot, wanted: Collection[str]) -> _Found:
        """Return the marks of all sessions, and what those state that have to be read."""
        found, now = _Found(), dict[str, _Mark]()
        for layout in _present(self._form, snapshot):
            rows = snapshot.tuples(layout.changes, self._seen is None)
            marks = {str(id): tuple(mark) for id, *mark in rows}
            now |= marks
            found.layouts |= dict.fromkeys(marks, layout)
        for id, mark in now.items():
            known = self._marks.get(id)
            same = known is not None and _is_same(known, mark)
            found.marks[id] = known if same and known is not None else mark
            if same and id not in wanted:
                continue
            stated, size = _state(snapshot, found.layouts[id], id)
            if stated is None:
                continue
            if stated.unreadable:
                where = self.transcript.id(id)
                reason = f"rows of session {where} that cannot be read: {stated.unreadable}"
                found.odd[id] = Skipped(self.path, reason)
            span = 0, size, crc32(repr(mark).encode()), 0
            statement = self.transcript.statement(stated, span, named=True)
            if statement.fold.entries:
                found.statements[statement.fold.thread] = statement
                found.sessions[statement.fold.thread] = id
        return found

    def _read_part(self, file: OpenFile, span: Span, thread: str) -> Sequence[Said | None]:
        id = self._sessions[thread]
        layout = self._layouts[id]
        stated, _ = sqlite.read(self.path, lambda snapshot: _state(snapshot, layout, id))
        fold = self.transcript.conversations[thread]
        if stated is not None:
            now = self.transcript.statement(stated, span, named=True).fold
            same = {one.native: one.digest for one in now.standing}
            if same == {one.native: one.digest for one in fold.standing}:
                return stated.messages
        self._whole, self._wanted = False, self._wanted | {id}
        raise RewrittenError(self.path)

    # What an earlier run has judged ------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Whether all sessions were read in this run."""
        return not self._unread

    def want(self, conversation: UUID | None = None) -> bool:
        """Have the next `read` take a conversation too, or all; return whether any was unread."""
        if self._unread is None:
            if conversation is None:
                self._unread = {}
            return False
        wanted = _sessions_of(self._unread, conversation)
        self._wanted |= wanted
        return bool(wanted)

    def send_again(self) -> None:
        """Begin to send with everything that the database states; what is unread is read before."""
        super().send_again()
        if self.want():
            self._whole = False

    @property
    def stated(self) -> tuple[int, int]:
        """How many conversations and messages it states, read or not."""
        conversations, messages = super().stated
        unread = (self._unread or {}).values()
        return conversations + len(unread), messages + sum(one.messages for one in unread)

    def finish(self, now: FileStat | None) -> None:
        """Note what it states, and which sessions the next start need not read."""
        super().finish(None)
        folds = self.transcript.conversations
        judged = [
            Judged(self._ids[thread], (id, *self._marks[id]), len(folds[thread].standing))
            for thread, id in self._sessions.items()
            if id in self._unkept_marks
            and not (id in self._doubted or thread in self._unsent or thread not in folds)
        ]
        self._memories.judge(self.path, judged)
        self._unkept_marks -= {one.mark[0] for one in judged}


def _present(form: DatabaseFormat, snapshot: sqlite.Snapshot) -> Sequence[Layout]:
    """Return the layouts that a database has; one that has none fails over the first."""
    rows = snapshot.tuples("select name from sqlite_master where type = 'table'")
    tables = {name for (name,) in rows}
    return [one for one in form.layouts if one.tables <= tables] or form.layouts[:1]


def _state(
    snapshot: sqlite.Snapshot, layout: Layout, id: str
) -> tuple[StatedConversation | None, int]:
    """Return what is stated of a session, and about how many bytes that is."""
    rows = {name: snapshot.rows(query, id) for name, query in layout.queries.items()}
    texts = (v for some in rows.values() for row in some for v in row.values())
    return layout.conversation(rows), sum(len(v) for v in texts if isinstance(v, str))


def _is_fresh(mark: _Mark, now: int) -> bool:
    return any(isinstance(one, int) and abs(now - one) < _DOUBT_MS for one in mark)


def _is_same(known: _Mark, now: _Mark) -> bool:
    """Return whether a mark is still the same; None was not looked at."""
    return len(known) == len(now) and all(
        new is None or new == old for old, new in zip(known, now, strict=True)
    )


def _sessions_of(unread: Mapping[str, Judged], conversation: UUID | None) -> frozenset[str]:
    return frozenset(id for id, one in unread.items() if conversation in (None, one.id))
