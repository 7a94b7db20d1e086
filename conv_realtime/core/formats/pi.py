"""Pi, and oh-my-pi after it: a header, then one entry a line, a tree by `id` and `parentId`.

Appended; a session of an older version is rewritten once, when it is opened. A session that was
forked is a file of its own that begins with copies. All branches of the tree are messages.

oh-my-pi writes the title before the header, on a line of 256 bytes that it overwrites, and appends
each new one too; its subagents are files in a folder named as the session's file.

Evidence: `packages/coding-agent/docs/session.md` and `src/core/session-manager.ts` of
badlogic/pi-mono at 83378aad, `packages/ai/src/types.ts` of earendil-works/pi at 023aec70 for
tokens and errors; `docs/session.md` at 034bf224, `src/session/session-entries.ts` at 01d016ca and
`packages/ai/src/types.ts` at 02bcbae4 of can1357/oh-my-pi; kenn-io/agentsview's test files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from conv_realtime.core.blocks import Block, tool_result, tool_use
from conv_realtime.core.fields import amount, count, items, mapping, text, time
from conv_realtime.core.format import Claim, Head, Machine
from conv_realtime.core.json_lines import JsonLines, Noted, Said
from conv_realtime.models import TOKEN_FIELDS, Activity, Role, Status

_ROLES: Mapping[Any, Role] = {"user": "user", "assistant": "assistant", "toolResult": "tool"}
_USAGE = dict(zip(TOKEN_FIELDS, ("input", "output", "cacheRead", "cacheWrite"), strict=False))
_THOUGHT = ("reasoning", "reasoningTokens")  # among the output; Pi's name, and oh-my-pi's
_STATES: Mapping[Any, tuple[Status, Activity]] = {
    "stop": ("active", "waiting"),
    "length": ("active", "waiting"),
    "aborted": ("active", "waiting"),
    "toolUse": ("active", "working"),
    "error": ("error", "waiting"),
}
_EXECUTIONS: Mapping[Any, str] = {"bashExecution": "$", "pythonExecution": ">>>"}
_SUMMARIES = ("compaction", "branch_summary")
_FILE = re.compile(r"[^/\\]*_([^_/\\]+)\.jsonl")
_ID = re.compile(r"[\w-]+")
_FOLDER = re.compile(r"\d{4}-\d\d-\d\dT[^_]*_([^_]+)")


class Pi(JsonLines):
    """Pi's sessions."""

    source = "pi"
    title = "Pi"

    def places(self, machine: Machine) -> Sequence[PurePath]:
        """Return `sessions` in the agent's folder."""
        folders = machine.folders("PI_CODING_AGENT_DIR", ".pi/agent", ".omp/agent")
        return [folder / "sessions" for folder in folders]

    def claim(self, path: PurePath, head: Head) -> Claim:
        """Return which session the file is of; a title alone is none yet."""
        if all(record.fields.get("type") == "title" for record in head.records):
            return "unsure"
        return super().claim(path, head)

    def session(self, path: PurePath, records: Sequence[Mapping[str, Any]]) -> str | None:
        """Return the header's id; of a subagent, what names the folder."""
        header = next((one for one in records if one.get("type") != "title"), {})
        if header.get("type") != "session":
            return None
        folder = _of_session(path)
        return folder[0] if folder else text(header.get("id"))

    def agent(self, path: PurePath) -> str | None:
        """Return the subagent's name: its place in the session's folder."""
        folder = _of_session(path)
        return folder[1] if folder else None

    def noted(self, fields: Mapping[str, Any]) -> Noted:
        """Return what a header, a change of the model or a name says."""
        at = time(fields.get("timestamp"))
        match fields.get("type"):
            case "session":
                title, cwd = text(fields.get("title")), text(fields.get("cwd"))
                return Noted(at, title=title, cwd=cwd, parent=_parent(fields))
            case "title" | "title_change":
                return Noted(at, title=text(fields.get("title")))
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
            summary, cost = text(fields.get("summary")) or "", _metadata({}, fields)
            usage = _usage(mapping(fields.get("usage")))
            return Said("system", summary, native, created_at=at, usage=usage, metadata=cost)
        if kind == "custom_message":
            shown = fields.get("display") is True
            return Said("system", _blocks(fields), native, created_at=at) if shown else None
        if kind != "message":
            return None
        message = mapping(fields.get("message"))
        stop = text(message.get("stopReason"))
        role = _ROLES.get(text(message.get("role")), "system")
        if message.get("synthetic") is True:  # the client goes on by itself
            role = "system"
        return Said(
            role,
            _blocks(message),
            native,
            created_at=at,
            model=text(message.get("model")) if role == "assistant" else None,
            usage=_usage(mapping(message.get("usage"))),
            state=_STATES.get(stop) if role == "assistant" else None,
            metadata=_metadata(fields, message),
        )


def _of_session(path: PurePath) -> tuple[str, str] | None:
    """Return the session in whose folder a file is, and the file's place there."""
    for folder in path.parents:
        if found := _FOLDER.fullmatch(folder.name):
            return found[1], path.relative_to(folder).with_suffix("").as_posix()
    return None


def _parent(header: Mapping[str, Any]) -> str | None:
    """Return the session that a header names, by its file or by itself."""
    stated = text(header.get("parentSession")) or text(header.get("branchedFrom"))
    found = _FILE.search(stated) if stated else None
    return found[1] if found else stated if stated and _ID.fullmatch(stated) else None


def _usage(stated: Mapping[str, Any]) -> dict[str, int]:
    found = {ours: n for ours, key in _USAGE.items() if (n := count(stated.get(key)))}
    thought = next((n for key in _THOUGHT if (n := count(stated.get(key)))), None)
    return {**found, "reasoning_tokens": thought} if thought else found


def _metadata(fields: Mapping[str, Any], message: Mapping[str, Any]) -> dict[str, Any]:
    stated = {
        "parent_id": text(fields.get("parentId")),
        "stop_reason": text(message.get("stopReason")),
        "cost_usd": amount(mapping(mapping(message.get("usage")).get("cost")).get("total")),
    }
    return {key: value for key, value in stated.items() if value is not None}


def _blocks(message: Mapping[str, Any]) -> list[Block]:
    if (prompt := _EXECUTIONS.get(text(message.get("role")))) is not None:
        command = text(message.get("command")) or text(message.get("code")) or ""
        output = text(message.get("output")) or ""
        return [{"type": "text", "text": f"{prompt} {command}\n{output}".rstrip()}]
    content = message.get("content", message.get("summary"))
    said: list[Block] = (
        [{"type": "text", "text": content}]
        if isinstance(content, str)
        else [_block(mapping(part)) for part in items(content)]
    )
    if not said and (error := text(message.get("errorMessage"))):
        return [{"type": "text", "text": error}]
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
        case "anthropicServerTool":
            return dict(mapping(part.get("block")))
        case _:
            return dict(part)
