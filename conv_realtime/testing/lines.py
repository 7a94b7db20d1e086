"""Lines of transcripts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

SESSION = "5e551011-0000-4000-8000-000000000001"
"""The session of lines that name none."""


def claude_line(
    text: str,
    role: str = "user",
    *,
    session: str = SESSION,
    message_id: str | None = None,
    model: str = "claude-test",
    **fields: Any,
) -> bytes:
    """Return a line of a Claude Code transcript, with its newline.

    Lines of role `assistant` with the same `message_id` are one message. `fields` replace or add
    fields of the record, such as `cwd`, `timestamp`, `isSidechain` or `type`.
    """
    message: dict[str, Any] = {"role": role, "content": text}
    if role == "assistant":
        message = {
            "id": message_id or f"msg_{uuid4().hex}",
            "type": "message",
            "role": role,
            "model": model,
            "content": [{"type": "text", "text": text}],
            "stop_reason": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }
    record: Mapping[str, Any] = {
        "type": role,
        "uuid": str(uuid4()),
        "parentUuid": None,
        "sessionId": session,
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "cwd": "/project",
        "version": "2.1.0",
        "isSidechain": False,
        "userType": "external",
        "message": message,
        **fields,
    }
    return json.dumps(record).encode() + b"\n"


def session_of(line: bytes) -> str:
    """Return the session that a line names, else `SESSION`."""
    try:
        record = json.loads(line)
    except ValueError:
        return SESSION
    session = record.get("sessionId") if isinstance(record, dict) else None
    return session if isinstance(session, str) else SESSION
