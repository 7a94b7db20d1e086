"""GitHub Copilot CLI: one event a line in `session-state/<session>/events.jsonl`.

Appended, also by a session that is resumed. A response is one `assistant.message`; what its tools
gave back comes as `tool.execution_complete`. Subagents' events stand among the others, marked with
an `agentId`, or in older versions with the call that began one: each is a conversation of its own.
A message states the tokens that it cost to say; those that were read are told when the program
ends, and are counted to the last response. They are the whole session's, also when it was resumed
(getagentseal/codeburn#946); in older versions, and after a compaction, they begin anew
(PanAchy/copilot-arewecooked#45). `session.snapshot_rewind` takes everything from an event on back.

Undocumented (github/copilot-cli#3551). Evidence: the types in `python/copilot/generated/
session_events.py` of github/copilot-sdk, and real sessions of version 1.0.78 in
WildChildForLife/lantern, `fixtures/copilot-home`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from conv_realtime.core.blocks import Block, as_blocks, tool_result, tool_use
from conv_realtime.core.conversation_fold import ConversationFold
from conv_realtime.core.fields import count, items, mapping, text, time
from conv_realtime.core.format import Machine
from conv_realtime.core.json_lines import JsonLines, JsonLinesTranscript, Noted, Said
from conv_realtime.core.records import Record
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.models import Activity, Role

_USAGE = {
    "inputTokens": "input_tokens",
    "outputTokens": "output_tokens",
    "cacheReadTokens": "cache_read_tokens",
    "cacheWriteTokens": "cache_write_tokens",
    "reasoningTokens": "reasoning_tokens",
}
# That a person is asked to allow something, and has answered: seen in github/copilot-cli#3284.
_PERMISSIONS: Mapping[Any, Activity] = {
    "permission.requested": "waiting",
    "permission.completed": "working",
}


class CopilotCli(JsonLines):
    """GitHub Copilot CLI's sessions."""

    source = "copilot_cli"
    title = "GitHub Copilot CLI"

    def places(self, machine: Machine) -> Sequence[PurePath]:
        """Return the folder of sessions."""
        return [home / "session-state" for home in machine.folders("COPILOT_HOME", ".copilot")]

    def session(self, path: PurePath, records: Sequence[Mapping[str, Any]]) -> str | None:
        """Return the session that the first event begins."""
        first = records[0]
        if first.get("type") != "session.start" or "data" not in first:
            return None
        return text(mapping(first["data"]).get("sessionId"))

    def transcript(self, path: PurePath, sanitizer: Sanitizer) -> CopilotTranscript:
        """Return the fold of a session."""
        return CopilotTranscript(self, path, sanitizer)

    def noted(self, fields: Mapping[str, Any]) -> Noted:
        """Return what an event says of its session."""
        data, at = mapping(fields.get("data")), time(fields.get("timestamp"))
        match fields.get("type"):
            case "session.start" | "session.resume":
                place = mapping(data.get("context"))
                parent = text(data.get("detachedFromSpawningParentSessionId"))
                return Noted(
                    at,
                    cwd=text(place.get("cwd")),
                    git_branch=text(place.get("branch")),
                    model=text(data.get("selectedModel")),
                    parent=parent,
                )
            case "session.context_changed":
                return Noted(at, cwd=text(data.get("cwd")), git_branch=text(data.get("branch")))
            case "session.model_change":
                return Noted(at, model=text(data.get("newModel")))
            case "session.title_changed":
                return Noted(at, title=text(data.get("title")))
            case "session.error":
                return Noted(at, state=("error", "waiting"))
            case "abort" | "session.idle":
                return Noted(at, state=("active", "waiting"))
            case "subagent.completed" | "subagent.failed" if _agent(fields):
                failed = fields["type"] == "subagent.failed"
                return Noted(at, state=("error" if failed else "completed", "ended"))
            case "session.shutdown":
                failed = data.get("shutdownType") == "error"
                return Noted(at, state=("error" if failed else "completed", "ended"))
            case _:
                return Noted(at)

    def said(self, fields: Mapping[str, Any]) -> Said | None:
        """Return the message of an event."""
        data = mapping(fields.get("data"))
        said = _said(fields.get("type"), data, told=_agent(fields) is not None)
        if said is None:
            return None
        native = said.native or text(fields.get("id"))
        return replace(said, native=native, created_at=time(fields.get("timestamp")))


def _agent(fields: Mapping[str, Any]) -> str | None:
    """Return the subagent that an event is of: in older versions the call that began it."""
    data = mapping(fields.get("data"))
    begins = str(fields.get("type")).startswith("subagent.")
    call = data.get("toolCallId" if begins else "parentToolCallId")
    return text(fields.get("agentId")) or text(call)


def _permission(fields: Mapping[str, Any]) -> Activity | None:
    """Return whose turn it is behind a question for permission, or its answer."""
    by_hook = mapping(fields.get("data")).get("resolvedByHook") is True
    return None if by_hook else _PERMISSIONS.get(text(fields.get("type")))


def _said(kind: Any, data: Mapping[str, Any], *, told: bool) -> Said | None:
    match kind:
        case "user.message":
            role: Role = "user" if _is_asked(data, told=told) else "system"
            return Said(role, text(data.get("content")) or "")
        case "system.message" | "system.notification":
            return Said("system", text(data.get("content")) or "")
        case "session.error" if why := text(data.get("message")):
            return Said("system", why)
        case "session.compaction_complete" if summary := text(data.get("summaryContent")):
            return Said("system", summary)
        case "assistant.message":
            output = count(data.get("outputTokens"))
            return Said(
                "assistant",
                _blocks(data),
                text(data.get("messageId")),
                model=text(data.get("model")),
                usage={"output_tokens": output} if output else {},
            )
        case "tool.user_requested":
            command = text(mapping(data.get("arguments")).get("command"))
            return Said("system", f"$ {command}") if command else None
        case "tool.execution_complete":
            result, error = mapping(data.get("result")), mapping(data.get("error"))
            content = text(result.get("content")) or text(error.get("message")) or ""
            if data.get("isUserRequested") is True:  # of a person's `!`: no model waits for it
                return Said("system", content) if content else None
            failed = data.get("success") is False
            return Said("tool", [tool_result(text(data.get("toolCallId")), content, failed=failed)])
        case "session.shutdown":
            # What it says is said of another message: see `CopilotTranscript`.
            return Said("other", [], usage=_spent(data))
        case _:
            return None


def _is_asked(data: Mapping[str, Any], *, told: bool) -> bool:
    """Return whether a person asks it, or who began a subagent: that one is `told`.

    `source` names who else speaks: a skill, another agent, the loop that goes on by itself, or the
    program. What a command or a schedule brings, a person wrote (github/copilot-sdk, generated
    `SendMessageItem`).
    """
    source = text(data.get("source")) or ""
    if source.startswith("skill-") or source in ("autopilot", "system"):
        return False
    agents = source.startswith("agent-") and not told
    return not agents and data.get("isAutopilotContinuation") is not True


def _blocks(data: Mapping[str, Any]) -> list[Block]:
    thought = text(data.get("reasoningText"))
    return [
        *([{"type": "thinking", "thinking": thought}] if thought else []),
        *as_blocks(text(data.get("content"))),
        *(
            tool_use(text(call.get("toolCallId")), text(call.get("name")), call.get("arguments"))
            for call in map(mapping, items(data.get("toolRequests")))
        ),
    ]


def _spent(data: Mapping[str, Any]) -> dict[str, int]:
    """Return the total that an end of the program states, of all models."""
    total = dict.fromkeys(_USAGE.values(), 0)
    for metrics in mapping(data.get("modelMetrics")).values():
        usage = mapping(mapping(metrics).get("usage"))
        for theirs, ours in _USAGE.items():
            total[ours] += count(usage.get(theirs)) or 0
    cached = total["cache_read_tokens"] + total["cache_write_tokens"]
    total["input_tokens"] = max(total["input_tokens"] - cached, 0)
    return total if any(total.values()) else {}


class CopilotTranscript(JsonLinesTranscript):
    """The fold of one session; its threads are its subagents."""

    def __init__(self, form: JsonLines, path: PurePath, sanitizer: Sanitizer) -> None:
        super().__init__(form, path, sanitizer)
        self._answers: dict[str | None, list[str]] = {}  # that stand, by thread
        self._events: list[tuple[str, str | None, str]] = []  # event, thread and message
        self._total: Mapping[str, int] = {}  # that was stated last
        self._output = 0  # that messages stated since

    def add(self, record: Record) -> None:
        """Take the next event."""
        fields = record.fields
        self.note_session(record)
        stated = _agent(fields)
        agent = self.id(stated) if stated else None
        fold = self.fold(agent, agent)
        if agent is not None and fold.cwd is None:
            main = self.fold()
            fold.cwd, fold.git_branch = main.cwd, main.git_branch
        noted, said = self.read(record)
        self.note(fold, record, noted, said)
        if fields.get("type") == "session.snapshot_rewind":
            self._rewind(record, text(mapping(fields.get("data")).get("upToEventId")))
        elif said is not None and (native := self._native(fold, said)):
            said = replace(said, native=native, usage=self._added(said))
            entry = self.take(fold, record, said)
            self._events.append((text(fields.get("id")) or "", agent, entry.native))
        if noted.state is not None:
            fold.settle(*noted.state)
        elif (activity := _permission(fields)) is not None:
            fold.is_at("active", activity)  # also a subagent, which has not ended

    def _native(self, fold: ConversationFold, said: Said) -> str | None:
        """Return which message an event is of: what was read is told behind the last answer."""
        answers = self._answers.setdefault(fold.thread, [])
        if said.role == "other":
            return answers[-1] if answers and said.usage else None
        if said.role == "assistant" and said.native:
            answers.append(said.native)
        return said.native

    def _added(self, said: Said) -> Mapping[str, int]:
        """Return what is spent anew: of a total what is more than in the one before.

        Unless what messages stated is nearer to all of it: then it began anew.
        """
        if said.role != "other":
            self._output += said.usage.get("output_tokens", 0)
            return said.usage
        before, total = self._total, said.usage
        more = {name: value - before.get(name, 0) for name, value in total.items()}
        off = [abs(one.get("output_tokens", 0) - self._output) for one in (more, total)]
        self._total, self._output = total, 0
        added = more if min(more.values()) >= 0 and off[0] <= off[1] else total
        return {name: n for name, n in added.items() if n and name != "output_tokens"}

    def _rewind(self, record: Record, event: str | None) -> None:
        """Take back every message from an event on."""
        place = next((i for i, known in enumerate(self._events) if known[0] == event), None)
        if place is None:
            return
        gone, self._events = self._events[place:], self._events[:place]
        natives = {native for _, _, native in gone}
        for answers in self._answers.values():
            answers[:] = [native for native in answers if native not in natives]
        for _, thread, native in gone:
            self.withdraw(self.fold(thread), record, [native], time(record.fields.get("timestamp")))
