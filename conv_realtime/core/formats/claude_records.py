"""What one record of a Claude Code transcript says, whatever version wrote it.

The entry format is internal to Claude Code and changes between versions, so nothing here
trusts a field: a missing or odd one reads as absent, an unknown type is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from conv_realtime.core.blocks import Block, as_blocks
from conv_realtime.core.fields import amount, count, mapping, text, time
from conv_realtime.models import TOKEN_FIELDS, Role

SYNTHETIC = "<synthetic>"

Kind = Literal["message", "title", "state"]

# Bookkeeping of the client: it says nothing that a person or a model said.
_STATE_TYPES = frozenset(
    {
        "progress", "summary", "custom-title", "ai-title", "agent-name", "agent-setting",
        "file-history-snapshot", "file-history-delta", "queue-operation", "last-prompt",
        "mode", "permission-mode", "pr-link", "bridge-session", "relocated",
        "worktree-state", "frame-link",
    }
)  # fmt: skip
_HIDDEN_SYSTEM = frozenset({"turn_duration", "stop_hook_summary"})
# Lines of type "user" that the client wrote: nobody typed them.
_CLIENT_MADE = (
    "<local-command-",
    "<system-reminder>",
    "<task-notification>",
    "<bash-stdout>",
    "<bash-stderr>",
    "Caveat:",
    "[Request interrupted",
)
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
    if kind == "attachment":
        return "system" if _is_client_made(prompt(found)) else "user"
    if kind != "user":
        return "other"
    if record.get("isMeta") is True or record.get("isCompactSummary") is True:
        return "system"
    if found and all(block.get("type") == "tool_result" for block in found):
        return "tool"
    return "system" if _is_client_made(prompt(found)) else "user"


def is_synthetic(record: Mapping[str, Any]) -> bool:
    """Return whether the client made this response itself: an API error, an interruption."""
    return mapping(record.get("message")).get("model") == SYNTHETIC


def _is_client_made(prompted: str) -> bool:
    return prompted.lstrip().startswith(_CLIENT_MADE)


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
    """Return the first text of some blocks, or an empty string."""
    for block in found:
        if block.get("type") == "text":
            return str(block.get("text") or "")
    return ""


def usage(record: Mapping[str, Any]) -> dict[str, int]:
    """Return the tokens that the record states, by our names; a synthetic one states none."""
    stated = mapping(mapping(record.get("message")).get("usage"))
    if not stated or is_synthetic(record):
        return {}
    return {
        ours: value
        for theirs, ours in _USAGE_KEYS
        if (value := count(stated.get(theirs))) is not None
    }


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
