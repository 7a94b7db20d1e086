"""Pi, and oh-my-pi after it: a header, then one entry a line, a tree by `id` and `parentId`.

Appended; a session of an older version is rewritten once, when it is opened. A session that was
forked is a file of its own that begins with copies. All branches of the tree are messages.

Evidence: `packages/coding-agent/docs/session.md` and `src/core/session-manager.ts` of
badlogic/pi-mono at 83378aad, and kenn-io/agentsview's test file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from conv_realtime.core.blocks import Block, tool_result, tool_use
from conv_realtime.core.fields import amount, count, mapping, text, time
from conv_realtime.core.format import Machine
from conv_realtime.core.formats.openai_messages import items
from conv_realtime.core.json_lines import JsonLines, Noted, Said
from conv_realtime.models import TOKEN_FIELDS, Activity, Role, Status

_ROLES: Mapping[Any, Role] = {"user": "user", "assistant": "assistant", "toolResult": "tool"}
_USAGE = dict(zip(TOKEN_FIELDS, ("input", "output", "cacheRead", "cacheWrite"), strict=False))
_STATES: Mapping[Any, tuple[Status, Activity]] = {
    "stop": ("active", "waiting"),
    "length": ("active", "waiting"),
    "aborted": ("active", "waiting"),
    "toolUse": ("active", "working"),
    "error": ("error", "waiting"),
}
_SUMMARIES = ("compaction", "branch_summary")
_FILE = re.compile(r"[^/\\]*_([^_/\\]+)\.jsonl")


class Pi(JsonLines):
    """Pi's sessions."""

    source = "pi"
    title = "Pi"

    def places(self, machine: Machine) -> Sequence[PurePath]:
        """Return `sessions` in the agent's folder."""
        folders = machine.folders("PI_CODING_AGENT_DIR", ".pi/agent", ".omp/agent")
        return [folder / "sessions" for folder in folders]

    def session(self, path: PurePath, records: Sequence[Mapping[str, Any]]) -> str | None:
        """Return the header's id."""
        header = records[0]
        return text(header.get("id")) if header.get("type") == "session" else None

    def noted(self, fields: Mapping[str, Any]) -> Noted:
        """Return what a header, a change of the model or a name says."""
        at = time(fields.get("timestamp"))
        match fields.get("type"):
            case "session":
                return Noted(at, cwd=text(fields.get("cwd")), parent=_parent(fields))
            case "session_info":
                return Noted(at, title=text(fields.get("name")))
            case "model_change":
                return Noted(at, model=text(fields.get("modelId")))
            case _:
                return Noted(at)

    def said(self, fields: Mapping[str, Any]) -> Said | None:
        """Return the message of an entry; summaries and what extensions show are the system's."""
        native, at = text(fields.get("id")), time(fields.get("timestamp"))
        kind = fields.get("type")
        if kind in _SUMMARIES:
            return Said("system", text(fields.get("summary")) or "", native, created_at=at)
        if kind == "custom_message":
            shown = fields.get("display") is True
            return Said("system", _blocks(fields), native, created_at=at) if shown else None
        if kind != "message":
            return None
        message = mapping(fields.get("message"))
        usage, stop = mapping(message.get("usage")), text(message.get("stopReason"))
        role = _ROLES.get(text(message.get("role")), "system")
        return Said(
            role,
            _blocks(message),
            native,
            created_at=at,
            model=text(message.get("model")) if role == "assistant" else None,
            usage={ours: n for ours, key in _USAGE.items() if (n := count(usage.get(key)))},
            state=_STATES.get(stop) if role == "assistant" else None,
            metadata=_metadata(fields, message),
        )


def _parent(header: Mapping[str, Any]) -> str | None:
    """Return the session whose file a header names."""
    stated = text(header.get("parentSession")) or text(header.get("branchedFrom"))
    found = _FILE.search(stated) if stated else None
    return found[1] if found else None


def _metadata(fields: Mapping[str, Any], message: Mapping[str, Any]) -> dict[str, Any]:
    stated = {
        "parent_id": text(fields.get("parentId")),
        "stop_reason": text(message.get("stopReason")),
        "cost_usd": amount(mapping(mapping(message.get("usage")).get("cost")).get("total")),
    }
    return {key: value for key, value in stated.items() if value is not None}


def _blocks(message: Mapping[str, Any]) -> list[Block]:
    if message.get("role") == "bashExecution":
        command, output = text(message.get("command")), text(message.get("output"))
        return [{"type": "text", "text": f"$ {command or ''}\n{output or ''}".rstrip()}]
    content = message.get("content", message.get("summary"))
    said: list[Block] = (
        [{"type": "text", "text": content}]
        if isinstance(content, str)
        else [_block(mapping(part)) for part in items(content)]
    )
    call = text(message.get("toolCallId"))
    if message.get("role") != "toolResult" or call is None:
        return said
    return [tool_result(call, said, failed=message.get("isError") is True)]


def _block(part: Mapping[str, Any]) -> Block:
    match part.get("type"):
        case "toolCall":
            return tool_use(text(part.get("id")), text(part.get("name")), part.get("arguments"))
        case "image":
            source = {"type": "base64", "media_type": part.get("mimeType")}
            return {"type": "image", "source": {**source, "data": part.get("data")}}
        case _:
            return dict(part)
