"""The frames of `/ws`: what the server says, and what a client may ask.

Every server frame is an `Event`: exactly `{"type", "data"}`, and `event.to_json()` is its text.
Times are RFC 3339 in UTC unless the name ends in `_ms`.

* `data`: what the frames carry
* `frames`: the events
* `requests`: what a client asks for
"""

from __future__ import annotations

from conv_realtime.events.data import (
    ConnectionData,
    ConversationData,
    DeletedConversationData,
    DeletedData,
    ErrorData,
    FileData,
    Filter,
    MessageData,
    PingData,
    PongData,
    ProjectData,
    ResyncData,
    ShutdownData,
    SnapshotData,
    SubscriptionData,
)
from conv_realtime.events.frames import (
    DATA_TYPES,
    DEFAULT_TYPES,
    ConnectionEstablished,
    ConversationDeleted,
    ConversationUpdate,
    DataEvent,
    ErrorEvent,
    Event,
    FileUpdate,
    MessageDeleted,
    MessageUpdate,
    NewConversation,
    NewMessage,
    Ping,
    Pong,
    ProjectUpdate,
    Resync,
    ServerShutdown,
    Snapshot,
    Subscribed,
    Unsubscribed,
)
from conv_realtime.events.requests import SubscribeRequest, UnsubscribeRequest

__all__ = [
    "DATA_TYPES",
    "DEFAULT_TYPES",
    "ConnectionData",
    "ConnectionEstablished",
    "ConversationData",
    "ConversationDeleted",
    "ConversationUpdate",
    "DataEvent",
    "DeletedConversationData",
    "DeletedData",
    "ErrorData",
    "ErrorEvent",
    "Event",
    "FileData",
    "FileUpdate",
    "Filter",
    "MessageData",
    "MessageDeleted",
    "MessageUpdate",
    "NewConversation",
    "NewMessage",
    "Ping",
    "PingData",
    "Pong",
    "PongData",
    "ProjectData",
    "ProjectUpdate",
    "Resync",
    "ResyncData",
    "ServerShutdown",
    "ShutdownData",
    "Snapshot",
    "SnapshotData",
    "Subscribed",
    "SubscribeRequest",
    "SubscriptionData",
    "Unsubscribed",
    "UnsubscribeRequest",
]
