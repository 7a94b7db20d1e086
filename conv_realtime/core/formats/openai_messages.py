"""Messages in the form of OpenAI's chat completions, as many programs keep them.

`{"role", "content", "tool_calls", "tool_call_id", "reasoning_content"}`, content a text or parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from conv_realtime.core.blocks import Block, tool_result, tool_use
from conv_realtime.core.fields import items, mapping, text
from conv_realtime.models import Role

_ROLES: Mapping[str, Role] = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
    "system": "system",
    "developer": "system",
}


def role(stated: Any) -> Role | None:
    """Return who speaks, by the names that such messages use; None for another name."""
    return _ROLES.get(stated) if isinstance(stated, str) else None


def blocks(message: Mapping[str, Any]) -> list[Block]:
    """Return what a message says, as blocks."""
    said = _parts(message.get("content"))
    if role(message.get("role")) == "tool":
        call = text(message.get("tool_call_id"))
        return [tool_result(call, said)] if call else said
    reasons = text(message.get("reasoning_content"))
    thought: list[Block] = [{"type": "thinking", "thinking": reasons}] if reasons else []
    calls = message.get("tool_calls")
    return thought + said + [_call(mapping(call)) for call in items(calls)]


def arguments(stated: Any) -> Any:
    """Return what a tool was called with: most write it as a text of JSON."""
    if not isinstance(stated, str):
        return {} if stated is None else stated
    try:
        return orjson.loads(stated)
    except orjson.JSONDecodeError:
        return stated


def _call(call: Mapping[str, Any]) -> Block:
    function = mapping(call.get("function"))
    given = arguments(function.get("arguments"))
    return tool_use(text(call.get("id")), text(function.get("name")), given)


def _parts(content: Any) -> list[Block]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [_part(part) for part in items(content)]


def _part(part: Any) -> Block:
    if not isinstance(part, dict):
        return {"type": "text", "text": str(part)}
    if text(part.get("text")) and part.get("type") in (None, "text", "input_text", "output_text"):
        return {"type": "text", "text": part["text"]}
    return dict(part)
