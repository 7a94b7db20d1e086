"""One transcript file, followed: what it says, and how far two readers have taken it.

The file is the queue. A `Follower` reads new bytes once, folds them into totals and places,
and hands out rows in batches: to the local feed at once, to the database as fast as it
acknowledges. It holds no contents: rows are built from the file's bytes when they are wanted,
and the bytes' CRC is compared, so a file rewritten in between is noticed.

Everything here is synchronous and belongs to one caller at a time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID
from zlib import crc32

from conv_realtime.core.checkpoint import Checkpoint, FileStat
from conv_realtime.core.conversation_fold import ConversationFold, Entry
from conv_realtime.core.formats.claude_code import ClaudeTranscript
from conv_realtime.core.framing import Line, LineBuffer
from conv_realtime.core.records import Torn, load, read_records
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.edges.disk import OpenFile
from conv_realtime.models import (
    Conversation,
    ConversationSummary,
    Message,
    Project,
    Skipped,
    conversation_id,
    message_id,
    project_id,
)

_GLANCE = 64  # bytes before the position that are compared when a file has grown
READ_BYTES = 2**20


class Verdict(Enum):
    """What became of a file since it was last read."""

    SAME = "same"
    GROWN = "grown"
    EMPTY = "empty"
    REWRITTEN = "rewritten"


class RewrittenError(Exception):
    """Bytes that were read before are not there any more."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose rows these are, and which machine's."""

    owner_id: UUID
    machine: str


@dataclass(slots=True)
class Reader:
    """How far one consumer of the file has got, and which totals it has seen."""

    position: int = 0
    start: int = 0
    totals: dict[str | None, int] = field(default_factory=dict)

    @classmethod
    def at(cls, position: int) -> Reader:
        """Return a reader that has everything before `position`."""
        return cls(position, position)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows to take next, in the order of the fields; `mark` is acknowledged with the last.

    `stubs` are conversations that begin here, at revision 0, so that messages have something
    to hang under; `totals` are the conversations as they stand behind the batch.
    """

    projects: Sequence[Project]
    stubs: Sequence[Conversation]
    messages: Sequence[Message]
    totals: Sequence[Conversation]
    created: frozenset[UUID]
    mark: tuple[int, int]
    newest: datetime | None


class Follower:
    """Follows one file.

    Attributes:
        checkpoint: what the database has acknowledged.
        settled: whether base and part are known to fit what the database has.
        confirmed: whether the database was asked what it has beyond the checkpoint.
        published, sent: the two readers.
        earlier: messages that were stated before the file was rewritten: no news.
        skipped: lines that made no record, in order of their place.
    """

    def __init__(
        self,
        path: str,
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
        self._sanitizer = sanitizer
        self._max_line_bytes = max_line_bytes
        self.start_over(checkpoint or Checkpoint())

    def start_over(self, checkpoint: Checkpoint) -> None:
        """Forget what was read; the next `read` begins at the start of the file."""
        self.checkpoint = checkpoint
        self.transcript = ClaudeTranscript(PurePath(self.path), self._sanitizer)
        self.buffer = LineBuffer(max_line_bytes=self._max_line_bytes)
        self.skipped: list[Skipped] = []
        self.published = Reader.at(checkpoint.position)
        self.sent = Reader.at(checkpoint.position)
        self._seen: FileStat | None = None
        self._glance = b""
        self._rest: tuple[tuple[int, int], int] | None = None  # mark before it, end of it

    # Reading -------------------------------------------------------------------------------

    def judge(self, file: OpenFile, now: FileStat) -> Verdict:
        """Return what happened to the file, by its content wherever there is doubt."""
        seen = self._seen
        if now.size == 0:
            return Verdict.EMPTY
        if seen is None:
            return Verdict.REWRITTEN if now.size < self.checkpoint.position else Verdict.GROWN
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
        self._glance = (self._glance + data)[-_GLANCE:]
        for line in self.buffer.push(data):
            self._fold(line)
        if behind and (len(data) < wanted or self.buffer.end == goal):
            if self.buffer.crc_at_end != self.checkpoint.crc:
                self.start_over(self.checkpoint)  # nothing folded so far was known before
                raise RewrittenError(self.path)
        self._seen = FileStat(now.device, now.inode, self.buffer.end, now.mtime_ns)
        return len(data) == wanted

    def take_rest(self) -> None:
        """Count a last line without a newline, if it is whole; it stays unacknowledged."""
        rest = self.buffer.rest()
        if rest is None or not isinstance(load(rest.data or b""), dict):
            return
        before = self.end
        self.buffer.take_rest()
        self._rest = (before, self.buffer.position)
        self._fold(rest)

    def unread_rest(self) -> Skipped | None:
        """Return the torn last line, if there is one, as something to tell the user."""
        rest = self.buffer.rest()
        return Skipped(self.path, "incomplete last line", rest.start) if rest else None

    def _fold(self, line: Line) -> None:
        for found in read_records(line):
            if isinstance(found, Torn):
                self.skipped.append(Skipped(self.path, found.reason, found.start))
            else:
                self.transcript.add(found)

    # Rows ----------------------------------------------------------------------------------

    @property
    def end(self) -> tuple[int, int]:
        """Mark behind everything folded."""
        return self.buffer.position, self.buffer.crc

    def waiting(self, reader: Reader) -> int:
        """Return how many records `reader` has not got."""
        log = self.transcript.log
        return len(log) - bisect_right(log, reader.position, key=lambda entry: entry.end)

    def has_news(self, reader: Reader) -> bool:
        """Return whether `reader` is behind what has been folded."""
        return reader.position < self.buffer.position

    def next_batch(self, reader: Reader, file: OpenFile, rows: int, size: int) -> Batch | None:
        """Return the next rows for `reader`, oldest first, or None when it has everything.

        At most `rows` messages of about `size` bytes, and at least one line's.

        Raises:
            RewrittenError: the file no longer holds what was folded.
        """
        if not self.has_news(reader):
            return None
        chosen, mark = self._choose(reader, rows, size)
        folds = self.transcript.conversations
        ended = [
            fold
            for fold in folds.values()
            if fold.entries and reader.totals.get(fold.agent, reader.start) < fold.end <= mark[0]
        ]
        begun = [fold for fold in folds.values() if self._begins(fold, reader, mark)]
        shown = {agent: self._summary(folds[agent]) for agent, _ in chosen}
        messages = [self._message(shown[agent], entry, file) for agent, entry in chosen]
        involved = {fold.agent: fold for fold in (*begun, *ended)}.values()
        return Batch(
            projects=list({row.id: row for row in map(self._project, involved)}.values()),
            stubs=sorted((self.conversation(fold, 0) for fold in begun), key=_id),
            messages=sorted(messages, key=_id),
            totals=sorted((self.conversation(fold) for fold in ended), key=_id),
            created=self._created(begun, messages, reader),
            mark=mark,
            newest=max((f.last_time for f in involved if f.last_time), default=None),
        )

    def _created(
        self, begun: Sequence[ConversationFold], messages: Sequence[Message], reader: Reader
    ) -> frozenset[UUID]:
        conversations = (self.conversation_id(fold.agent) for fold in begun)
        first_seen = (row.id for row in messages if row.seq >= reader.position)
        return frozenset((*conversations, *first_seen)) - self.earlier

    def advance(self, reader: Reader, batch: Batch) -> None:
        """Note that `reader` has taken `batch`."""
        reader.position = batch.mark[0]
        for fold in self.transcript.conversations.values():
            if fold.end <= batch.mark[0]:
                reader.totals[fold.agent] = fold.end

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

    def finish(self, now: FileStat | None) -> None:
        """Note that everything in the file, as it is `now`, has been judged and acknowledged.

        Without `now` it has, but the next start judges it once more.
        """
        if self._seen is not None and not self.has_news(self.sent):
            self.checkpoint = replace(
                self.checkpoint,
                stat=now,
                end=max(self.checkpoint.end, self.buffer.end),
                messages=sum(len(fold.entries) for _, fold in self.conversations()),
                conversations=sum(1 for _ in self.conversations()),
            )

    @property
    def folded(self) -> bool:
        """Whether the file has been read."""
        return self._seen is not None

    def forget_sent(self) -> None:
        """Begin to send at the start of the file again: the database lost what it had."""
        self.sent = Reader()

    def _choose(
        self, reader: Reader, rows: int, size: int
    ) -> tuple[list[tuple[str | None, Entry]], tuple[int, int]]:
        log = self.transcript.log
        chosen: list[tuple[str | None, Entry]] = []
        place = bisect_right(log, reader.position, key=lambda entry: entry.end)
        while place < len(log):
            end, agent, native, mark = log[place]
            entry = self.transcript.conversations[agent].entries[native]
            place += 1
            if entry.end == end:  # else a later record of the same message follows
                chosen.append((agent, entry))
                size -= sum(to - at for at, to, _ in entry.spans)
            full = len(chosen) >= rows or size <= 0
            if full and place < len(log) and log[place].mark != mark:
                return chosen, mark
        return chosen, self.end

    def _begins(self, fold: ConversationFold, reader: Reader, mark: tuple[int, int]) -> bool:
        return bool(fold.entries) and reader.position <= fold.first_seq < mark[0]

    def conversation_id(self, agent: str | None) -> UUID:
        """Return the id of the session, or of a subagent of it, as this file states it."""
        return self._conversation_id(self._agent_id(agent, self.checkpoint.part))

    def _agent_id(self, agent: str | None, part: int) -> str | None:
        """Return the agent's name in ids: later parts of a file are agents of their own."""
        return f"{agent or ''}@{part}" if part else agent

    def _conversation_id(self, agent_id: str | None) -> UUID:
        who, session = self.identity, self.transcript.session or ""
        return conversation_id(who.owner_id, self.transcript.source, who.machine, session, agent_id)

    def _parent_id(self, agent: str | None) -> UUID | None:
        part = self.checkpoint.part
        if agent is not None and agent != self.transcript.agent:  # inline in a session's file
            return self._conversation_id(self._agent_id(None, part))
        if part:  # what this file stated before
            return self._conversation_id(self._agent_id(agent, part - 1))
        return None if agent is None else self._conversation_id(None)

    def _project(self, fold: ConversationFold) -> Project:
        who, path = self.identity, fold.project_path or ""
        return Project.model_construct(
            id=project_id(who.owner_id, who.machine, path),
            owner_id=who.owner_id,
            machine=who.machine,
            path=path,
            name=_last_part(path),
            metadata={},
            updated_at=fold.last_time,
            conversation_count=1,
            status="active",
        )

    def conversation(self, fold: ConversationFold, revision: int | None = None) -> Conversation:
        """Return the row of a conversation as folded so far."""
        project = self._project(fold)
        tokens: dict[str, Any] = dict(fold.tokens)
        return Conversation.model_construct(
            **tokens,
            id=self.conversation_id(fold.agent),
            owner_id=self.identity.owner_id,
            project_id=project.id,
            parent_id=self._parent_id(fold.agent),
            source=self.transcript.source,
            machine=self.identity.machine,
            session_id=self.transcript.session or "",
            agent_id=self._agent_id(fold.agent, self.checkpoint.part),
            title=fold.title,
            status=fold.status,
            activity=fold.activity,
            model=fold.model,
            cwd=fold.cwd,
            git_branch=fold.git_branch,
            created_at=fold.first_time,
            started_at=fold.first_time,
            updated_at=fold.last_time,
            message_count=fold.message_count,
            tool_usage_count=len(fold.tool_ids),
            revision=self.checkpoint.base + fold.end if revision is None else revision,
            metadata={},
            deleted_at=None,
            project_name=project.name,
        )

    def conversations(self) -> Iterator[tuple[UUID, ConversationFold]]:
        """Yield each conversation that has a message, and its id."""
        for agent, fold in self.transcript.conversations.items():
            if fold.entries:
                yield self.conversation_id(agent), fold

    def stated(self, fold: ConversationFold) -> dict[UUID, Entry]:
        """Return the messages of a conversation by id."""
        conversation = self.conversation_id(fold.agent)
        return {message_id(conversation, entry.native): entry for entry in fold.entries.values()}

    def last_messages(self, fold: ConversationFold, file: OpenFile, count: int) -> list[Message]:
        """Return the last `count` messages of a conversation, by `seq`."""
        entries = sorted(fold.entries.values(), key=lambda entry: entry.seq)
        shown = self._summary(fold)
        return [self._message(shown, entry, file) for entry in entries[-count:]] if count else []

    def _summary(self, fold: ConversationFold) -> ConversationSummary:
        return ConversationSummary.of(self.conversation(fold))

    def _message(self, shown: ConversationSummary, entry: Entry, file: OpenFile) -> Message:
        conversation = shown.id
        records = [_record_at(self.path, file, span) for span in entry.spans]
        return Message.model_construct(
            id=message_id(conversation, entry.native),
            owner_id=self.identity.owner_id,
            conversation_id=conversation,
            seq=entry.seq,
            revision=self.checkpoint.base + entry.end,
            deleted_at=None,
            conversation=shown,
            **self.transcript.message_fields(entry, records),
        )


def _record_at(path: str, file: OpenFile, span: tuple[int, int, int]) -> dict[str, Any]:
    start, end, crc = span
    data = file.read(start, end - start)
    record = load(data)
    if crc32(data) != crc or not isinstance(record, dict):
        raise RewrittenError(path)
    return record


def _id(row: Conversation | Message) -> UUID:
    return row.id


def _last_part(path: str) -> str:
    return path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] or path
