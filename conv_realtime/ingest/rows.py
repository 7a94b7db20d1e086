"""Folds and bytes → rows: whose they are, what their ids are, what they say."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID
from zlib import crc32

from conv_realtime.core.conversation_fold import ConversationFold, Entry, Span
from conv_realtime.core.transcript import LogTranscript, Transcript
from conv_realtime.edges.disk import OpenFile
from conv_realtime.ingest.secrets_found import metadata_of
from conv_realtime.models import (
    Conversation,
    ConversationSummary,
    Message,
    Project,
    conversation_id,
    message_id,
    project_id,
)

_AHEAD_BYTES = 64 * 2**10
_NO_TIME = datetime.fromtimestamp(0, UTC)
_UNSAID: dict[str, Any] = {
    "text": "", "content": None, "model": None, "created_at": None, "usage": None, "metadata": {},
}  # fmt: skip


class RewrittenError(Exception):
    """Bytes that were read before are not there any more."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose rows these are, and which machine's."""

    owner_id: UUID
    machine: str


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A message that its file states no longer, nor what it said."""

    id: UUID
    conversation_id: UUID
    revision: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Rows(abc.ABC):
    """Makes the rows of one file, as its transcript has been folded so far.

    `base` is what revisions count from, `part` how often the file has been replaced by an
    unrelated conversation.
    """

    identity: Identity
    transcript: Transcript
    base: int
    part: int

    def conversation_id(self, fold: ConversationFold) -> UUID:
        """Return the id of a conversation of this file."""
        return self._conversation_id(fold.session, self._agent_id(fold.agent, self.part))

    def _agent_id(self, agent: str | None, part: int) -> str | None:
        """Return the agent's name in ids: later parts of a file are agents of their own."""
        return f"{agent or ''}@{part}" if part else agent

    def _conversation_id(self, session: str | None, agent_id: str | None) -> UUID:
        who, session = self.identity, session or self.transcript.session or ""
        return conversation_id(who.owner_id, self.transcript.source, who.machine, session, agent_id)

    def _parent_id(self, fold: ConversationFold) -> UUID | None:
        part, agent, session = self.part, fold.agent, fold.session
        if agent is not None and agent != self.transcript.agent:  # inline in a session's file
            return self._conversation_id(session, self._agent_id(None, part))
        if part:  # what this file stated before
            return self._conversation_id(session, self._agent_id(agent, part - 1))
        if fold.parent not in (None, session or self.transcript.session):
            return self._conversation_id(fold.parent, None)
        return None if agent is None else self._conversation_id(session, None)

    def project(self, fold: ConversationFold) -> Project:
        """Return the row of the project that a conversation belongs to."""
        who, path = self.identity, fold.project_path or ""
        return Project.made(
            {
                "id": project_id(who.owner_id, who.machine, path),
                "owner_id": who.owner_id,
                "machine": who.machine,
                "path": path,
                "name": _last_part(path),
                "metadata": {},
                "updated_at": fold.last_time,
                "conversation_count": 1,
                "status": "active",
            }
        )

    def conversation(self, fold: ConversationFold, revision: int | None = None) -> Conversation:
        """Return the row of a conversation as folded so far."""
        project = self.project(fold)
        tokens: dict[str, Any] = dict(fold.tokens)
        return Conversation.made(
            {
                **tokens,
                "id": self.conversation_id(fold),
                "owner_id": self.identity.owner_id,
                "project_id": project.id,
                "parent_id": self._parent_id(fold),
                "source": self.transcript.source,
                "machine": self.identity.machine,
                "session_id": fold.session or self.transcript.session or "",
                "agent_id": self._agent_id(fold.agent, self.part),
                "title": fold.title,
                "status": fold.status,
                "activity": fold.activity,
                "model": fold.model,
                "cwd": fold.cwd,
                "git_branch": fold.git_branch,
                "created_at": fold.first_time,
                "started_at": fold.first_time,
                "updated_at": fold.last_time,
                "message_count": fold.message_count,
                "tool_usage_count": len(fold.tool_ids),
                "revision": self._revision(fold) if revision is None else revision,
                "metadata": {**fold.metadata, **metadata_of(fold.secrets)},
                "deleted_at": None,
                "project_name": project.name,
            }
        )

    def conversations(self) -> Iterator[tuple[UUID, ConversationFold]]:
        """Yield each conversation that has a message, and its id."""
        for fold in list(self.transcript.conversations.values()):  # a thread may read on
            if fold.entries:
                yield self.conversation_id(fold), fold

    def stated(self, fold: ConversationFold) -> dict[UUID, Entry]:
        """Return the messages of a conversation that stand, by id."""
        return {id: entry for id, entry in self.told(fold).items() if entry.deleted_at is None}

    def told(self, fold: ConversationFold) -> dict[UUID, Entry]:
        """Return the messages of a conversation by id, also those that were taken back."""
        conversation = self.conversation_id(fold)
        return {message_id(conversation, name): entry for name, entry in fold.entries.items()}

    def revisions(self, fold: ConversationFold) -> dict[UUID, int]:
        """Return the messages of a conversation that stand, by id, with their revisions."""
        return {id: self._revision(entry) for id, entry in self.stated(fold).items()}

    def _revision(self, of: Entry | ConversationFold) -> int:
        return self.base + of.end if of.revision is None else of.revision

    def all_told(self) -> dict[UUID, UUID]:
        """Return all messages of the file, taken back ones too, by id, with their conversations."""
        return {id: place for place, fold in self.conversations() for id in self.told(fold)}

    def messages(
        self,
        fold: ConversationFold,
        conversation: Conversation,
        entries: Sequence[Entry],
        file: OpenFile,
    ) -> list[Message]:
        """Return rows of messages of a conversation, their records read again from the file.

        Raises:
            RewrittenError: other bytes are there than those that were folded.
        """
        shown = ConversationSummary.of(conversation)
        return [
            Message.made(
                {
                    "id": message_id(conversation.id, entry.native),
                    "owner_id": self.identity.owner_id,
                    "conversation_id": conversation.id,
                    "seq": entry.seq,
                    "revision": self._revision(entry),
                    "deleted_at": entry.deleted_at,
                    "conversation": shown,
                    "project_id": conversation.project_id,
                    **_UNSAID,
                    **fields,
                }
            )
            for entry, fields in zip(entries, self._fields(fold, entries, file), strict=True)
        ]

    def tombstones(self, conversation: UUID, entries: Sequence[Entry]) -> list[Tombstone]:
        """Return what there is to say of messages of which nothing else is left."""
        return [
            Tombstone(
                message_id(conversation, entry.native),
                conversation,
                self._revision(entry),
                entry.deleted_at or _NO_TIME,
            )
            for entry in entries
        ]

    @abc.abstractmethod
    def _fields(
        self, fold: ConversationFold, entries: Sequence[Entry], file: OpenFile
    ) -> Iterator[dict[str, Any]]:
        """Yield what each message says, as columns of its row."""

    def _with_secrets(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return a message's columns, with how many secrets were replaced in them."""
        if found := self.transcript.take_secrets():
            fields["metadata"] = fields["metadata"] | metadata_of(found)
        return fields


class LogRows(Rows):
    """The rows of a log: what a message says is read again from the places of its records."""

    transcript: LogTranscript

    def _fields(
        self, fold: ConversationFold, entries: Sequence[Entry], file: OpenFile
    ) -> Iterator[dict[str, Any]]:
        ahead = _Ahead(file, max((entry.end for entry in entries), default=0))
        for entry in entries:
            records = [self._record_at(ahead, span) for span in entry.spans]
            yield self._with_secrets(self.transcript.message_fields(entry, records))

    def _record_at(self, ahead: _Ahead, span: Span) -> dict[str, Any]:
        start, end, crc, seed = span
        data = ahead.read(start, end)
        record = self.transcript.load(data) if crc32(data, seed) == crc else None
        if record is None:
            raise RewrittenError(ahead.file.path)
        return record


class _Ahead:
    """Reads a file's records by place, those that follow each other at once, up to `last`."""

    __slots__ = ("_data", "_last", "_start", "file")

    def __init__(self, file: OpenFile, last: int) -> None:
        self.file = file
        self._last = last
        self._start = 0
        self._data = b""

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` to `end`, fewer only at the end of the file."""
        begin = start - self._start
        if begin < 0 or end - self._start > len(self._data):
            length = max(end - start, min(_AHEAD_BYTES, self._last - start))
            self._start, self._data, begin = start, self.file.read(start, length), 0
        return self._data[begin : begin + end - start]


def _last_part(path: str) -> str:
    return path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] or path
