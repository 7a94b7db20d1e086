"""Rows for tests: real ids, times that do not move, and as little else as a row may have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from conv_realtime.models import (
    NAMESPACE,
    Change,
    Conversation,
    ConversationSummary,
    Message,
    Project,
    conversation_id,
    message_id,
    project_id,
)

OWNER = uuid5(NAMESPACE, "tests")
OTHER = uuid5(NAMESPACE, "others")
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MACHINE = "test-machine"


def project(path: str = "/home/ada/app", owner: UUID = OWNER, **columns: Any) -> Project:
    """Return a project's row."""
    columns = {"name": "app", "updated_at": START, **columns}
    id = project_id(owner, MACHINE, path)
    return Project(id=id, owner_id=owner, machine=MACHINE, path=path, **columns)


def conversation(
    session: str = "one", owner: UUID = OWNER, revision: int = 1, **columns: Any
) -> Conversation:
    """Return a conversation's row, in the project that `project()` makes."""
    columns = {"project_id": project(owner=owner).id, "title": session, **columns}
    return Conversation(
        id=conversation_id(owner, "claude_code", MACHINE, session),
        owner_id=owner,
        source="claude_code",
        machine=MACHINE,
        session_id=session,
        revision=revision,
        started_at=START,
        created_at=START,
        updated_at=START + timedelta(seconds=revision),
        project_name="app",
        **columns,
    )


def message(
    text: str = "hello", seq: int = 1, of: Conversation | None = None, **columns: Any
) -> Message:
    """Return a message's row in the conversation `of`."""
    parent = of or conversation()
    columns = {"revision": seq, "role": "user", **columns}
    return Message(
        id=message_id(parent.id, f"@{seq}"),
        owner_id=parent.owner_id,
        conversation_id=parent.id,
        seq=seq,
        text=text,
        created_at=START + timedelta(seconds=seq),
        conversation=ConversationSummary.of(parent),
        **columns,
    )


def created(*rows: Project | Conversation | Message) -> list[Change]:
    """Return the changes that tell of new rows."""
    return [Change(row, created=True) for row in rows]


def changed(*rows: Project | Conversation | Message) -> list[Change]:
    """Return the changes that tell of rows known before."""
    return [Change(row, created=False) for row in rows]
