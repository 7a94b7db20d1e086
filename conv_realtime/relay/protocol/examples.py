"""One frame of every type, as it is sent: AsyncAPI and the reference show them.

They tell a story: a prompt, an answer that grows, and what else may happen to a client.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from conv_realtime import events
from conv_realtime.core.envelope import conversation_data, message_data, project_data
from conv_realtime.models import (
    Conversation,
    ConversationSummary,
    Message,
    Project,
    conversation_id,
    message_id,
    project_id,
)

_OWNER = UUID("5e551011-0000-4000-8000-000000000001")
_SESSION = "5e551011-0000-4000-8000-000000000002"
_BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_ANSWERED = datetime(2026, 1, 2, 3, 4, 9, tzinfo=UTC)
_ID = conversation_id(_OWNER, "claude_code", "laptop", _SESSION)
_TOKENS = {"input_tokens": 12, "output_tokens": 34}

_PROJECT = Project(
    id=project_id(_OWNER, "laptop", "/home/ada/lamp"),
    owner_id=_OWNER,
    machine="laptop",
    path="/home/ada/lamp",
    name="lamp",
    updated_at=_ANSWERED,
    conversation_count=1,
    status="active",
)
_ASKED = Conversation(
    id=_ID,
    owner_id=_OWNER,
    project_id=_PROJECT.id,
    source="claude_code",
    machine="laptop",
    session_id=_SESSION,
    title="Why does it blink?",
    cwd="/home/ada/lamp",
    git_branch="main",
    created_at=_BEGAN,
    started_at=_BEGAN,
    updated_at=_BEGAN,
    message_count=1,
    revision=212,
    project_name="lamp",
)
_TOLD = _ASKED.model_copy(
    update={
        "activity": "waiting",
        "model": "claude-sonnet-4",
        "updated_at": _ANSWERED,
        "message_count": 2,
        "tool_usage_count": 1,
        "revision": 1024,
        **_TOKENS,
    }
)
_PROMPT = Message(
    id=message_id(_ID, "prompt-1"),
    owner_id=_OWNER,
    conversation_id=_ID,
    seq=0,
    revision=212,
    role="user",
    text="Why does it blink?",
    content=[{"type": "text", "text": "Why does it blink?"}],
    created_at=_BEGAN,
    conversation=ConversationSummary.of(_ASKED),
)
_CALL = {"type": "tool_use", "id": "toolu_01", "name": "Read", "input": {"file_path": "lamp.py"}}
_ANSWER = Message(
    id=message_id(_ID, "msg_01"),
    owner_id=_OWNER,
    conversation_id=_ID,
    seq=213,
    revision=1024,
    role="assistant",
    text="Let me look.",
    content=[{"type": "text", "text": "Let me look."}, _CALL],
    model="claude-sonnet-4",
    created_at=_ANSWERED,
    usage=_TOKENS,
    conversation=ConversationSummary.of(_TOLD),
)
_SUBSCRIBED = events.SubscriptionData(
    subscriptions=["new_message", "message_update", "message_deleted"],
    filter=events.Filter(conversations=[_ID]),
)

SERVER: Mapping[str, events.Event] = {
    event.type: event
    for event in (
        events.NewConversation(data=conversation_data(_ASKED, "7.841")),
        events.ConversationUpdate(data=conversation_data(_TOLD, "7.844")),
        events.ConversationDeleted(
            data=events.DeletedConversationData(id=_ID, revision=1025, cursor="7.846")
        ),
        events.NewMessage(data=message_data(_PROMPT, "7.842")),
        events.MessageUpdate(data=message_data(_ANSWER, "7.843")),
        events.MessageDeleted(
            data=events.DeletedData(
                id=_ANSWER.id, conversation_id=_ID, revision=1025, cursor="7.845"
            )
        ),
        events.ProjectUpdate(data=project_data(_PROJECT, "7.840")),
        events.FileUpdate(
            data=events.FileData(
                path="/home/ada/.claude/projects/-home-ada-lamp/one.jsonl",
                change="modified",
                size=1025,
            )
        ),
        events.ConnectionEstablished(
            data=events.ConnectionData(
                client_id="9f2c51d07ab34e68",
                subscriptions=[name for name in events.DATA_TYPES if name != "file_update"],
                filter=events.Filter(),
                server_time=_BEGAN,
                cursor="7.839",
                heartbeat_seconds=20,
            )
        ),
        events.Snapshot(
            data=events.SnapshotData(
                conversations=[conversation_data(_ASKED, "7.839")],
                messages=[message_data(_PROMPT, "7.839")],
                more=False,
                cursor="7.839",
            )
        ),
        events.Subscribed(data=_SUBSCRIBED),
        events.Unsubscribed(data=events.SubscriptionData(subscriptions=[], filter=events.Filter())),
        events.Pong(data=events.PongData(timestamp=1767323045000)),
        events.Ping(data=events.PingData(timestamp=_BEGAN, cursor="7.846")),
        events.Resync(data=events.ResyncData(reason="too_slow", cursor="7.846")),
        events.ErrorEvent(
            data=events.ErrorData(code="invalid_data", message="no such type: nonsense")
        ),
        events.ServerShutdown(data=events.ShutdownData(reconnect_after_ms=1000)),
    )
}
"""By type, in the order in which the reference has them."""

CLIENT: Mapping[str, Any] = {
    "subscribe": {
        "types": ["new_message", "message_update", "message_deleted"],
        "snapshot": 50,
    },
    "unsubscribe": {"conversations": [str(_ID)]},
    "ping": {"timestamp": 1767323045000},
    "pong": {},
}
"""The `data` of what a client may say, by type."""
