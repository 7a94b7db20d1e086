"""A database that another program writes, followed: sessions that changed are read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

from conv_realtime.core.checkpoint import FileStat
from conv_realtime.core.conversation_fold import Span
from conv_realtime.core.document import DatabaseFormat, StatedConversation
from conv_realtime.core.document_fold import Statement
from conv_realtime.core.said import Said
from conv_realtime.edges import sqlite
from conv_realtime.edges.disk import OpenFile
from conv_realtime.ingest.blame import blaming
from conv_realtime.ingest.follow import READ_BYTES
from conv_realtime.ingest.follow_document import DocumentFollower
from conv_realtime.ingest.rows import RewrittenError

_Mark = tuple[Any, ...]


class DatabaseFollower(DocumentFollower):
    """Follows the sessions of a database.

    What says whether it changed is in it, and not in the file's time: a writer's changes lie in a
    log beside it for long.
    """

    _form: DatabaseFormat
    keeps_open = False  # closing a file would end what SQLite has locked of it

    _marks: Mapping[str, _Mark] = {}
    _sessions: Mapping[str | None, str] = {}

    def is_read(self, now: FileStat) -> bool:
        """Return False: only the database knows."""
        return False

    def stands_at(self, now: FileStat) -> bool:
        """Return whether it has been read."""
        return self._whole and self._seen is not None

    def finish(self, now: FileStat | None) -> None:
        """Note what it states; the next start asks it again what changed."""
        super().finish(None)

    def read(self, file: OpenFile, limit: int = READ_BYTES) -> bool:
        """Fold the sessions that changed since it was read last; return False.

        Raises:
            SourceError: it cannot be read.
        """
        with blaming(self.path):
            marks, statements, sessions = sqlite.read(self.path, self._changed)
        self._seen, self._whole = file.stat(), True
        self._sessions = {**self._sessions, **sessions}
        self._take_all(statements)
        gone = {thread for thread, id in self._sessions.items() if id not in marks}
        for thread in gone:
            self.transcript.drop(thread)
        self._sessions = {t: id for t, id in self._sessions.items() if t not in gone}
        self._marks = marks
        return False

    def survey(self, file: OpenFile) -> None:
        """Claim nothing: a database is read where it is written."""

    def _changed(
        self, snapshot: sqlite.Snapshot
    ) -> tuple[dict[str, _Mark], dict[str | None, Statement], dict[str | None, str]]:
        marks = {str(id): tuple(mark) for id, *mark in snapshot.tuples(self._form.changes)}
        statements: dict[str | None, Statement] = {}
        sessions: dict[str | None, str] = {}
        for id, mark in marks.items():
            if self._whole and self._marks.get(id) == mark:
                continue
            stated, size = self._state(snapshot, id)
            if stated is None:
                continue
            span = 0, size, crc32(repr(mark).encode())
            statement = self.transcript.statement(stated, span, named=True)
            if statement.fold.entries:
                statements[statement.fold.thread] = statement
                sessions[statement.fold.thread] = id
        return marks, statements, sessions

    def _state(self, snapshot: sqlite.Snapshot, id: str) -> tuple[StatedConversation | None, int]:
        """Return what is stated of a session, and about how many bytes that is."""
        rows = {name: snapshot.rows(query, id) for name, query in self._form.queries.items()}
        texts = (v for some in rows.values() for row in some for v in row.values())
        return self._form.conversation(rows), sum(len(v) for v in texts if isinstance(v, str))

    def _read_part(self, file: OpenFile, span: Span, thread: str) -> Sequence[Said | None]:
        id = self._sessions[thread]
        stated, _ = sqlite.read(self.path, lambda snapshot: self._state(snapshot, id))
        fold = self.transcript.conversations[thread]
        if stated is not None:
            now = self.transcript.statement(stated, span, named=True).fold
            same = {one.native: one.digest for one in now.standing}
            if same == {one.native: one.digest for one in fold.standing}:
                return stated.messages
        self._whole = False
        raise RewrittenError(self.path)
