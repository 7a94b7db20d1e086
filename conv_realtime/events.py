"""The frames of `/ws`: what the server says, and what a client may ask.

Every server frame is an `Event`: exactly `{"type", "data"}`, and `event.to_json()` is its text.
Times are RFC 3339 in UTC unless the name ends in `_ms`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StrictInt, TypeAdapter, WithJsonSchema

from conv_realtime.models import (
    Activity,
    ConversationSummary,
    ProjectStatus,
    Role,
    Status,
)


class _Data(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="ignore", json_schema_serialization_defaults_required=True
    )


class _Event(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_serialization_defaults_required=True
    )

    def to_json(self) -> str:
        """Return the text frame."""
        return self.model_dump_json()


# What changed ------------------------------------------------------------------------------


class ConversationData(_Data):
    """A conversation's row as `/ws` and Realtime broadcasts send it."""

    id: UUID
    revision: int
    title: str | None
    status: Status
    activity: Activity
    message_count: int
    tool_usage_count: int
    created_at: datetime | None
    started_at: datetime | None
    updated_at: datetime | None
    source: str
    session_id: str
    project_id: UUID | None
    project_name: str | None
    cwd: str | None
    git_branch: str | None
    model: str | None
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    parent_id: UUID | None
    machine: str
    cursor: str


class MessageData(_Data):
    """A message's row, with what a list shows of its conversation."""

    id: UUID
    conversation_id: UUID
    seq: int
    revision: int
    role: Role
    text: str
    content: Any
    model: str | None
    created_at: datetime | None
    usage: dict[str, int] | None
    truncated: bool = False
    cursor: str
    conversation: ConversationSummary | None


class DeletedData(_Data):
    """Which message went, and at which revision."""

    id: UUID
    conversation_id: UUID
    revision: int
    cursor: str


class DeletedConversationData(_Data):
    """Which conversation went, with all its messages, and at which revision."""

    id: UUID
    revision: int
    cursor: str


class ProjectData(_Data):
    """A project's row, with what is computed when it is sent."""

    id: UUID
    name: str
    path: str
    conversation_count: int
    status: ProjectStatus
    updated_at: datetime | None
    cursor: str


class FileData(_Data):
    """A transcript file that changed; `size` in bytes."""

    path: str
    change: Literal["created", "modified", "deleted"]
    size: int


class NewConversation(_Event):
    """A conversation appeared."""

    type: Literal["new_conversation"] = "new_conversation"
    data: ConversationData


class ConversationUpdate(_Event):
    """A conversation's row changed: its title, activity, counts or times."""

    type: Literal["conversation_update"] = "conversation_update"
    data: ConversationData


class ConversationDeleted(_Event):
    """A conversation is not there any more: it was forgotten, or the database refused it."""

    type: Literal["conversation_deleted"] = "conversation_deleted"
    data: DeletedConversationData


class NewMessage(_Event):
    """A message appeared."""

    type: Literal["new_message"] = "new_message"
    data: MessageData


class MessageUpdate(_Event):
    """A message grew or changed; `data` is the whole message."""

    type: Literal["message_update"] = "message_update"
    data: MessageData


class MessageDeleted(_Event):
    """A message was rewound or rewritten away."""

    type: Literal["message_deleted"] = "message_deleted"
    data: DeletedData


class ProjectUpdate(_Event):
    """A project appeared or changed."""

    type: Literal["project_update"] = "project_update"
    data: ProjectData


class FileUpdate(_Event):
    """A transcript file changed; only for clients that ask for this type."""

    type: Literal["file_update"] = "file_update"
    data: FileData


# The connection ----------------------------------------------------------------------------


class Filter(_Data):
    """Which rows a client wants; None is unrestricted, ids are ANDed across the keys."""

    conversations: list[UUID] | None = None
    projects: list[UUID] | None = None


class ConnectionData(_Data):
    client_id: str
    subscriptions: list[str]
    filter: Filter
    server_time: datetime
    cursor: str
    heartbeat_seconds: float


class SnapshotData(_Data):
    conversations: list[ConversationData]
    messages: list[MessageData]
    more: bool
    cursor: str


class SubscriptionData(_Data):
    subscriptions: list[str]
    filter: Filter


class PongData(_Data):
    timestamp: Any = None


class PingData(_Data):
    timestamp: datetime
    cursor: str


class ResyncData(_Data):
    reason: str
    cursor: str


class ErrorData(_Data):
    code: str
    message: str


class ShutdownData(_Data):
    reconnect_after_ms: int


class ConnectionEstablished(_Event):
    """The first event of a connection: its id, what it gets, and the newest cursor."""

    type: Literal["connection_established"] = "connection_established"
    data: ConnectionData


class Snapshot(_Event):
    """The current state, or a part of it: another one follows while `more` is true."""

    type: Literal["snapshot"] = "snapshot"
    data: SnapshotData


class Subscribed(_Event):
    """The answer to `subscribe`; what comes after it matches the new filter."""

    type: Literal["subscribed"] = "subscribed"
    data: SubscriptionData


class Unsubscribed(_Event):
    """The answer to `unsubscribe`, with what is left."""

    type: Literal["unsubscribed"] = "unsubscribed"
    data: SubscriptionData


class Pong(_Event):
    """The answer to a client's `ping`, with the client's timestamp."""

    type: Literal["pong"] = "pong"
    data: PongData


class Ping(_Event):
    """The server asks whether the client still reads; the answer is a `pong`."""

    type: Literal["ping"] = "ping"
    data: PingData


class Resync(_Event):
    """The client has a gap: fetch the state again, then go on from `cursor`."""

    type: Literal["resync"] = "resync"
    data: ResyncData


class ErrorEvent(_Event):
    """A frame of the client was not understood; the connection lives on."""

    type: Literal["error"] = "error"
    data: ErrorData


class ServerShutdown(_Event):
    """The server goes away; come back after `reconnect_after_ms`."""

    type: Literal["server_shutdown"] = "server_shutdown"
    data: ShutdownData


DataEvent = (
    NewConversation
    | ConversationUpdate
    | ConversationDeleted
    | NewMessage
    | MessageUpdate
    | MessageDeleted
    | ProjectUpdate
    | FileUpdate
)

Event = Annotated[
    DataEvent
    | ConnectionEstablished
    | Snapshot
    | Subscribed
    | Unsubscribed
    | Pong
    | Ping
    | Resync
    | ErrorEvent
    | ServerShutdown,
    Field(discriminator="type"),
]

DATA_TYPES: tuple[str, ...] = (
    "new_conversation",
    "conversation_update",
    "conversation_deleted",
    "new_message",
    "message_update",
    "message_deleted",
    "project_update",
    "file_update",
)
"""What a client can subscribe to."""

DEFAULT_TYPES: frozenset[str] = frozenset(DATA_TYPES) - {"file_update"}
"""What a new client gets."""

_events: TypeAdapter[Event] = TypeAdapter(Event)


def parse_event(frame: str | bytes) -> Event:
    """Return the event that a server frame holds.

    Raises:
        pydantic.ValidationError: the frame is not one of this protocol.
    """
    return _events.validate_json(frame)


# What a client may ask ---------------------------------------------------------------------


_TypeName = Annotated[str, WithJsonSchema({"type": "string", "enum": list(DATA_TYPES)})]


class SubscribeRequest(BaseModel):
    """The data of `subscribe`: it replaces the whole filter; an absent key is unrestricted."""

    model_config = ConfigDict(extra="ignore")

    types: list[_TypeName] | None = None
    conversations: list[UUID] | None = None
    projects: list[UUID] | None = None
    since: str | None = None
    snapshot: bool | StrictInt | None = None


class UnsubscribeRequest(BaseModel):
    """The data of `unsubscribe`: nothing stops data events, ids are excluded."""

    model_config = ConfigDict(extra="ignore")

    types: list[_TypeName] | None = None
    conversations: list[UUID] | None = None
    projects: list[UUID] | None = None
