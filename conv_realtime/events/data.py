"""What the frames carry: the `data` of each.

Descriptions are for people who write a client; AsyncAPI and the protocol's reference show them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import ConfigDict, Field

from conv_realtime.models import (
    Activity,
    ConversationSummary,
    Made,
    ProjectStatus,
    Role,
    Status,
)

Cursor = Annotated[
    str, Field(description="Who has read this may go on from it, here or at another relay.")
]


class Data(Made):
    """What all of them have in common: fields that a later version adds are ignored."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", json_schema_serialization_defaults_required=True
    )


# What changed ------------------------------------------------------------------------------


class ConversationData(Data):
    """A conversation's row as `/ws` and Realtime broadcasts send it."""

    id: UUID = Field(description="UUIDv5 of owner, source, machine, session and agent.")
    revision: int = Field(description="Rises with every change; drop a lower one than you have.")
    title: str | None = Field(description="Given, generated, or the first prompt's beginning.")
    status: Status = Field(description="What the file's end says; never follows from a clock.")
    activity: Activity = Field(
        description="Whose turn it is: the assistant works, waits for the user, or has ended."
    )
    message_count: int = Field(description="Prompts and responses that stand.")
    tool_usage_count: int = Field(description="Different tool calls.")
    created_at: datetime | None = Field(description="Time of the first record.")
    started_at: datetime | None = Field(description="The same.")
    updated_at: datetime | None = Field(description="Time of the newest record, not of the write.")
    source: str = Field(description="Whose transcript it is, such as `claude_code`.")
    session_id: str = Field(description="The assistant's own name of the session.")
    project_id: UUID | None = Field(description="Its project; null once it is forgotten.")
    project_name: str | None = Field(description="The last part of the project's path.")
    cwd: str | None = Field(description="Folder that the assistant worked in last.")
    git_branch: str | None = Field(description="The last one that the transcript states.")
    model: str | None = Field(description="The last one that the transcript states.")
    input_tokens: int = Field(description="Sum over its messages, without what was cached.")
    output_tokens: int = Field(description="Sum over its messages.")
    cache_read_tokens: int = Field(description="Sum over its messages.")
    cache_write_tokens: int = Field(description="Sum over its messages.")
    reasoning_tokens: int = Field(description="Sum over its messages.")
    parent_id: UUID | None = Field(
        description="Whose subagent or fork it is, whether or not that one is known."
    )
    machine: str = Field(description="Name of the machine that has the transcript.")
    cursor: Cursor


class MessageData(Data):
    """A message's row, with what a list shows of its conversation."""

    id: UUID = Field(description="UUIDv5 of the conversation and the message's own id or place.")
    conversation_id: UUID
    seq: int = Field(description="Its place in the transcript: show messages in this order.")
    revision: int = Field(description="Rises with every change; drop a lower one than you have.")
    role: Role = Field(
        description="`user` is what a person typed, `tool` what tools gave back, `other` what"
        " this version does not know."
    )
    text: str = Field(description="What a person reads of it.")
    content: Any = Field(description="Its blocks as the transcript has them.")
    model: str | None = Field(description="Who answered.")
    created_at: datetime | None = Field(description="Time of its first record.")
    usage: dict[str, int] | None = Field(description="Tokens, by the names of a conversation's.")
    truncated: bool = Field(
        False, description="The frame would be too long: `content` is left out, `text` may be cut."
    )
    cursor: Cursor
    conversation: ConversationSummary | None = Field(description="Null where it is not known.")


class DeletedData(Data):
    """Which message went, and at which revision."""

    id: UUID
    conversation_id: UUID
    revision: int = Field(description="Keep it: an event of a lower one may still come.")
    cursor: Cursor


class DeletedConversationData(Data):
    """Which conversation went, with all its messages, and at which revision."""

    id: UUID
    revision: int = Field(description="Keep it: an event of a lower one may still come.")
    cursor: Cursor


class ProjectData(Data):
    """A project's row, with what is computed when it is sent."""

    id: UUID = Field(description="UUIDv5 of owner, machine and path.")
    name: str = Field(description="The last part of its path.")
    path: str = Field(description="Folder in which its conversations began.")
    conversation_count: int
    status: ProjectStatus = Field(description="`active` with a record of the last 24 hours.")
    updated_at: datetime | None = Field(description="Time of its conversations' newest record.")
    cursor: Cursor


class FileData(Data):
    """A transcript file that changed."""

    path: str
    change: Literal["created", "modified", "deleted"]
    size: int = Field(description="In bytes.")


# The connection ----------------------------------------------------------------------------


class Filter(Data):
    """Which rows a client wants; None is unrestricted, ids are ANDed across the keys."""

    conversations: list[UUID] | None = None
    projects: list[UUID] | None = None


class ConnectionData(Data):
    """Who the client is, and what it gets until it asks for something else."""

    client_id: str = Field(description="Of this connection alone.")
    subscriptions: list[str] = Field(description="Types of events that it gets.")
    filter: Filter
    server_time: datetime
    cursor: str = Field(description="The newest place of the stream.")
    heartbeat_seconds: float = Field(description="A `ping` comes so often.")


class SnapshotData(Data):
    """Rows as they stand."""

    conversations: list[ConversationData]
    messages: list[MessageData]
    more: bool = Field(description="Another frame of this snapshot follows.")
    cursor: str = Field(description="From before the snapshot; keep it once `more` is false.")


class SubscriptionData(Data):
    """What the client gets from here on."""

    subscriptions: list[str] = Field(description="Types of events.")
    filter: Filter


class PongData(Data):
    """What the client sent."""

    timestamp: Any = Field(None, description="Of the client's `ping`, in its own JSON type.")


class PingData(Data):
    """How far the stream is."""

    timestamp: datetime = Field(description="The server's time.")
    cursor: str = Field(description="All before it was sent, or was not for this client.")


class ResyncData(Data):
    """Why there is a gap, and where the stream goes on."""

    reason: str = Field(
        description="`too_slow`: it did not read; `unknown_cursor`: of another run or database, or"
        " too old; `source_gap`: the relay itself missed something; `unavailable`: the database"
        " cannot be asked what came since."
    )
    cursor: str = Field(description="Keep it once what is missing was fetched.")


class ErrorData(Data):
    """What was wrong."""

    code: str = Field(
        description="`invalid_json`: the frame is no JSON; `invalid_message`: it has no `type`, or"
        " is no text; `unknown_type`; `invalid_data`: `message` says which field; `unavailable`:"
        " a snapshot cannot be taken now."
    )
    message: str = Field(description="For a person.")


class ShutdownData(Data):
    """When to come back."""

    reconnect_after_ms: int
