"""The rows: what a transcript says, as it stands in Postgres.

Ids are UUIDv5 of what identifies a thing, so any process on any machine computes the same id
for the same line and writing it twice is writing it once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from hashlib import sha1
from json.encoder import encode_basestring_ascii
from typing import Any, ClassVar, Literal, Self
from uuid import NAMESPACE_URL, UUID, uuid5

from pydantic import BaseModel, ConfigDict

NAMESPACE = uuid5(NAMESPACE_URL, "conv_realtime")

Role = Literal["user", "assistant", "tool", "system", "other"]
Status = Literal["active", "completed", "error"]
Activity = Literal["working", "waiting", "ended"]
ProjectStatus = Literal["active", "inactive"]
Table = Literal["projects", "conversations", "messages"]

TOKEN_FIELDS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
)


_VERSION_5 = 5 << 76 | 2 << 62
_OWN_BITS = ~(15 << 76 | 3 << 62)  # RFC 9562 takes the others for version and variant


def _id(*parts: str) -> UUID:
    return uuid5(NAMESPACE, json.dumps(parts, separators=(",", ":")))


@lru_cache(maxsize=1024)
def _message_ids(conversation: UUID | str) -> Any:
    """Return the hash of what the ids of a conversation's messages have in common."""
    begun = json.dumps(["message", str(conversation).lower()], separators=(",", ":"))[:-1]
    return sha1(NAMESPACE.bytes + begun.encode() + b",", usedforsecurity=False)


@lru_cache(maxsize=1024)
def project_id(owner: UUID | str, machine: str, path: str) -> UUID:
    """Return the id of the project at `path` on `machine`."""
    return _id("project", str(owner).lower(), machine, path)


@lru_cache(maxsize=4096)
def conversation_id(
    owner: UUID | str, source: str, machine: str, session: str, agent: str | None = None
) -> UUID:
    """Return the id of a session, or of the subagent `agent` within it."""
    return _id("conversation", str(owner).lower(), source, machine, session, agent or "")


def message_id(conversation: UUID | str, native: str) -> UUID:
    """Return the id of a message; `native` is the transcript's own id, or `"@"` + position."""
    # The same as _id("message", conversation, native), at half the cost.
    rest = _message_ids(conversation).copy()
    rest.update(encode_basestring_ascii(native).encode() + b"]")
    number = int.from_bytes(rest.digest()[:16], "big")
    return UUID(int=number & _OWN_BITS | _VERSION_5)


@cache
def _names(model: type[BaseModel]) -> set[str]:
    return set(model.model_fields)


class Made(BaseModel):
    """What is often made of values that are right already."""

    @classmethod
    def made(cls, fields: dict[str, Any]) -> Self:
        """Return one that keeps `fields` as its own: all that it has, each what it should be.

        `model_construct` looks for other names and for defaults, field by field; that was a
        quarter of the time in which the rows of a transcript were made.
        """
        one = cls.__new__(cls)
        put = object.__setattr__
        put(one, "__dict__", fields)
        put(one, "__pydantic_fields_set__", _names(cls))  # shared by all: they are frozen
        put(one, "__pydantic_extra__", None)
        put(one, "__pydantic_private__", None)
        return one


class _Row(Made):
    model_config = ConfigDict(frozen=True, extra="ignore")

    table: ClassVar[Table]
    joined: ClassVar[frozenset[str]]  # shown in events, no column of the table

    def to_row(self) -> dict[str, Any]:
        """Return the columns as JSON values: one key set for every row of the table."""
        return self.model_dump(mode="json", exclude=set(self.joined))

    def columns(self) -> dict[str, Any]:
        """Return what `to_row` does, but ids and times as they are, for who can encode them."""
        columns = dict(self.__dict__)
        for name in self.joined:
            del columns[name]
        return columns


class Project(_Row):
    """A working directory on one machine.

    `updated_at` is the newest record time of its conversations; `conversation_count` and
    `status` are computed when a row is read, never stored.
    """

    table: ClassVar[Table] = "projects"
    joined: ClassVar[frozenset[str]] = frozenset({"conversation_count", "status"})

    id: UUID
    owner_id: UUID
    machine: str
    path: str
    name: str
    metadata: dict[str, Any] = {}
    updated_at: datetime | None = None
    conversation_count: int = 0
    status: ProjectStatus = "inactive"


class Conversation(_Row):
    """One session, or one subagent of a session.

    Times are record times: `started_at` and `created_at` the first record's, `updated_at` the
    newest. Tokens are the sum over messages of each message's maximum; `input_tokens` counts
    no cache. `revision` rises with every change.
    """

    table: ClassVar[Table] = "conversations"
    joined: ClassVar[frozenset[str]] = frozenset({"project_name"})

    id: UUID
    owner_id: UUID
    project_id: UUID | None
    parent_id: UUID | None = None
    source: str
    machine: str
    session_id: str
    agent_id: str | None = None
    title: str | None = None
    status: Status = "active"
    activity: Activity = "working"
    model: str | None = None
    cwd: str | None = None
    git_branch: str | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    updated_at: datetime | None = None
    message_count: int = 0
    tool_usage_count: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    revision: int
    metadata: dict[str, Any] = {}
    deleted_at: datetime | None = None
    project_name: str | None = None


class ConversationSummary(BaseModel):
    """What a message event says of its conversation."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: UUID
    title: str | None
    source: str
    project_name: str | None
    status: Status
    activity: Activity
    message_count: int

    @classmethod
    def of(cls, row: Conversation) -> ConversationSummary:
        """Return the summary of a conversation's row."""
        return cls.model_construct(**{name: getattr(row, name) for name in cls.model_fields})


class Message(_Row):
    """One prompt, response, tool result or shown system record.

    `seq` is the position of its first record in the file and orders a conversation; `revision`
    rises with each record merged into it. `content` is a list of blocks as the transcript has
    them, `text` their readable text. `usage` has the keys of `TOKEN_FIELDS` that were stated.
    """

    table: ClassVar[Table] = "messages"
    joined: ClassVar[frozenset[str]] = frozenset({"conversation", "project_id"})

    id: UUID
    owner_id: UUID
    conversation_id: UUID
    seq: int
    revision: int
    role: Role
    text: str = ""
    content: Any = None
    model: str | None = None
    created_at: datetime | None = None
    usage: dict[str, int] | None = None
    metadata: dict[str, Any] = {}
    deleted_at: datetime | None = None
    conversation: ConversationSummary | None = None
    project_id: UUID | None = None


Row = Project | Conversation | Message


def is_beginning(row: Row) -> bool:
    """Return whether a row only begins a conversation, for messages to hang under."""
    return isinstance(row, Conversation) and row.revision == 0


ROW_TYPES: Mapping[Table, type[Project] | type[Conversation] | type[Message]] = {
    "projects": Project,
    "conversations": Conversation,
    "messages": Message,
}


@dataclass(frozen=True, slots=True)
class Change:
    """A row as it now stands; `created` when it first appeared since the position read from."""

    row: Row
    created: bool


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file, or a line at byte `offset` of it, that made no row; `reason` is for a person."""

    path: str
    reason: str
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class StoredFault:
    """A row that the database refused for good; `reason` holds nothing of its content.

    `revision` is the one that was refused, 0 of a project. `parent` is what was refused instead,
    where the row only waits for that. `since` is when it was refused first, RFC 3339.
    """

    table: Table
    id: UUID
    path: str
    code: str
    reason: str
    revision: int = 0
    parent: UUID | None = None
    since: str = ""
