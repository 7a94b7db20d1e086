"""One transcript file, followed: what it says, and how far two readers have taken it.

The file is the queue. A `Follower` reads new bytes once, folds them into totals and places,
and hands out rows in batches: to the local feed at once, to the database as fast as it
acknowledges. It holds no contents: rows are built from the file's bytes when they are wanted,
and the bytes' CRC is compared, so a file rewritten in between is noticed.

Everything here is synchronous and belongs to one caller at a time.
"""

from __future__ import annotations

import abc
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import Enum
from pathlib import PurePath
from uuid import UUID

from conv_realtime.core.checkpoint import Checkpoint, FileStat
from conv_realtime.core.conversation_fold import ConversationFold
from conv_realtime.core.format import LogFormat
from conv_realtime.core.framing import Line, LineBuffer
from conv_realtime.core.records import TOO_LONG, Torn
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.core.transcript import LogTranscript, Transcript
from conv_realtime.edges.disk import OpenFile
from conv_realtime.errors import SourceError
from conv_realtime.ingest.batches import Batch, Mark, Reader, make_batch
from conv_realtime.ingest.blame import blaming
from conv_realtime.ingest.rows import Identity, LogRows, RewrittenError, Rows
from conv_realtime.models import Conversation, Message, Skipped

_GLANCE = 64  # bytes before the position that are compared when a file has grown
READ_BYTES = 2**20


class Verdict(Enum):
    """What became of a file since it was last read."""

    SAME = "same"
    GROWN = "grown"
    EMPTY = "empty"
    REWRITTEN = "rewritten"


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
        return len(log) - bisect_right(log, reader.position, key=lambda entry: entry.end)

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


class Follower(Following):
    """Follows one file that is appended to.

    Attributes:
        settled: whether base and part are known to fit what the database has.
        confirmed: whether the database was asked what it has beyond the checkpoint.
        earlier: messages that were stated before the file was rewritten: no news.
    """

    transcript: LogTranscript

    def __init__(
        self,
        path: str,
        form: LogFormat,
        identity: Identity,
        sanitizer: Sanitizer,
        checkpoint: Checkpoint | None = None,
        *,
        max_line_bytes: int = 64 * 2**20,
    ) -> None:
        self.path = path
        self.identity = identity
        self.settled = checkpoint is not None
        self.confirmed = False
        self.earlier: frozenset[UUID] = frozenset()
        self._form = form
        self._sanitizer = sanitizer
        self._max_line_bytes = max_line_bytes
        self.start_over(checkpoint or Checkpoint())

    def start_over(self, checkpoint: Checkpoint) -> None:
        """Forget what was read; the next `read` begins at the start of the file."""
        self.checkpoint = checkpoint
        self.transcript = self._form.transcript(PurePath(self.path), self._sanitizer)
        self.buffer = LineBuffer(max_line_bytes=self._max_line_bytes)
        self.skipped: list[Skipped] = []
        self.published = Reader.at(checkpoint.position)
        self.sent = Reader.at(checkpoint.position)
        self._seen: FileStat | None = None
        self._at_end = False
        self._glance = b""
        self._rest: tuple[tuple[int, int], int] | None = None  # mark before it, end of it

    def unread(self, now: FileStat) -> int:
        """Return how far the file has grown."""
        return now.size - self.buffer.end

    # Reading -------------------------------------------------------------------------------

    def judge(self, file: OpenFile, now: FileStat) -> Verdict:
        """Return what happened to the file, by its content wherever there is doubt."""
        seen = self._seen
        if now.size == 0:
            return Verdict.EMPTY
        if seen is None:  # what is packed tells no length: reading compares the checksum
            short = now.size < self.checkpoint.position and not file.packed
            return Verdict.REWRITTEN if short else Verdict.GROWN
        same_file = (now.device, now.inode) == (seen.device, seen.inode)
        if same_file and now.size == seen.size and now.mtime_ns == seen.mtime_ns:
            return Verdict.SAME
        if same_file and now.size > seen.size and self._glance_holds(file):
            return Verdict.GROWN
        return self.verify(file)

    def verify(self, file: OpenFile) -> Verdict:
        """Compare everything read so far with the file: GROWN where it still begins so."""
        if file.crc(self.buffer.position) != self.buffer.crc:
            return Verdict.REWRITTEN
        if not self._glance_holds(file):
            self.buffer.drop_rest()
            self._glance = b""
        return Verdict.GROWN

    def _glance_holds(self, file: OpenFile) -> bool:
        end = self.buffer.end
        return file.read(end - len(self._glance), len(self._glance)) == self._glance

    def read(self, file: OpenFile, limit: int = READ_BYTES) -> bool:
        """Fold at most `limit` more bytes; return whether there may be more.

        Raises:
            RewrittenError: the file does not begin with what was acknowledged.
            SourceError: the file cannot be read.
        """
        goal = self.checkpoint.position
        behind = self.buffer.end < goal
        wanted = min(limit, goal - self.buffer.end) if behind else limit
        now = file.stat()
        data = file.read(self.buffer.end, wanted)
        self._glance = (self._glance + data[-_GLANCE:])[-_GLANCE:]
        self._fold(self.buffer.push(data))
        if behind and (len(data) < wanted or self.buffer.end == goal):
            if self.buffer.crc_at_end != self.checkpoint.crc:
                self.start_over(self.checkpoint)  # nothing folded so far was known before
                raise RewrittenError(self.path)
        size = now.size if file.packed else self.buffer.end
        self._seen = FileStat(now.device, now.inode, size, now.mtime_ns)
        self._at_end = len(data) < wanted
        return not self._at_end

    def take_rest(self) -> None:
        """Count a last line without a newline, if it is whole; it stays unacknowledged."""
        rest = self.buffer.rest()
        if rest is None or not self.transcript.is_whole(rest.data or b""):
            return
        before = self.end
        self.buffer.take_rest()
        self._rest = (before, self.buffer.position)
        self._fold([rest])

    def unread_rest(self) -> Skipped | None:
        """Return the torn last line, if there is one, as something to tell the user."""
        if self.buffer.overlong:
            return Skipped(self.path, TOO_LONG, self.buffer.position)
        rest = self.buffer.rest()
        return Skipped(self.path, "incomplete last line", rest.start) if rest else None

    def _fold(self, lines: Iterable[Line]) -> None:
        transcript = self.transcript
        try:
            with blaming(self.path):
                for line in lines:
                    self.lines += 1
                    for found in transcript.split(line):
                        if isinstance(found, Torn):
                            self.skipped.append(Skipped(self.path, found.reason, found.start))
                        else:
                            transcript.add(found)
                            transcript.keep_secrets()
        except SourceError:
            self.start_over(self.checkpoint)  # what was folded of the record is unknown
            raise

    # Batches -------------------------------------------------------------------------------

    @property
    def end(self) -> Mark:
        """Mark behind everything folded."""
        return self.buffer.position, self.buffer.crc

    def next_batch(self, reader: Reader, file: OpenFile, count: int, size: int) -> Batch | None:
        """Return the next rows for `reader`: see `Following.next_batch`."""
        batch = super().next_batch(reader, file, count, size)
        if batch is None or not self.earlier:
            return batch
        return replace(batch, created=batch.created - self.earlier)

    def acknowledge(self, batch: Batch) -> None:
        """Move the checkpoint: the database has `batch` and everything before it."""
        self.advance(self.sent, batch)
        mark = batch.mark
        if self._rest is not None and mark[0] == self._rest[1]:
            mark = self._rest[0]
        self.checkpoint = replace(self.checkpoint.acknowledged(mark), stat=None)

    def settle(self, base: int, part: int, foreign: int) -> None:
        """Fix what revisions and ids count from, by what the database has.

        Readers of the local feed see everything again, under the right revisions.
        """
        self.settled = True
        if (base, part) != (self.checkpoint.base, self.checkpoint.part):
            self.published = Reader()
        self.checkpoint = replace(self.checkpoint, base=base, part=part, foreign=foreign)

    def stands_at(self, now: FileStat) -> bool:
        """Return whether the file has the length that it had when all of it was read."""
        return self._seen is not None and self._at_end and now.size == self._seen.size

    @property
    def folded(self) -> bool:
        """Whether the file has been read."""
        return self._seen is not None

    @property
    def doubtful(self) -> bool:
        """Whether somebody wrote to the file since it was judged, though it is what it was.

        The checkpoint may be a backup's, from before the file grew, and was cut again.
        """
        seen, judged = self._seen, self.checkpoint.stat
        if seen is None or not self.settled or self.confirmed:
            return False
        return judged is None or (seen.size, seen.mtime_ns) != (judged.size, judged.mtime_ns)

    def send_again(self) -> None:
        """Begin to send at the start of the file again: the database lost what it had."""
        self.sent = Reader()

    def tell_again(self) -> None:
        """Begin to tell at the start of the file again."""
        self.published = Reader()

    # Rows ----------------------------------------------------------------------------------

    @property
    def rows(self) -> LogRows:
        """What makes rows of the file, as the checkpoint now stands."""
        return LogRows(self.identity, self.transcript, self.checkpoint.base, self.checkpoint.part)
