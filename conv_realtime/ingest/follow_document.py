"""One file that is rewritten whole, followed: what changed with each of its states.

A state counts when it is whole; its parts are compared by their CRC.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any
from zlib import crc32

from conv_realtime.core import records
from conv_realtime.core.checkpoint import Checkpoint, FileStat
from conv_realtime.core.conversation_fold import Span
from conv_realtime.core.document import DocumentFormat, Export, StatedConversation
from conv_realtime.core.document_fold import Statement, thread_of
from conv_realtime.core.said import Said
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.edges import heap
from conv_realtime.edges.disk import OpenFile
from conv_realtime.ingest.blame import blaming
from conv_realtime.ingest.follow_statements import Common, StatementFollower
from conv_realtime.ingest.following import READ_BYTES
from conv_realtime.ingest.rows import RewrittenError
from conv_realtime.models import Skipped

MAX_BYTES = 256 * 2**20


class DocumentFollower(StatementFollower):
    """Follows one document."""

    def __init__(
        self,
        path: str,
        form: DocumentFormat,
        common: Common,
        sanitizer: Sanitizer,
        checkpoint: Checkpoint | None = None,
        *,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        super().__init__(path, form.source, common, sanitizer, checkpoint)
        self._form = form
        self._max_bytes = max_bytes
        self._crc: int | None = None

    def is_read(self, now: FileStat) -> bool:
        """Return whether nothing can have changed since it was read."""
        return self.stands_at(now)

    def stands_at(self, now: FileStat) -> bool:
        """Return whether the file is as it was when it was read."""
        return self._whole and self._seen == now

    def read(self, file: OpenFile, limit: int = READ_BYTES) -> bool:
        """Fold the state that the file is in, if it is whole and another; return False.

        Raises:
            SourceError: the file cannot be read.
        """
        now = file.stat()
        if now.size > self._max_bytes:
            reason = f"larger than {self._max_bytes} bytes (max_document_bytes)"
            self.skipped = [Skipped(self.path, reason)]
            self._seen = now
            return False
        data = file.read(0, now.size)
        crc = crc32(data)
        self._seen = now
        if crc != self._crc or not self._whole:
            self._whole = self._fold(data)
            self._crc = crc
        return False

    def survey(self, file: OpenFile) -> None:
        """Claim what the file states, without taking any of it: other files may state it better.

        Raises:
            SourceError: the file cannot be read.
        """
        size = file.stat().size
        if size > self._max_bytes:
            return
        with blaming(self.path):
            statements = self._statements(file.read(0, size)) or {}
        ids = {thread: self.rows.conversation_id(s.fold) for thread, s in statements.items()}
        memories = self._memories.recall(ids.values())
        for thread, id in ids.items():
            rank = statements[thread].rank
            self._claims.make(id, self.path, rank, memories.get(id), self)

    def unread_rest(self) -> Skipped | None:
        """Return that the file is not whole, where it is not."""
        return None if self._whole else Skipped(self.path, "incomplete JSON")

    def _fold(self, data: bytes) -> bool:
        with blaming(self.path), heap.growing():
            statements = self._statements(data)
        if statements is None:
            return False
        # Rows of what is stated no more stay; what was not sent is gone with it.
        self.transcript.drop(self.transcript.conversations.keys() - statements.keys())
        self._take_all(statements)
        return True

    def _statements(self, data: bytes) -> dict[str | None, Statement] | None:
        """Return what the file states, by thread; None where it is not whole."""
        skipped: list[Skipped] = []
        found: dict[str | None, Statement] = {}
        path = PurePath(self.path)
        try:
            parts = list(self._form.parts(data))
        except (ValueError, RecursionError):
            return None
        for start, end in parts:
            part = data[start:end]
            value = records.load(part)
            if value is None and not isinstance(self._form, Export):
                return None
            span = start, end, crc32(part), 0
            several = list(self._stated(value))
            if not several:
                skipped.append(Skipped(self.path, "no conversation", start))
            for stated in several:
                named = stated.session == path.stem
                statement = self.transcript.statement(stated, span, named=named)
                known = found.get(statement.fold.thread)
                if statement.fold.entries and (known is None or statement.rank >= known.rank):
                    found[statement.fold.thread] = statement
        self.skipped = skipped
        return found

    def _read_part(self, file: OpenFile, span: Span, thread: str) -> Sequence[Said | None]:
        """Return the messages of a conversation as they were folded.

        Raises:
            RewrittenError: it is another one by now.
        """
        start, end, crc, _ = span
        data = file.read(start, end - start)
        if crc32(data) != crc:
            self._whole = False
            raise RewrittenError(self.path)
        clean = self.transcript.id
        for stated in self._stated(records.load(data)):
            if thread_of(clean(stated.session), stated.agent and clean(stated.agent)) == thread:
                return stated.messages
        raise RewrittenError(self.path)

    def _stated(self, value: Any) -> Iterable[StatedConversation]:
        return self._form.conversations(value, PurePath(self.path))

    def finish(self, now: FileStat | None) -> None:
        """Note that everything in the file, as it is `now`, has been judged and acknowledged."""
        if now is None or now.size <= self._max_bytes:
            # A copy is judged at each start, to name what it is one of; an export is too large.
            copy = self.copy_of is not None and not isinstance(self._form, Export)
            super().finish(None if copy else now)
