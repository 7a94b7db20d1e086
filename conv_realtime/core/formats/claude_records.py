"""What one record of a Claude Code transcript says, whatever version wrote it.

The entry format is internal to Claude Code and changes between versions, so nothing here
trusts a field: a missing or odd one reads as absent, an unknown type is kept.

Lines of type `user` are a person's only in part. `isMeta` and its like say so of some, `origin`
and `promptSource` of more (daaain/claude-code-log#309, simonw/claude-code-transcripts#99); what
an editor knows stands before a prompt (kenn-io/agentsview#1238, anthropics/claude-code#31116).
What agents say to each other had only its tags before (kenn-io/agentsview#1223), and tasks that
end had tags of two other kinds (anthropics/claude-code#14715). Which texts are the client's, and
that a command may be a title, says `_internal/sessions.py` of anthropics/claude-agent-sdk-python at
e8bde601.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from conv_realtime.core.blocks import Block, as_blocks
from conv_realtime.core.fields import amount, count, items, mapping, text, time
from conv_realtime.models import TOKEN_FIELDS, Role

SYNTHETIC = "<synthetic>"

# Bookkeeping of the client: it says nothing that a person or a model said.
_STATE_TYPES = frozenset(
    {
        "progress", "summary", "custom-title", "ai-title", "agent-name", "agent-setting",
        "file-history-snapshot", "file-history-delta", "queue-operation", "last-prompt",
        "mode", "permission-mode", "pr-link", "bridge-session", "relocated",
        "worktree-state", "frame-link", "cost-state", "continued-in", "content-replacement",
        "fork-context-ref", "tag",
    }
)  # fmt: skip
# Attachments behind which no response follows, as there would be to what tools gave back: seen
# by Deadweight-Labs/ghosttree in 2.1.287, and by jlreyes/agent-history-skills.
_STOPS = frozenset({"hook_stopped_continuation", "max_turns_reached"})
_HIDDEN_SYSTEM = frozenset({"turn_duration", "stop_hook_summary"})
# Lines of type "user" that the client wrote: nobody typed them.
_CLIENT_MADE = (
    "<local-command-",
    "<system-reminder>",
    "<task-notification>",
    "<agent-notification>",
    "<bash-notification>",
    "<bash-stdout>",
    "<bash-stderr>",
    "<session-start-hook>",
    "<tick>",
    "<goal>",
    "Caveat:",
    "[Request interrupted",
    "Stop hook feedback:",
    "This session is being continued from a previous conversation",
)
_LEAD = "team-lead"  # its own records may name it, as they name a member
# What another agent says, as it is written into a session's file.
_LETTER_STARTS = ("<", "Another Claude")
_LETTER = re.compile(
    r"(?:Another Claude session sent a message[^<]*)?"
    r"<((?:teammate|cross-session|agent)-message)\b[^>]*>(.*?)(?:</\1>|\Z)",
    re.DOTALL,
)
# A command that a model is given; one that the client does itself begins with its name.
_COMMAND = re.compile(
    r"<command-message>.*?</command-message>\s*<command-name>([^<]*)</command-name>"
    r"(?:\s*<command-args>(.*)</command-args>)?",
    re.DOTALL,
)
# Lines around what was pasted: code.claude.com/docs/en/terminal-config, "pasted text".
_PASTED = re.compile(r"</?pasted_content\b[^<>\n]{0,100}>")
_OF_SHELL = re.compile(r"<bash-input>(.*?)(?:</bash-input>|\Z)", re.DOTALL)
# What an editor or the client puts before a prompt, in a text of its own or in the prompt's.
_NOTES = (
    "<ide_opened_file>",
    "<ide_selection>",
    "<ide_diagnostics>",
    "<system-reminder>",
    "<fork-boilerplate>",
)
_MOST_NOTES = 16
_NOT_TYPED = ("isMeta", "isCompactSummary", "isVisibleInTranscriptOnly", "turnCompanion")
_USAGE_KEYS = tuple(
    zip(
        ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
        TOKEN_FIELDS,
        strict=False,
    )
)

_KEPT = (
    ("type", "type"),
    ("subtype", "subtype"),
    ("uuid", "uuid"),
    ("parentUuid", "parent_uuid"),
    ("requestId", "request_id"),
    ("version", "version"),
)


def when(record: Mapping[str, Any]) -> datetime | None:
    """Return the record's time in UTC, or None where it states none that can be read."""
    return time(record.get("timestamp"))


def makes_message(record: Mapping[str, Any]) -> bool:
    """Return whether the record has a row of its own, alone or merged with others."""
    kind = str(record.get("type"))
    if kind in ("user", "assistant"):
        return True
    if kind == "system":
        shown = text(record.get("content")) or record.get("subtype") == "api_error"
        return bool(shown) and str(record.get("subtype")) not in _HIDDEN_SYSTEM
    if kind == "attachment":
        return mapping(record.get("attachment")).get("type") == "queued_command"
    return kind not in _STATE_TYPES and text(record.get("uuid")) is not None


def native_id(record: Mapping[str, Any]) -> str | None:
    """Return what identifies the message, None where the record says nothing of it."""
    if record.get("type") == "assistant":
        stated = text(mapping(record.get("message")).get("id"))
        if stated:
            return stated
    return text(record.get("uuid"))


def role(record: Mapping[str, Any], found: Sequence[Block]) -> Role:
    """Return who speaks in a record with these blocks; see `conv_realtime.models.Role`."""
    kind = record.get("type")
    if kind == "assistant":
        return "system" if is_synthetic(record) else "assistant"
    if kind == "system":
        return "system"
    if kind not in ("user", "attachment"):
        return "other"
    said = record if kind == "user" else mapping(record.get("attachment"))
    for name in _NOT_TYPED:
        if said.get(name) is True:
            return "system"
    if found and found[0].get("type") == "tool_result":
        if all(block.get("type") == "tool_result" for block in found):
            return "tool"
    return "user" if _is_typed(said, found) else "system"


def is_synthetic(record: Mapping[str, Any]) -> bool:
    """Return whether the client made this response itself: an API error, an interruption."""
    return mapping(record.get("message")).get("model") == SYNTHETIC


def _is_typed(said: Mapping[str, Any], found: Sequence[Block]) -> bool:
    """Return whether a person typed it, or a program in a person's place.

    Current versions say where else it is from: another session, a task that ended, a schedule. To
    a subagent nobody but agents speaks, to a member of a team its lead, to the lead a person.
    """
    member = text(said.get("agentName"))
    by_agent = said.get("isSidechain") is True or member not in (None, _LEAD)
    if not by_agent:
        origin = text(mapping(said.get("origin")).get("kind"))
        if origin not in (None, "human") or said.get("promptSource") == "system":
            return False
    typed = prompt(found).lstrip()
    if typed:
        if typed.startswith(_CLIENT_MADE):
            return False
        return by_agent or not (typed.startswith(_LETTER_STARTS) and _LETTER.match(typed))
    # A picture is of a person, notes alone are of nobody.
    return not any(str(block.get("text") or "").strip() for block in found)


def blocks(record: Mapping[str, Any]) -> list[Block]:
    """Return the content of the record as blocks."""
    kind = record.get("type")
    if kind in ("user", "assistant"):
        message = record.get("message")
        return as_blocks(message.get("content") if isinstance(message, dict) else message)
    if kind == "system":
        shown = text(record.get("content")) or _api_error(record)
        return as_blocks(shown)
    if kind == "attachment":
        return as_blocks(mapping(record.get("attachment")).get("prompt"))
    return [dict(record)]


def _api_error(record: Mapping[str, Any]) -> str:
    error = mapping(record.get("error"))
    inner = mapping(mapping(error.get("error")).get("error"))
    said = text(error.get("message")) or text(inner.get("message")) or text(record.get("error"))
    return said or f"API error {error.get('status') or ''}".strip()


def prompt(found: Sequence[Block]) -> str:
    """Return the first text of some blocks, without what is put before prompts; or nothing."""
    for block in found:
        if block.get("type") == "text" and (typed := _typed(str(block.get("text") or ""))):
            return typed
    return ""


def _typed(said: str) -> str:
    """Return what stands behind the notes that a text begins with."""
    for _ in range(_MOST_NOTES):
        rest = said.lstrip()
        if not rest.startswith(_NOTES):
            break
        _, ended, behind = rest.partition(f"</{rest[1 : rest.index('>')]}>")
        if not ended:
            break
        said = behind
    return "" if said.isspace() else said


def model(record: Mapping[str, Any]) -> str | None:
    """Return which model answers in the record, None where none does."""
    if record.get("type") != "assistant":
        return None
    stated = text(mapping(record.get("message")).get("model"))
    return None if stated == SYNTHETIC else stated


def asked(said: str) -> tuple[Literal["prompt", "command"], str]:
    """Return what a prompt gives as title, or nothing, and how good a one that is.

    A command with arguments says what was asked; without any, and in the shell, it is a title
    where there is no other. One that the client does itself is none.
    """
    said = _PASTED.sub("", said).strip()
    if command := _COMMAND.match(said):
        arguments = (command[2] or "").strip()
        return "prompt" if arguments else "command", f"{command[1].strip()} {arguments}".strip()
    if command := _OF_SHELL.match(said):
        return "command", f"! {command[1].strip()}"
    if letter := _LETTER.match(said):
        return "prompt", letter[2].strip()
    return "prompt", "" if said.startswith("<command-") else said


def is_clients(said: str) -> bool:
    """Return whether a prompt is a command that the client does itself, without the model.

    It is written when it is done, and nothing follows (ingo-eichhorst/Irrlicht#2034).
    """
    return said.startswith("<command-name>")


def stops_turn(record: Mapping[str, Any]) -> bool:
    """Return whether an attachment says that the turn is over."""
    return text(mapping(record.get("attachment")).get("type")) in _STOPS


def usage(record: Mapping[str, Any]) -> dict[str, int]:
    """Return the tokens that a model's answer states, by our names.

    Those of an advisor whom it asked are stated apart from its own (ccusage/ccusage#1115).
    """
    stated = mapping(mapping(record.get("message")).get("usage"))
    found = {}
    for theirs, ours in _USAGE_KEYS:
        if (value := count(stated.get(theirs))) is not None:
            found[ours] = value
    if details := stated.get("output_tokens_details"):
        if (value := count(mapping(details).get("thinking_tokens"))) is not None:
            found["reasoning_tokens"] = value
    for one in map(mapping, items(stated.get("iterations"))):
        if one.get("type") == "advisor_message":
            for theirs, ours in _USAGE_KEYS:
                if value := count(one.get(theirs)):
                    found[ours] = found.get(ours, 0) + value
    return found


def metadata(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what else of the record is worth keeping beside its message."""
    found: dict[str, Any] = {
        ours: value
        for theirs, ours in _KEPT
        if isinstance(value := record.get(theirs), str) and value
    }
    if stop := text(mapping(record.get("message")).get("stop_reason")):
        found["stop_reason"] = stop
    if cost := amount(record.get("costUSD")):  # stated until version 1
        found["cost_usd"] = cost
    return found
