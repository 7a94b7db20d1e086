"""Kimi CLI: what its interface is told, one event a line, in `<session>/wire.jsonl`.

Appended: a header, then `{"timestamp", "message": {"type", "payload"}}`. A response comes in parts:
those of one step are one message, named by where its first part stands. Events of subagents are in
files of their own, `subagents/<agent>/wire.jsonl`, and repeated in the session's; older versions
have them there alone, below the call that began them. The working directory is only a hash in the
path; no line names a model. Kimi Code, the successor, writes another format, which is not read.

Evidence: `src/kimi_cli/wire/file.py`, `wire/types.py`, `subagents/` and `packages/kosong` of
MoonshotAI/kimi-cli at 4a550eff.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from conv_realtime.core.blocks import Block, as_blocks, text_of, tool_result, tool_use
from conv_realtime.core.fields import count, mapping, text, time
from conv_realtime.core.format import Machine
from conv_realtime.core.formats.openai_messages import arguments
from conv_realtime.core.json_lines import JsonLines, JsonLinesTranscript, Noted, Said
from conv_realtime.core.records import Record
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.models import TOKEN_FIELDS, Activity

_USAGE = dict(
    zip(
        TOKEN_FIELDS,
        ("input_other", "output", "input_cache_read", "input_cache_creation"),
        strict=False,
    )
)
_REMINDER = "<system-reminder>"  # the client's, of a turn that it begins by itself
# What a person is asked to allow or to choose; no answer to a question is told but its result.
_ASKS: Mapping[Any, Activity] = {
    "ApprovalRequest": "waiting",
    "QuestionRequest": "waiting",
    "ApprovalResponse": "working",
}
_BEGINS = frozenset({"TurnBegin", "SteerInput", "StepBegin", "StepInterrupted", "TurnEnd"})


class KimiCli(JsonLines):
    """Kimi CLI's sessions."""

    source = "kimi_cli"
    title = "Kimi CLI"

    def places(self, machine: Machine) -> Sequence[PurePath]:
        """Return the folder of sessions."""
        return [home / "sessions" for home in machine.folders("KIMI_SHARE_DIR", ".kimi")]

    def is_named(self, path: str) -> bool:
        """Return whether the file is named as what the interface is told."""
        return path.endswith(("/wire.jsonl", "\\wire.jsonl"))

    def session(self, path: PurePath, records: Sequence[Mapping[str, Any]]) -> str | None:
        """Return the name of the session's folder."""
        if not any(map(_is_wire, records)):
            return None
        return path.parents[2].name if _is_subagent(path) else path.parent.name

    def agent(self, path: PurePath) -> str | None:
        """Return the name of a folder among a session's subagents."""
        return path.parent.name if _is_subagent(path) else None

    def transcript(self, path: PurePath, sanitizer: Sanitizer) -> KimiTranscript:
        """Return the fold of a file."""
        return KimiTranscript(self, path, sanitizer)

    def noted(self, fields: Mapping[str, Any]) -> Noted:
        """Return what the end of a turn says."""
        at = time(fields.get("timestamp"))
        ended = event(fields)[0] in ("TurnEnd", "StepInterrupted")
        return Noted(at, state=("active", "waiting") if ended else None)

    def said(self, fields: Mapping[str, Any]) -> Said | None:
        """Return the message, or the part of one, that an event states."""
        said = _said(*event(fields))
        return said and replace(said, created_at=time(fields.get("timestamp")))


def event(fields: Mapping[str, Any]) -> tuple[str | None, Mapping[str, Any]]:
    """Return type and payload of an event, of a subagent's those of the event within it."""
    message = mapping(fields.get("message"))
    kind, payload = text(message.get("type")), mapping(message.get("payload"))
    if kind == "SubagentEvent":
        inner = mapping(payload.get("event"))
        return text(inner.get("type")), mapping(inner.get("payload"))
    return kind, payload


def _said(kind: str | None, payload: Mapping[str, Any]) -> Said | None:
    match kind:
        case "TurnBegin" | "SteerInput":
            said = _parts(payload.get("user_input"))
            own = text_of(said).lstrip().startswith(_REMINDER)
            return Said("system" if own else "user", said, state=("active", "working"))
        case "ContentPart":
            return Said("assistant", _parts([payload]))
        case "ToolCall":
            function = mapping(payload.get("function"))
            given = arguments(function.get("arguments"))
            call = tool_use(text(payload.get("id")), text(function.get("name")), given)
            return Said("assistant", [call])
        case "StatusUpdate":
            usage = mapping(payload.get("token_usage"))
            stated = {ours: n for ours, key in _USAGE.items() if (n := count(usage.get(key)))}
            return Said("assistant", [], usage=stated) if stated else None
        case "ToolResult":
            value = mapping(payload.get("return_value"))
            output = _parts(value.get("output")) or _parts(value.get("message"))
            failed = value.get("is_error") is True
            return Said(
                "tool", [tool_result(text(payload.get("tool_call_id")), output, failed=failed)]
            )
        case _:
            return None


def _parts(content: Any) -> list[Block]:
    return [
        {"type": "thinking", "thinking": text(part.get("think")) or ""}
        if part.get("type") == "think"
        else part
        for part in as_blocks(content)
    ]


def _is_wire(fields: Mapping[str, Any]) -> bool:
    if fields.get("type") == "metadata":
        return "protocol_version" in fields
    return "timestamp" in fields and "payload" in mapping(fields.get("message"))


def _is_subagent(path: PurePath) -> bool:
    return len(path.parts) > 3 and path.parents[1].name == "subagents"


class KimiTranscript(JsonLinesTranscript):
    """The fold of one file; its threads are subagents that have no file of their own."""

    def __init__(self, form: JsonLines, path: PurePath, sanitizer: Sanitizer) -> None:
        super().__init__(form, path, sanitizer)
        self._steps: dict[str | None, str] = {}  # the response that goes on, by thread

    def add(self, record: Record) -> None:
        """Take the next event."""
        fields = record.fields
        self.note_session(record)
        message = mapping(fields.get("message"))
        agent = self.agent
        if message.get("type") == "SubagentEvent":
            about = mapping(message.get("payload"))
            call = text(about.get("parent_tool_call_id")) or text(about.get("task_tool_call_id"))
            if text(about.get("agent_id")) or call is None:
                return  # it is in the subagent's own file
            agent = self.id(call)
        fold = self.fold(agent if agent != self.agent else None, agent)
        noted, said = self.read(record)
        self.note(fold, record, noted, said)
        kind = event(fields)[0]
        if kind in _BEGINS:
            self._steps.pop(fold.thread, None)
        elif kind in _ASKS:
            fold.is_at("active", _ASKS[kind])  # also a subagent, which has not ended
        if said is None:
            return
        if said.role == "assistant":
            if not said.content and fold.thread not in self._steps:
                return  # tokens of nothing that is there
            step = self._steps.setdefault(fold.thread, f"@{record.start}")
            said = replace(said, native=step)
        self.take(fold, record, said)
