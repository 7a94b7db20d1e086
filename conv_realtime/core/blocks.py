"""Content blocks of one message: merging what its lines say, and the readable text.

One response of Claude Code is written as several lines, each with the blocks that came since
(seen in every current version) or with all blocks so far (seen with gateways). Both merge to
the same list; a line written twice adds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

Block = dict[str, Any]

_CALLS = ("tool_use", "server_tool_use", "mcp_tool_use")
# Calls that a person answers: of Claude Code and Kimi CLI, Qwen Code (`tools/tool-names.ts` of
# QwenLM/qwen-code at 00ac46fe), Copilot CLI (`go/toolset.go` of github/copilot-sdk), OpenCode
# (`tool/question.ts` and `plan.ts` of anomalyco/opencode) and Codex.
_QUESTIONS = frozenset(
    {
        "AskUserQuestion", "ExitPlanMode", "ask_user_question", "exit_plan_mode", "ask_user",
        "question", "plan_exit", "request_user_input",
    }
)  # fmt: skip


def as_blocks(content: Any) -> list[Block]:
    """Return a message's content as a list of blocks; a plain string is one text block."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        return []
    for item in content:
        if not isinstance(item, dict):
            return [_as_block(item) for item in content]
    return content


def _as_block(item: Any) -> Block:
    return dict(item) if isinstance(item, Mapping) else {"type": "text", "text": str(item)}


def merge(known: list[Block], more: list[Block]) -> list[Block]:
    """Return the blocks of earlier lines and of one more line, in order of first appearance."""
    if not known:
        return list(more)
    merged = list(known)
    for block in more:
        place = next((i for i, old in enumerate(known) if _same_block(old, block)), None)
        if place is None:
            merged.append(block)
        elif _extent(block) >= _extent(merged[place]):
            merged[place] = block
    return merged


def _same_block(old: Block, new: Block) -> bool:
    if old.get("type") != new.get("type"):
        return False
    for name in ("id", "tool_use_id"):
        if name in old or name in new:
            return bool(old.get(name) == new.get(name))
    if old == new:
        return True
    key = _growing(old)
    if key is None or key != _growing(new) or old.get("signature") or not old[key]:
        return False
    return str(new[key]).startswith(str(old[key])) or str(old[key]).startswith(str(new[key]))


def _growing(block: Block) -> str | None:
    """Return the key of the text that a cumulative snapshot extends."""
    return next((key for key in ("text", "thinking") if isinstance(block.get(key), str)), None)


def _extent(block: Block) -> int:
    key = _growing(block)
    return len(block[key]) if key else len(block)


def text_of(blocks: list[Block]) -> str:
    """Return what a person would read: text blocks, and the text that tools gave back."""
    parts = [part for block in blocks if (part := _text_of_block(block))]
    return "\n\n".join(parts)


def _text_of_block(block: Block) -> str:
    match block.get("type"):
        case "text" | "input_text" | "output_text":
            text = block.get("text")
            return text if isinstance(text, str) else ""
        case "tool_result":
            return text_of(as_blocks(block.get("content")))
        case _:
            return ""


def tools(blocks: list[Block]) -> tuple[list[str], list[str]]:
    """Return the ids of the tools that these blocks call, and of the calls that they answer."""
    calls, answered = [], []
    for block in blocks:
        kind = str(block.get("type"))
        if kind in _CALLS:
            if id := block.get("id"):
                calls.append(str(id))
        elif kind.endswith("tool_result") and (id := block.get("tool_use_id")):
            answered.append(str(id))
    return calls, answered


def asks(blocks: list[Block], open_calls: Set[str]) -> bool:
    """Return whether one of these calls is a question to a person, and not answered yet."""
    for block in blocks:
        if str(block.get("name")) in _QUESTIONS and str(block.get("id")) in open_calls:
            return True
    return False


def tool_use(id: str | None, name: str | None, given: Any) -> Block:
    """Return a block that calls a tool; one without an id is not waited for."""
    named = {"id": id} if id else {}
    return {"type": "tool_use", **named, "name": name or "", "input": given}


def tool_result(id: str | None, content: Any, *, failed: bool = False) -> Block:
    """Return a block with what a tool gave back."""
    error = {"is_error": True} if failed else {}
    return {"type": "tool_result", "tool_use_id": id or "", "content": content, **error}
