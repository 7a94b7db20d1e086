"""What one response item of a Codex rollout says: who speaks, and in which blocks.

Items are what the model saw, in the form of OpenAI's Responses API.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import zip_longest
from typing import Any

from conv_realtime.core.blocks import Block, as_blocks
from conv_realtime.core.fields import items, mapping, text
from conv_realtime.core.records import load
from conv_realtime.models import Role

_SILENT_ITEMS = frozenset(
    {
        "additional_tools", "compaction", "compaction_trigger", "configuration_update",
        "context_compaction", "ghost_snapshot", "other",
    }
)  # fmt: skip
# Calls that the server answers itself, as a part of its response.
_SERVER_CALLS = {"web_search_call": "web_search", "image_generation_call": "image_generation"}
_CALL_NAMES = {"local_shell_call": "local_shell", "tool_search_call": "tool_search"}

# What Codex puts before the model in a user's name: `core/src/contextual_user_message.rs`.
_INSTRUCTIONS = re.compile(r"\s*(?:# |These )AGENTS\.md instructions\b")
_WRAPPED = re.compile(r"\s*<([A-Za-z_][\w-]*+)[^<>]*>[\s\S]*</\1>\s*\Z")
# Some of it has no tag, until 2026: the files beside that one.
_NOTICE = re.compile(
    r"\s*(?:Here is a list of plugins that are available but not installed\."
    r"|Warning: (?:The maximum number of unified exec processes you can keep open is\b"
    r"|Your account was flagged for potentially high-risk cyber activity\b"
    r"|apply_patch was requested via \w+\. Use the apply_patch tool\b))"
)
# What it puts around an image or a sound, each a part of its own: `image_open_tag_text` and its
# like in `protocol/src/models.rs`.
_MEDIA_BEGIN = re.compile(r"<(?:image|audio)(?: [^<>]*)?>")
_MEDIA_END = ("</image>", "</audio>")


def role_of(item: Mapping[str, Any]) -> Role | None:
    """Return who speaks in an item, None where nothing is said."""
    kind = type_of(item)
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
            return "user" if typed(item) else "system"
        case "developer" | "system":
            return "system"
        case _:
            return "other"


def typed(item: Mapping[str, Any]) -> list[Block]:
    """Return what of a user's message a person gave: Codex writes context in the user's name.

    Since 2026 parts say of what kind they are; before, and else, Codex's are known by their words.
    """
    stated = mapping(item.get("internal_chat_message_metadata_passthrough"))
    parts = as_blocks(item.get("content"))
    kinds = items(stated.get("content_item_kinds"))[: len(parts)]
    return _content([p for p, kind in zip_longest(parts, kinds) if not _is_codexs(p, kind)])


def _is_codexs(part: Block, kind: Any) -> bool:
    said = text(part.get("text"))
    if said is None:
        return False
    if isinstance(kind, str):
        return not kind.startswith("user.") or kind == "user.heartbeat"
    return any(form.match(said) for form in (_INSTRUCTIONS, _WRAPPED, _NOTICE))


def blocks_of(item: Mapping[str, Any], at: datetime | None) -> list[Block]:
    """Return what an item says as blocks; none where nothing is. `at` is its time."""
    kind = type_of(item)
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


def type_of(item: Mapping[str, Any]) -> str:
    """Return what kind of item it is; early messages do not say so."""
    return text(item.get("type")) or ("message" if "role" in item else "")


def _content(content: Any) -> list[Block]:
    """Return the parts of a message as blocks."""
    parts = as_blocks(content)
    return [
        block
        for place, part in enumerate(parts)
        if (block := _part(part)) and not _is_frame(parts, place)
    ]


def _is_frame(parts: Sequence[Block], place: int) -> bool:
    """Return whether a part says no more than that what is beside it begins or ends."""
    said = text(parts[place].get("text")) or ""
    if said in _MEDIA_END:
        beside = parts[:place][-1:]
    else:
        beside = parts[place + 1 : place + 2] if _MEDIA_BEGIN.fullmatch(said) else []
    return any(part.get("type") in ("input_image", "input_audio") for part in beside)


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
