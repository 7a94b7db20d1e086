"""Invented lines of Codex rollouts, short to write in a test."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from conv_realtime.core.formats.codex import Codex
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.ingest.follow import Follower
from conv_realtime.models import Conversation, Message
from tests.ingest.folding import IDENTITY, stated_by

START = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def thread(name: int, at: float = 0.0) -> str:
    """Return a UUIDv7 of the moment `at` seconds into the test's day."""
    moment = int((START + timedelta(seconds=at)).timestamp() * 1000)
    head = f"{moment:012x}"
    return f"{head[:8]}-{head[8:]}-7000-8000-{name:012x}"


THREAD = thread(1)
NAME = f"rollout-2026-03-04T05-06-07-{THREAD}.jsonl"


def line(kind: str, payload: dict[str, Any], *, at: float = 0.0, **fields: Any) -> bytes:
    """Return a line `at` seconds into the test's day."""
    stamp = (START + timedelta(seconds=at)).isoformat(timespec="milliseconds")
    record = {"timestamp": stamp.replace("+00:00", "Z"), **fields, "type": kind, "payload": payload}
    return json.dumps(record).encode() + b"\n"


def meta(id: str = THREAD, *, at: float = 0.0, ordinal: int | None = None, **fields: Any) -> bytes:
    """Return a session's first line."""
    payload = {"id": id, "cwd": "/work/garden", "git": {"branch": "main"}, **fields}
    return line("session_meta", payload, at=at, **_ordinal(ordinal))


def item(kind: str, *, at: float = 1.0, ordinal: int | None = None, **payload: Any) -> bytes:
    """Return a response item."""
    return line("response_item", {"type": kind, **payload}, at=at, **_ordinal(ordinal))


def says(role: str, *texts: str, **more: Any) -> bytes:
    """Return a message."""
    kind = "output_text" if role == "assistant" else "input_text"
    content = [{"type": kind, "text": text} for text in texts]
    return item("message", role=role, content=content, **more)


def calls(id: str, command: str = "ls", **more: Any) -> bytes:
    """Return a call of a tool."""
    arguments = json.dumps({"cmd": command})
    return item("function_call", name="exec_command", arguments=arguments, call_id=id, **more)


def answers(id: str, output: Any = "a b", **more: Any) -> bytes:
    """Return what a tool gave back."""
    return item("function_call_output", call_id=id, output=output, **more)


def event(kind: str, *, at: float = 1.0, ordinal: int | None = None, **payload: Any) -> bytes:
    """Return an event."""
    return line("event_msg", {"type": kind, **payload}, at=at, **_ordinal(ordinal))


def voice(kind: str, **said: str) -> bytes:
    """Return an item of a talk."""
    return line("realtime_item", {"id": "v1", "realtime_session_id": "v", "type": kind, **said})


def tokens(total: tuple[int, int, int], last: tuple[int, int, int], **more: Any) -> bytes:
    """Return a report of tokens: input with cached, cached, output."""
    names = ("input_tokens", "cached_input_tokens", "output_tokens")
    info = {
        "total_token_usage": dict(zip(names, total, strict=True)),
        "last_token_usage": dict(zip(names, last, strict=True)),
    }
    return event("token_count", info=info, **more)


def _ordinal(ordinal: int | None) -> dict[str, int]:
    return {} if ordinal is None else {"ordinal": ordinal}


def follow(path: Path) -> Follower:
    """Return a follower of a rollout that has read nothing yet."""
    return Follower(str(path), Codex(), IDENTITY, Sanitizer())


def stated(folder: Path, *lines: bytes, name: str = NAME) -> tuple[Conversation, list[Message]]:
    """Return what a rollout of these lines states."""
    path = folder / name
    return stated_by(follow(path), path, lines)
