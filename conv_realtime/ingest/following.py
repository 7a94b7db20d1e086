"""What following a file is, whatever its format: new bytes in, batches of rows out.

Everything here is synchronous and belongs to one caller at a time.
"""

from __future__ import annotations

import abc
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from uuid import UUID

from conv_realtime.core.checkpoint import Checkpoint, FileStat
from conv_realtime.core.conversation_fold import ConversationFold
from conv_realtime.core.transcript import Transcript
from conv_realtime.edges.disk import OpenFile
from conv_realtime.ingest.batches import Batch, Mark, Reader, make_batch
from conv_realtime.ingest.blame import blaming
from conv_realtime.ingest.rows import Identity, Rows
from conv_realtime.models import Conversation, Message, Skipped

READ_BYTES = 2**20
"""What is read in one go on a thread: caches hold too little of more (`bench parse`)."""


class Following(abc.ABC):
    """One file, followed, whatever its format.

    Attributes:
        path: where it lies.
        identity: whose rows it makes.
        checkpoint: what the database has acknowledged.
        transcript: what the file says.
        published, sent: the two readers.
        skipped: what of it made no record, in order of its place.
        lines: how many were read so far, some of them again.
    """

    path: str
    identity: Identity
    checkpoint: Checkpoint
    transcript: Transcript
    published: Reader
    sent: Reader
    skipped: list[Skipped]
    lines: int = 0

    @abc.abstractmethod
    def unread(self, now: FileStat) -> int:
        """Return about how many bytes a look at the file would read."""

    @abc.abstractmethod
    def read(self, file: OpenFile, limit: int = READ_BYTES) -> bool:
        """Fold more of the file; return whether there may be more.

        Raises:
            RewrittenError: the file does not begin with what was acknowledged.
            SourceError: the file cannot be read.
        """

    def read_all(self, file: OpenFile) -> None:
        """Fold what is left of the file.

        Raises:
            RewrittenError, SourceError: see `read`.
        """
        while self.read(file):
            pass

    @abc.abstractmethod
    def take_rest(self) -> None:
        """Count what counts only when the file is at rest."""

    @abc.abstractmethod
    def unread_rest(self) -> Skipped | None:
        """Return what was written in part and is not read, as something to tell the user."""

    @property
    @abc.abstractmethod
    def end(self) -> Mark:
        """Mark behind everything folded."""

    @property
    @abc.abstractmethod
    def rows(self) -> Rows:
        """What makes rows of the file, as it now stands."""

    @property
    @abc.abstractmethod
    def folded(self) -> bool:
        """Whether the file has been read."""

    @property
    def complete(self) -> bool:
        """Whether that was all of it; what an earlier run has judged may be left unread."""
        return True

    @property
    def doubtful(self) -> bool:
        """Whether the database is to be asked what it has, even if there is nothing to send."""
        return False

    def want(self, conversation: UUID | None = None) -> bool:
        """Have the next `read` take a conversation too, or all; return whether any was unread."""
        return False

    @property
    def stated(self) -> tuple[int, int]:
        """How many conversations and messages the file states."""
        folds = [fold for fold in self.transcript.conversations.values() if fold.entries]
        return len(folds), sum(len(fold.standing) for fold in folds)

    @abc.abstractmethod
    def stands_at(self, now: FileStat) -> bool:
        """Return whether the file as it is `now` is what was read."""

    def prepare(self, batch: Batch) -> None:  # noqa: B027 - most have nothing to do
        """Keep what has to be known of `batch` before it leaves: nothing, by default."""

    @abc.abstractmethod
    def acknowledge(self, batch: Batch) -> None:
        """Move the checkpoint: the database has `batch` and everything before it."""

    def unkept_rows(self) -> Sequence[Conversation]:
        """Return the conversations to be kept when the file is done: all that it states."""
        return [self.rows.conversation(fold) for _, fold in self.rows.conversations()]

    @abc.abstractmethod
    def send_again(self) -> None:
        """Begin to send at the start again, because the database lost what it had."""

    @abc.abstractmethod
    def tell_again(self) -> None:
        """Begin to tell the local feed at the start again."""

    # What is the same for all ------------------------------------------------------------------

    def waiting(self, reader: Reader) -> int:
        """Return how many records `reader` has not got."""
        log = self.transcript.log
        return len(log) - bisect_right(log, reader.position, key=attrgetter("end"))

    def has_news(self, reader: Reader) -> bool:
        """Return whether `reader` is behind what has been folded."""
        return reader.position < self.end[0]

    def next_batch(self, reader: Reader, file: OpenFile, count: int, size: int) -> Batch | None:
        """Return the next rows for `reader`, oldest first, or None when it has everything.

        At most `count` messages of about `size` bytes, and at least one line's.

        Raises:
            RewrittenError: the file no longer holds what was folded.
        """
        if not self.has_news(reader):
            return None
        with blaming(self.path):
            return make_batch(self.rows, reader, self.end, file, count, size)

    def advance(self, reader: Reader, batch: Batch) -> None:
        """Note that `reader` has taken `batch`."""
        reader.position = batch.mark[0]
        reader.totals.update(batch.ended)

    def finish(self, now: FileStat | None) -> None:
        """Note that everything in the file, as it is `now`, has been judged and acknowledged.

        Without `now` it has, but the next start judges it once more.
        """
        if self.folded and not self.has_news(self.sent):
            conversations, messages = self.stated
            self.checkpoint = replace(
                self.checkpoint,
                stat=now,
                end=max(self.checkpoint.end, self.end[0]),
                messages=messages,
                conversations=conversations,
            )

    def last_messages(self, fold: ConversationFold, file: OpenFile, count: int) -> list[Message]:
        """Return the last `count` messages of a conversation, by `seq`.

        Raises:
            RewrittenError: the file no longer holds what was folded.
        """
        if count <= 0:
            return []
        entries = sorted(fold.standing, key=lambda entry: entry.seq)
        rows = self.rows
        with blaming(self.path):
            return rows.messages(fold, rows.conversation(fold), entries[-count:], file)
