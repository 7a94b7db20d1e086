"""Qwen Code: records as Claude Code's, with Gemini's parts in them, in `chats/<session>.jsonl`.

Appended. A response of the model is one record. Its tokens are of that response; those of its
thoughts are among its output. Records of type `system` are the client's bookkeeping, of which
titles, parents and ends of turns are read; `rewind` counts what the screen lost, in no unit of the
file. Subagents lie beside `chats`, in `subagents/<session>/agent-<id>.jsonl`; their records name
the session.

Evidence: `packages/core/src/services/chatRecordingService.ts` and `config/storage.ts` of
QwenLM/qwen-code at 015346f1, `agents/agent-transcript.ts` at 015f2838, and real sessions of version
0.21.6 in WildChildForLife/lantern, `fixtures/qwen-home`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from conv_realtime.core.blocks import Block, tool_result, tool_use
from conv_realtime.core.conversation_fold import ConversationFold, Entry
from conv_realtime.core.fields import count, items, mapping, text, time
from conv_realtime.core.format import Machine
from conv_realtime.core.json_lines import JsonLines, JsonLinesTranscript, Noted, Said
from conv_realtime.core.records import Record
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.models import Role

_ROLES: Mapping[Any, Role] = {"user": "user", "assistant": "assistant", "tool_result": "tool"}
_TYPES = frozenset({*_ROLES, "system"})
_BY_PERSON = frozenset({"mid_turn_user_message", "realtime_message"})  # typed later, or spoken
_TURN_ENDS = "turn_result"


class QwenCode(JsonLines):
    """Qwen Code's chats."""

    source = "qwen_code"
    title = "Qwen Code"

    def places(self, machine: Machine) -> Sequence[PurePath]:
        """Return `projects` in the runtime folder."""
        return [home / "projects" for home in machine.folders("QWEN_RUNTIME_DIR", ".qwen")]

    def session(self, path: PurePath, records: Sequence[Mapping[str, Any]]) -> str | None:
        """Return the session that the first record names."""
        first = records[0]
        parts = "parts" in mapping(first.get("message")) or "systemPayload" in first
        known = text(first.get("type")) in _TYPES and "uuid" in first and parts
        return text(first.get("sessionId")) if known else None

    def agent(self, path: PurePath) -> str | None:
        """Return which subagent's a file in the folder of a session's is."""
        if len(path.parts) < 3 or path.parents[1].name != "subagents":
            return None
        return path.stem.removeprefix("agent-")

    def transcript(self, path: PurePath, sanitizer: Sanitizer) -> QwenTranscript:
        """Return the fold of a file."""
        return QwenTranscript(self, path, sanitizer)

    def noted(self, fields: Mapping[str, Any]) -> Noted:
        """Return where it happened, and what titles, parents and ends of turns say."""
        stated = mapping(fields.get("systemPayload"))
        forked = mapping(fields.get("forkedFrom"))
        failed = stated.get("state") == "error"
        return Noted(
            at=time(fields.get("timestamp")),
            title=text(stated.get("customTitle")),
            cwd=text(fields.get("cwd")),
            git_branch=text(fields.get("gitBranch")),
            parent=text(stated.get("parentSessionId")) or text(forked.get("sessionId")),
            state=("error" if failed else "active", "waiting") if _ends_turn(fields) else None,
        )

    def said(self, fields: Mapping[str, Any]) -> Said | None:
        """Return the message of a record."""
        native, at = text(fields.get("uuid")), time(fields.get("timestamp"))
        if _ends_turn(fields):
            error = mapping(mapping(fields.get("systemPayload")).get("error"))
            why = text(error.get("message"))
            return Said("system", why, native, created_at=at) if why else None
        role = _ROLES.get(text(fields.get("type")))
        if role is None:
            return None
        if role == "user" and not _typed(fields):
            role = "system"
        parts = items(mapping(fields.get("message")).get("parts"))
        return Said(
            role,
            [_block(part) for part in map(mapping, parts)],
            native,
            created_at=at,
            model=text(fields.get("model")) if role == "assistant" else None,
            usage=_usage(mapping(fields.get("usageMetadata"))),
        )


class QwenTranscript(JsonLinesTranscript):
    """The fold of one file. Beside what a model was given, it has what a person typed."""

    def take(self, fold: ConversationFold, record: Record, said: Said) -> Entry:
        """Take a message; hooks and files add to a prompt, and not to its title."""
        typed = text(mapping(record.fields.get("systemPayload")).get("displayText"))
        if said.role == "user" and typed and typed.strip():
            fold.titles.setdefault("prompt", self.shortened(typed))
        return super().take(fold, record, said)


def _ends_turn(fields: Mapping[str, Any]) -> bool:
    """Return whether it says how a turn ended: those of an editor or a daemon are told."""
    return fields.get("type") == "system" and fields.get("subtype") == _TURN_ENDS


def _typed(fields: Mapping[str, Any]) -> bool:
    """Return whether a person wrote it: older versions do not say where a record is from."""
    subtype = text(fields.get("subtype"))
    if subtype is not None and subtype not in _BY_PERSON:
        return False
    return fields.get("provenance") in (None, "real_user")


def _block(part: Mapping[str, Any]) -> Block:
    if "functionCall" in part:
        call = mapping(part["functionCall"])
        return tool_use(text(call.get("id")), text(call.get("name")), call.get("args"))
    if "functionResponse" in part:
        answer = mapping(part["functionResponse"])
        response = mapping(answer.get("response"))
        failed = text(response.get("error"))
        said = failed or response.get("output", dict(response))
        return tool_result(text(answer.get("id")), said, failed=failed is not None)
    if part.get("thought") is True:
        return {"type": "thinking", "thinking": text(part.get("text")) or ""}
    if "text" in part:
        return {"type": "text", "text": text(part["text"]) or ""}
    return dict(part)


def _usage(stated: Mapping[str, Any]) -> dict[str, int]:
    prompt, total = count(stated.get("promptTokenCount")), count(stated.get("totalTokenCount"))
    cached = count(stated.get("cachedContentTokenCount")) or 0
    output = count(stated.get("candidatesTokenCount"))
    if prompt is not None and total is not None and total >= prompt:
        output = total - prompt  # some providers count thoughts among the candidates, some do not
    found = {
        "input_tokens": None if prompt is None else max(prompt - cached, 0),
        "output_tokens": output,
        "cache_read_tokens": cached,
        "reasoning_tokens": count(stated.get("thoughtsTokenCount")),
    }
    return {name: value for name, value in found.items() if value}
