"""One transcript file, followed: what it says, and how far two readers have taken it.

The file is the queue. A `Follower` reads new bytes once, folds them into totals and places,
and hands out rows in batches: to the local feed at once, to the database as fast as it
acknowledges. It holds no contents: rows are built from the file's bytes when they are wanted,
and the bytes' CRC is compared, so a file rewritten in between is noticed.

Everything here is synchronous and belongs to one caller at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from enum import Enum
from pathlib import PurePath
from uuid import UUID

from conv_realtime.core.checkpoint import Checkpoint, FileStat
from conv_realtime.core.format import LogFormat
from conv_realtime.core.framing import Line, LineBuffer
from conv_realtime.core.records import TOO_LONG, Torn
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.core.transcript import LogTranscript
from conv_realtime.edges.disk import OpenFile
from conv_realtime.errors import SourceError
from conv_realtime.ingest.batches import Batch, Mark, Reader
from conv_realtime.ingest.blame import blaming
from conv_realtime.ingest.following import READ_BYTES, Following
from conv_realtime.ingest.rows import Identity, LogRows, RewrittenError
from conv_realtime.models import Skipped

_GLANCE = 64  # bytes before the position that are compared when a file has grown


class Verdict(Enum):
    """What became of a file since it was last read."""

    SAME = "same"
    GROWN = "grown"
    EMPTY = "empty"
    REWRITTEN = "rewritten"


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
        transcript, sanitizer = self.transcript, self._sanitizer
        try:
            with blaming(self.path):
                for line in lines:
                    self.lines += 1
                    for found in transcript.split(line):
                        if isinstance(found, Torn):
                            self.skipped.append(Skipped(self.path, found.reason, found.start))
                        else:
                            transcript.add(found)
                            if sanitizer.found:
                                transcript.keep_secrets()
        except SourceError:
            self.start_over(self.checkpoint)  # what was folded of the record is unknown
            raise

    # Batches -------------------------------------------------------------------------------

    @property
    def end(self) -> Mark:
        """Mark behind everything folded."""
        return self.buffer.position, self.buffer.crc

    @property
    def newest(self) -> datetime | None:
        """The time of the newest record."""
        folds = list(self.transcript.conversations.values())  # a thread may read on
        return max((fold.last_time for fold in folds if fold.last_time is not None), default=None)

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
