"""What the server says: one kind of event for each type of frame."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from conv_realtime.events.data import (
    ConnectionData,
    ConversationData,
    DeletedConversationData,
    DeletedData,
    ErrorData,
    FileData,
    MessageData,
    PingData,
    PongData,
    ProjectData,
    ResyncData,
    ShutdownData,
    SnapshotData,
    SubscriptionData,
)


class _Event(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_serialization_defaults_required=True
    )

    def to_json(self) -> str:
        """Return the text frame."""
        return self.model_dump_json()


# What changed ------------------------------------------------------------------------------


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
    """A message is gone: rewound, rewritten away, forgotten, or refused by the database."""

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
