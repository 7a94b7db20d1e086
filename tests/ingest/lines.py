"""Invented transcript lines, short to write in a test."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_OID, uuid5

SESSION = "11111111-2222-4333-8444-555555555555"
OTHER = "99999999-2222-4333-8444-555555555555"
_START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def uuid(name: object) -> str:
    """Return the same UUID for the same name."""
    return str(uuid5(NAMESPACE_OID, str(name)))


def line(kind: str, name: object, *, at: int = 0, session: str = SESSION, **fields: Any) -> bytes:
    """Return a record of type `kind`, identified by `name`, `at` seconds into the session."""
    record: dict[str, Any] = {
        "type": kind,
        "uuid": uuid(name),
        "parentUuid": None,
        "sessionId": session,
        "timestamp": (_START + timedelta(seconds=at)).isoformat().replace("+00:00", "Z"),
        "cwd": "/home/ada/garden",
        "gitBranch": "main",
        "isSidechain": False,
        **fields,
    }
    return (
        json.dumps({key: value for key, value in record.items() if value is not ...}).encode()
        + b"\n"
    )


def user(name: object, text: Any = None, **fields: Any) -> bytes:
    """Return a prompt, or with a list of blocks whatever they are."""
    content = f"prompt {name}" if text is None else text
    return line("user", name, message={"role": "user", "content": content}, **fields)


def prompts(*said: str, **fields: Any) -> list[bytes]:
    """Return a prompt for each text, a second apart."""
    return [user(number, text, at=number, **fields) for number, text in enumerate(said)]


def assistant(
    name: object,
    response: str,
    *blocks: dict[str, Any],
    model: str = "claude-test-1",
    stop: str | None = None,
    usage: dict[str, Any] | None = None,
    **fields: Any,
) -> bytes:
    """Return a line of the response `response`."""
    message = {
        "id": response,
        "role": "assistant",
        "model": model,
        "content": list(blocks) or [says(f"answer {name}")],
        "stop_reason": stop,
        "usage": {"input_tokens": 3, "output_tokens": 5} if usage is None else usage,
    }
    return line("assistant", name, message=message, **fields)


def says(text: str) -> dict[str, Any]:
    """Return a text block."""
    return {"type": "text", "text": text}


def calls(tool: str, name: str = "Read") -> dict[str, Any]:
    """Return a tool call."""
    return {"type": "tool_use", "id": tool, "name": name, "input": {}}


def result(tool: str, text: str = "ok") -> dict[str, Any]:
    """Return a tool's answer."""
    return {"type": "tool_result", "tool_use_id": tool, "content": text}
