"""What one line of a Codex rollout says, whatever version wrote it.

Codex calls its rollouts best effort (openai/codex#45251), so nothing here trusts a field. Lines
have had three forms; file names are those of openai/codex, below `codex-rs`:

* `{"timestamp", "type", "payload"}`, and `ordinal` in paginated histories: `RolloutLine` in
  `protocol/src/protocol.rs`, `rollout/src/policy.rs` says what is written.
* `{"timestamp", "record_type", …}`, some weeks of September 2025: `TaggedLine` in
  `core/src/rollout/recorder.rs`.
* The item alone, before: `{"type": "message", …}` behind a header `{"id", "timestamp",
  "instructions"}`, with `{"record_type": "state"}` in between.

What is said stands in response items, which are what the model saw. Events say most of it once
more, for the terminal; of them only what items do not tell is read: which text a person typed,
where a turn begins and ends, tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from conv_realtime.core.blocks import Block, as_blocks, text_of
from conv_realtime.core.fields import count, mapping, text, time
from conv_realtime.core.records import load
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
_SILENT_ITEMS = frozenset(
    {
        "additional_tools", "compaction", "compaction_trigger", "configuration_update",
        "context_compaction", "ghost_snapshot", "other",
    }
)  # fmt: skip
# Calls that the server answers itself, as a part of its response.
_SERVER_CALLS = {"web_search_call": "web_search", "image_generation_call": "image_generation"}
_CALL_NAMES = {"local_shell_call": "local_shell", "tool_search_call": "tool_search"}

_USAGE = {
    "input_tokens": "input_tokens",
    "cached_input_tokens": "cache_read_tokens",
    "cache_write_input_tokens": "cache_write_tokens",
    "output_tokens": "output_tokens",
    "reasoning_output_tokens": "reasoning_tokens",
}

# What Codex puts before the model in a user's name: `core/src/contextual_user_message.rs`.
_INSTRUCTIONS = re.compile(r"\s*(?:# |These )AGENTS\.md instructions\b")
_WRAPPED = re.compile(r"\s*<([A-Za-z_][\w-]*)[^<>]*>[\s\S]*</\1>\s*\Z")
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
            return _role_of_item(payload)
        case "compacted":
            return "system" if text(payload.get("message")) else None
        case "inter_agent_communication":
            return "system" if text(payload.get("content")) else None
        case _:
            return None


def _role_of_item(item: Mapping[str, Any]) -> Role | None:
    kind = _type(item)
    if kind == "message":
        return _role_of_message(item)
    if kind == "agent_message":
        return "system" if _content(item.get("content")) else None
    if kind == "reasoning":
        return "assistant" if _thought(item) else None
    if kind.endswith("_call"):
        return "assistant"
    if kind.endswith("_output"):
        return "tool" if text(item.get("call_id")) else None
    return None if kind in _SILENT_ITEMS or not text(item.get("id")) else "other"


def _role_of_message(item: Mapping[str, Any]) -> Role | None:
    found = _content(item.get("content"))
    if not found:
        return None
    match item.get("role"):
        case "assistant":
            return "assistant"
        case "user":
            return "system" if _is_injected(found) else "user"
        case "developer" | "system":
            return "system"
        case _:
            return "other"


def _is_injected(found: Sequence[Block]) -> bool:
    """Return whether Codex wrote all of a user's message: context, and no prompt."""
    texts = [str(block.get("text") or "") for block in found if block.get("type") == "text"]
    return bool(texts) and all(_INSTRUCTIONS.match(one) or _WRAPPED.match(one) for one in texts)


def blocks(line: RolloutLine) -> list[Block]:
    """Return what is said on a line as blocks; none where nothing is."""
    payload = line.payload
    match line.kind:
        case "response_item":
            return _blocks_of_item(payload, line.at)
        case "compacted":
            return as_blocks(text(payload.get("message")) or "")
        case "inter_agent_communication":
            return as_blocks(text(payload.get("content")) or "")
        case _:
            return []


def _blocks_of_item(item: Mapping[str, Any], at: datetime | None) -> list[Block]:
    kind = _type(item)
    if kind in ("message", "agent_message"):
        return _content(item.get("content"))
    if kind == "reasoning":
        thought = _thought(item)
        return [{"type": "thinking", "thinking": thought}] if thought else []
    if kind in _SERVER_CALLS:
        return _server_call(item, kind, at)
    if kind.endswith("_call"):
        return [_call(item, kind, at)]
    if kind.endswith("_output"):
        return [_result(item)]
    return [dict(item)]


def _type(item: Mapping[str, Any]) -> str:
    return text(item.get("type")) or ("message" if "role" in item else "")


def _content(content: Any) -> list[Block]:
    """Return the parts of a message as blocks."""
    return [block for part in as_blocks(content) if (block := _part(part))]


def _part(part: Block) -> Block | None:
    match part.get("type"):
        case "input_text" | "output_text" | "text" | "refusal":
            said = text(part.get("text")) or text(part.get("refusal"))
            return {"type": "text", "text": said} if said else None
        case "input_image":
            return {"type": "image", "source": _image(part.get("image_url"))}
        case "encrypted_content":
            return None
        case _:
            return part


def _image(url: Any) -> Block:
    stated = text(url) or ""
    kind, _, data = stated.removeprefix("data:").partition(";base64,")
    if stated.startswith("data:") and data:
        return {"type": "base64", "media_type": kind, "data": data}
    return {"type": "url", "url": stated}


def _thought(item: Mapping[str, Any]) -> str:
    """Return the readable part of a reasoning: its summary and, of open models, itself."""
    parts = (*as_blocks(item.get("summary")), *as_blocks(item.get("content")))
    return "\n\n".join(said for part in parts if (said := text(part.get("text"))))


def _call(item: Mapping[str, Any], kind: str, at: datetime | None) -> Block:
    name = text(item.get("name")) or _CALL_NAMES.get(kind) or kind.removesuffix("_call")
    return {
        "type": "tool_use",
        "id": _call_id(item, kind, at),
        "name": name,
        "input": _arguments(item),
    }


def _server_call(item: Mapping[str, Any], kind: str, at: datetime | None) -> list[Block]:
    prompt = text(item.get("revised_prompt"))
    call: Block = {
        "type": "server_tool_use",
        "id": _call_id(item, kind, at),
        "name": _SERVER_CALLS[kind],
        "input": dict(mapping(item.get("action"))) or ({"prompt": prompt} if prompt else {}),
    }
    if not (data := text(item.get("result"))):
        return [call]
    source = {"type": "base64", "media_type": "image/png", "data": data}
    return [call, {"type": "image", "source": source}]


def _call_id(item: Mapping[str, Any], kind: str, at: datetime | None) -> str:
    # Some versions leave the id out: then it is told from others by its time.
    stated = text(item.get("call_id")) or text(item.get("id"))
    return stated or f"{kind}@{at.isoformat() if at else ''}"


def _arguments(item: Mapping[str, Any]) -> Any:
    for key in ("arguments", "input", "action"):
        stated = item.get(key)
        if isinstance(stated, dict):
            return stated
        if isinstance(stated, str):
            value = load(stated.encode("utf-8", "surrogatepass")) if key == "arguments" else None
            return value if isinstance(value, dict) else {key: stated}
    return {}


def _result(item: Mapping[str, Any]) -> Block:
    stated = item.get("output", item.get("tools"))
    failed = False
    if isinstance(stated, str) and stated.startswith('{"output"'):
        # Older tools wrap what was printed, with the exit code beside it.
        inner = mapping(load(stated.encode("utf-8", "surrogatepass")))
        if isinstance(inner.get("output"), str):
            failed = mapping(inner.get("metadata")).get("exit_code") not in (None, 0)
            stated = inner["output"]
    elif isinstance(stated, dict):
        failed = stated.get("success") is False
        stated = stated.get("content", stated)
    shown = stated if isinstance(stated, str) else _content(stated)
    block: Block = {
        "type": "tool_result",
        "tool_use_id": text(item.get("call_id")) or "",
        "content": shown,
    }
    return block | {"is_error": True} if failed else block


def server_calls(found: Sequence[Block]) -> list[str]:
    """Return the ids of calls that are answered with the response that makes them."""
    return [str(block["id"]) for block in found if block.get("type") == "server_tool_use"]


def metadata(line: RolloutLine) -> dict[str, Any]:
    """Return what else of a line is worth keeping beside its message."""
    payload = line.payload
    stated = {
        "type": _type(payload) if line.kind == "response_item" else line.kind,
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


def totals(event: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, int]] | None:
    """Return the thread's tokens so far and those of its last response, by Codex's names."""
    info = event.get("info")
    if not isinstance(info, dict) or not isinstance(info.get("total_token_usage"), dict):
        return None
    return _stated(info["total_token_usage"]), _stated(mapping(info.get("last_token_usage")))


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
