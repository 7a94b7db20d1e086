"""What one line of a Codex rollout says, whatever version wrote it.

Codex calls its rollouts best effort (openai/codex#45251), so nothing here trusts a field. Lines
have had three forms; file names are those of openai/codex, below `codex-rs`:

* `{"timestamp", "type", "payload"}`, and `ordinal` in paginated histories: `RolloutLine` in
  `protocol/src/protocol.rs`, `rollout/src/policy.rs` says what is written.
* `{"timestamp", "record_type", …}`, some weeks of September 2025: `TaggedLine` in
  `core/src/rollout/recorder.rs`.
* The item alone, before: `{"type": "message", …}` behind a header `{"id", "timestamp",
  "instructions"}`, with `{"record_type": "state"}` in between.

What is said stands in response items, which are what the model saw (`codex_items`). Events say
most of it once more, for the terminal; of them only what items do not tell is read: which text a
person typed, where a turn begins and ends, tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from conv_realtime.core.blocks import Block, as_blocks, text_of
from conv_realtime.core.fields import count, mapping, text, time
from conv_realtime.core.formats import codex_items as items
from conv_realtime.core.formats.codex_tokens import Report
from conv_realtime.models import Role

KINDS = frozenset(
    {
        "session_meta", "response_item", "event_msg", "turn_context", "compacted", "world_state",
        "inter_agent_communication", "inter_agent_communication_metadata", "token_usage_record",
        "retained_context", "security_risk_score", "realtime_item",
    }
)  # fmt: skip
_BARE_ITEMS = frozenset(
    {
        "message", "reasoning", "function_call", "function_call_output", "local_shell_call",
        "custom_tool_call", "custom_tool_call_output", "web_search_call",
    }
)  # fmt: skip

_USAGE = {
    "input_tokens": "input_tokens",
    "cached_input_tokens": "cache_read_tokens",
    "cache_write_input_tokens": "cache_write_tokens",
    "output_tokens": "output_tokens",
    "reasoning_output_tokens": "reasoning_tokens",
}

_CWD = re.compile(r"<cwd>([^<]+)</cwd>|^Current working directory: (.+)$", re.MULTILINE)
# What editors put before a prompt: their context, then this.
_REQUEST = "## My request for Codex:"


class RolloutLine(NamedTuple):
    """One line: its kind, empty where it is none of ours, and what belongs to that."""

    kind: str
    payload: Mapping[str, Any]
    at: datetime | None
    ordinal: int | None = None


def unwrap(fields: Mapping[str, Any]) -> RolloutLine:
    """Return a record as a line of today's form."""
    kind, payload = fields.get("type"), fields.get("payload")
    at = time(fields.get("timestamp"))
    if isinstance(payload, dict) and isinstance(kind, str):
        return RolloutLine(kind, payload, at, count(fields.get("ordinal")))
    tag = fields.get("record_type")
    if tag in ("session_meta", "prev_session_meta") or _is_bare_header(fields):
        return RolloutLine("session_meta", fields, at)
    if tag == "event":
        return RolloutLine("event_msg", mapping(fields.get("msg")), at)
    if tag == "response" or (isinstance(kind, str) and kind in _BARE_ITEMS):
        return RolloutLine("response_item", fields, at)
    return RolloutLine("", {}, at)


def belongs(fields: Mapping[str, Any]) -> bool | None:
    """Return whether a record is a rollout's, None where it could be another format's."""
    line = unwrap(fields)
    if "payload" in fields:
        return line.kind in KINDS
    if fields.get("record_type") in ("session_meta", "state") or line.kind == "session_meta":
        return True
    return None if line.kind else False


def _is_bare_header(fields: Mapping[str, Any]) -> bool:
    return "type" not in fields and "instructions" in fields and bool(text(fields.get("id")))


# What is said ------------------------------------------------------------------------------------


def role(line: RolloutLine) -> Role | None:
    """Return who speaks on a line, None where nothing is said."""
    payload = line.payload
    match line.kind:
        case "response_item":
            return items.role_of(payload)
        case "compacted":
            return "system" if text(payload.get("message")) else None
        case "inter_agent_communication":
            return "system" if text(payload.get("content")) else None
        case "realtime_item":
            return _speaker(payload)
        case _:
            return None


def _speaker(heard: Mapping[str, Any]) -> Role | None:
    """Return who said something aloud, None for what else is told of a talk."""
    role = heard.get("role")
    if role not in ("user", "assistant") or not (text(heard.get("text")) or "").strip():
        return None
    return "user" if role == "user" else "assistant"


def blocks(line: RolloutLine) -> list[Block]:
    """Return what is said on a line as blocks; none where nothing is."""
    payload = line.payload
    match line.kind:
        case "response_item":
            return items.blocks_of(payload, line.at)
        case "compacted":
            return as_blocks(text(payload.get("message")) or "")
        case "inter_agent_communication":
            return as_blocks(text(payload.get("content")) or "")
        case "realtime_item":
            return as_blocks(text(payload.get("text")) or "")
        case "event_msg":
            return as_blocks(failure(payload) or "")
        case _:
            return []


def metadata(line: RolloutLine) -> dict[str, Any]:
    """Return what else of a line is worth keeping beside its message."""
    payload = line.payload
    stated = {
        "type": items.type_of(payload) if line.kind == "response_item" else line.kind,
        "phase": payload.get("phase"),
        "status": payload.get("status"),
        "author": payload.get("author"),
    }
    return {key: value for key, value in stated.items() if isinstance(value, str) and value}


def cwd_of(found: Sequence[Block]) -> str | None:
    """Return the folder that an injected context names: the oldest versions say it only there."""
    stated = _CWD.search(text_of(list(found)))
    return (stated.group(1) or stated.group(2)).strip() if stated else None


def request_of(prompt: str) -> str:
    """Return what a person asked, without the context that an editor put before it."""
    _, found, asked = prompt.partition(_REQUEST)
    return asked.strip() if found and asked.strip() else prompt


# What events add ---------------------------------------------------------------------------------


def prompt(event: Mapping[str, Any]) -> str | None:
    """Return the text that a person typed, by an event that says so."""
    if event.get("type") == "user_message":
        return text(event.get("message"))
    item = mapping(event.get("item"))
    if event.get("type") == "item_completed" and item.get("type") == "UserMessage":
        parts = as_blocks(item.get("content"))
        return "".join(said for part in parts if (said := text(part.get("text")))) or None
    return None


def failure(event: Mapping[str, Any]) -> str | None:
    """Return why a turn failed, by an event that says so.

    The end of a turn states its `error` (fwdai/fletch#734); some versions wrote an event of it.
    """
    kind = event.get("type")
    if kind not in ("error", "task_complete", "turn_complete"):
        return None
    error = event if kind == "error" else mapping(event.get("error"))
    return text(error.get("message")) or text(error.get("codex_error_info"))


def tokens(event: Mapping[str, Any]) -> Report | None:
    """Return what an event reports of tokens, by Codex's names."""
    info = event.get("info")
    if not isinstance(info, dict) or not isinstance(info.get("total_token_usage"), dict):
        return None
    total, last = info["total_token_usage"], mapping(info.get("last_token_usage"))
    limit = text(mapping(event.get("rate_limits")).get("limit_id"))
    return Report(_stated(total), _stated(last), limit)


def _stated(usage: Mapping[str, Any]) -> dict[str, int]:
    return {name: count(usage.get(name)) or 0 for name in _USAGE}


def usage(stated: Mapping[str, int]) -> dict[str, int]:
    """Return tokens by our names.

    Codex's input holds what was cached and what was written to the cache, ours neither; its
    output holds the reasoning, as ours does.
    """
    tokens = {ours: stated[theirs] for theirs, ours in _USAGE.items() if stated.get(theirs)}
    cached = tokens.get("cache_read_tokens", 0) + tokens.get("cache_write_tokens", 0)
    if cached and "input_tokens" in tokens:
        tokens["input_tokens"] = max(0, tokens["input_tokens"] - cached)
    return {name: value for name, value in tokens.items() if value}
