"""A file that states its conversations whole, followed, whatever it is read by.

What it says is folded and forgotten; when rows are wanted, the part of it that holds them is read
again, and compared: where another state has come meanwhile, that one is folded first.

What was sent is remembered across restarts, conversation by conversation, and the memory is kept
before the first row that it speaks of leaves. Without it, the database is asked for its revisions.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from conv_realtime.core.checkpoint import Checkpoint, FileStat
from conv_realtime.core.conversation_fold import Span
from conv_realtime.core.document_fold import FIRST_TICK, DocumentTranscript, Statement
from conv_realtime.core.memory import Memory, Rank
from conv_realtime.core.said import Said
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.edges.disk import OpenFile
from conv_realtime.ingest.batches import Batch, Mark, Reader
from conv_realtime.ingest.claims import Claims
from conv_realtime.ingest.document_rows import DocumentRows, Parses
from conv_realtime.ingest.following import Following
from conv_realtime.ingest.memories import Memories
from conv_realtime.ingest.rows import Identity
from conv_realtime.models import Conversation, message_id
from conv_realtime.ports import KnownConversation


@dataclass(frozen=True, slots=True)
class Common:
    """What those who follow the files of one ingest have in common."""

    identity: Identity
    memories: Memories
    claims: Claims = field(default_factory=Claims)
    parses: Parses = field(default_factory=Parses)


class StatementFollower(Following):
    """Follows what a file states.

    Attributes:
        copy_of: the file that states what this one does, where it states nothing else.
        taken_from: files whose conversations this one states from now on.
        keeps_open: whether a file that vanishes is still read while it is open.
    """

    transcript: DocumentTranscript
    keeps_open = True

    def __init__(
        self,
        path: str,
        source: str,
        common: Common,
        sanitizer: Sanitizer,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.path = path
        self.identity = common.identity
        self.checkpoint = checkpoint or Checkpoint()
        self.transcript = DocumentTranscript(source, sanitizer)
        self.skipped = []
        self.published, self.sent = Reader(), Reader()
        self.copy_of: str | None = None
        self.taken_from: set[str] = set()
        self._memories = common.memories
        self._claims = common.claims
        self._parses = common.parses
        self._seen: FileStat | None = None
        self._whole = True  # the file, as far as is known, is a state that was folded
        self._ranks: dict[str | None, Rank] = {}
        self._ids: dict[str | None, UUID] = {}
        self._threads: dict[UUID, str | None] = {}
        self._asked: set[str | None] = set()
        self._unkept: set[str | None] = set()
        self._unsent: set[str | None] = set()
        self._asked_to = self._asking_to = FIRST_TICK

    @abc.abstractmethod
    def is_read(self, now: FileStat) -> bool:
        """Return whether nothing can have changed since it was read."""

    @abc.abstractmethod
    def survey(self, file: OpenFile) -> None:
        """Claim what the file states, without taking any of it: other files may state it better.

        Raises:
            SourceError: the file cannot be read.
        """

    @abc.abstractmethod
    def _read_part(self, file: OpenFile, span: Span, thread: str) -> Sequence[Said | None]:
        """Return the messages of a conversation as they were folded.

        Raises:
            RewrittenError: it is another one by now.
        """

    # What is stated ----------------------------------------------------------------------------

    def unread(self, now: FileStat) -> int:
        """Return how many bytes a look reads: all of them."""
        return now.size

    def take_rest(self) -> None:
        """Count nothing more: a state that is not whole is none."""

    def _take_all(self, statements: Mapping[str | None, Statement]) -> None:
        """Take the states of conversations, but of those that another file states better."""
        transcript = self.transcript
        ids = {thread: self.rows.conversation_id(s.fold) for thread, s in statements.items()}
        self._ids.update(ids)
        self._threads.update({id: thread for thread, id in ids.items()})
        new = [id for thread, id in ids.items() if thread not in transcript.conversations]
        memories = self._memories.recall(new)
        held: dict[str | None, str] = {}
        for thread, statement in statements.items():
            holder = self._take(statement, memories.get(ids[thread]))
            if holder is not None:
                held[thread] = holder
        transcript.drop(held)
        transcript.compact()
        self.copy_of = next(iter(held.values()), None) if not transcript.conversations else None

    def _take(self, statement: Statement, memory: Memory | None) -> str | None:
        """Take a conversation's state; return the path that states it better, if one does."""
        thread, rank = statement.fold.thread, statement.rank
        id = self._ids[thread]
        claim = self._claims.make(id, self.path, rank, memory, self)
        if claim is not None and not claim.yields_to(self.path, rank):
            return claim.path
        if claim is not None and claim.path != self.path:
            former = claim.follower() if claim.follower else None
            if former is not None and former is not self:
                self.taken_from.add(claim.path)
                memory = former.memory(thread) or memory
        if memory is not None and memory.unsent:
            self._unsent.add(thread)
        if self.transcript.take(statement, memory):
            self._unkept.add(thread)
            self._unsent.add(thread)
        self._ranks[thread] = rank
        return None

    def memory(self, thread: str | None) -> Memory | None:
        """Return what there is to remember of a conversation, None where it is not stated here."""
        if thread not in self.transcript.conversations:
            return None
        return self.transcript.memory(thread, self.path, self._ranks[thread])

    # Batches -----------------------------------------------------------------------------------

    @property
    def end(self) -> Mark:
        """Mark behind everything folded."""
        return self.transcript.tick, 0

    def has_news(self, reader: Reader) -> bool:
        """Return whether `reader` is behind what has been folded and can be read."""
        return self._whole and super().has_news(reader)

    @property
    def folded(self) -> bool:
        """Whether the file has been read."""
        return self._seen is not None

    @property
    def rows(self) -> DocumentRows:
        """What makes rows of the file, as it was read last."""
        return DocumentRows(self.identity, self.transcript, 0, 0, self._read_again)

    def _read_again(self, file: OpenFile, span: Span, thread: str) -> Sequence[Said | None]:
        key = self.path, span, thread
        return self._parses.get(key, lambda: self._read_part(file, span, thread))

    def prepare(self, batch: Batch) -> None:
        """Keep what the batch is about to say, so that the next process knows of it."""
        leaving = {row.id for row in (*batch.stubs, *batch.totals)}
        leaving.update(row.conversation_id for row in batch.messages)
        leaving.update(one.conversation_id for one in batch.gone)
        memories: dict[UUID, Memory] = {}
        for id in leaving & self._threads.keys():
            thread = self._threads[id]
            if thread in self._unkept and (memory := self.memory(thread)):
                memories[id] = memory
                self._unkept.discard(thread)
        if memories:
            self._memories.keep(memories)

    def acknowledge(self, batch: Batch) -> None:
        """Note that the database has `batch` and everything before it."""
        self.advance(self.sent, batch)
        folds = self.transcript.conversations
        done = {
            thread
            for thread in batch.ended.keys() & self._unsent
            if thread in folds and folds[thread].end <= self.sent.position
        }
        self._unsent -= done
        self._memories.sent([self._ids[thread] for thread in done])
        if not self.has_news(self.sent):
            self._parses.drop(self.path)
        self.checkpoint = replace(self.checkpoint, stat=None)

    def unkept_rows(self) -> Sequence[Conversation]:
        """Return none: each was kept with its totals, and there may be thousands."""
        return ()

    def finish(self, now: FileStat | None) -> None:
        """Note that everything in the file, as it is `now`, has been judged and acknowledged."""
        if self._whole:
            super().finish(now)

    def send_again(self) -> None:
        """Begin to send with everything that the file states."""
        self.sent = Reader.at(FIRST_TICK)
        self._asked_to = FIRST_TICK

    def tell_again(self) -> None:
        """Begin to tell with everything that the file states."""
        self.published = Reader.at(FIRST_TICK)

    # What the database has ---------------------------------------------------------------------

    def unknown(self) -> dict[str | None, UUID]:
        """Return the conversations to be sent that the database was not asked about yet.

        Also those that are remembered: the memory may come from a backup.
        """
        # Each state of the file is gone through once, however many batches it is sent in.
        start, self._asking_to = max(self.sent.position, self._asked_to), self.transcript.tick
        found = {
            fold.thread: self._ids[fold.thread]
            for fold in self.transcript.ended(start, self._asking_to)
            if fold.thread not in self._asked
        }
        if not found:
            self._asked_to = self._asking_to
        return found

    def adopt(
        self, asked: Mapping[str | None, UUID], known: Mapping[UUID, KnownConversation]
    ) -> None:
        """Take the revisions that the database has of conversations that it was asked for."""
        above, self._asked_to = False, self._asking_to
        for thread, id in asked.items():
            self._asked.add(thread)
            fold, row = self.transcript.conversations.get(thread), known.get(id)
            if fold is None or row is None:
                continue
            stored = {**row.live, **row.deleted}
            revisions = {
                native: stored[one]
                for native in fold.entries
                if (one := message_id(id, native)) in stored
            }
            if self.transcript.adopt(thread, row.revision, revisions):
                self._unkept.add(thread)
                above = True
        if above:
            self.tell_again()
