"""Rows as a writer sends them: every column, the same keys for each row of a table."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from conv_realtime.models import (
    Conversation,
    Message,
    Project,
    conversation_id,
    message_id,
    project_id,
)

NOON = "2026-01-02T12:00:00Z"


def project(owner: str, path: str = "/home/ann/shop", **changes: Any) -> dict[str, Any]:
    """A project of `owner`."""
    row = Project.model_validate(
        {
            "id": project_id(owner, "laptop", path),
            "owner_id": owner,
            "machine": "laptop",
            "path": path,
            "name": path.rsplit("/", 1)[-1],
        }
    )
    return row.to_row() | changes


def conversation(owner: str, session: str = "", **changes: Any) -> dict[str, Any]:
    """A conversation of `owner` without a project; its session is random unless given."""
    session = session or str(uuid4())
    row = Conversation.model_validate(
        {
            "id": conversation_id(owner, "claude-code", "laptop", session),
            "owner_id": owner,
            "project_id": None,
            "source": "claude-code",
            "machine": "laptop",
            "session_id": session,
            "title": "Fix the cart",
            "created_at": NOON,
            "started_at": NOON,
            "updated_at": NOON,
            "revision": 100,
        }
    )
    return row.to_row() | changes


def message(parent: dict[str, Any], position: int, **changes: Any) -> dict[str, Any]:
    """The message at byte `position` of a conversation's file."""
    row = Message.model_validate(
        {
            "id": message_id(parent["id"], f"@{position}"),
            "owner_id": parent["owner_id"],
            "conversation_id": parent["id"],
            "seq": position,
            "revision": position + 90,
            "role": "user",
            "text": f"line at {position}",
            "content": [{"type": "text", "text": f"line at {position}"}],
            "created_at": NOON,
        }
    )
    return row.to_row() | changes
