"""What one message of Gemini CLI says: the same object in its two kinds of files.

`MessageRecord` and `ToolCallRecord` in google-gemini/gemini-cli,
`packages/core/src/services/chatRecordingTypes.ts`. A response is one message with all that came
of it: what it thought, said and called, and what its tools gave back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from conv_realtime.core.blocks import Block, as_blocks, text_of, tools
from conv_realtime.core.fields import count, mapping, text, time
from conv_realtime.core.json_lines import Said
from conv_realtime.models import Activity, Role, Status

SOURCE = "gemini_cli"

_SHOWN = frozenset({"info", "warning", "error"})
# What Gemini writes in a user's name: contexts, a command of the shell, what it compresses to.
# They are made in google-gemini/gemini-cli at 5411f113, `packages/core/src`: `core/client.ts`,
# `utils/environmentContext.ts`, `utils/approvalModeUtils.ts`, `context/chatCompressionService.ts`;
# and `packages/cli/src/ui/hooks/useExecutionLifecycle.ts`.
_CONTEXTS = (
    "<session_context>",
    "<hook_context>",
    "<state_snapshot>",
    "<scratchpad>",
    "- **Workspace Directories:**",
    "Here is the user's editor context as a JSON object.",
    "Here is a summary of changes in the user's editor context,",
    "I ran the following shell command:\n```",
    "User has manually exited Plan Mode. Switching to ",
    "Plan approved. Switching to ",
)
_COMMANDS = ("/", "?")
_DONE = frozenset({"success", "error", "cancelled"})
# What it shows when a person stops it: `packages/cli/src/ui/hooks/useGeminiStream.ts`.
_STOPPED = frozenset({"Request cancelled.", "User cancelled the request."})


def said(message: Mapping[str, Any]) -> Said:
    """Return a message in our words."""
    found = _blocks(message)
    role = _role(message, found)
    model = text(message.get("model"))
    return Said(
        role,
        [dict(message)] if role == "other" else found,
        native=text(message.get("id")),
        replaces=True,
        created_at=time(message.get("timestamp")),
        model=model if role == "assistant" else None,
        usage=_usage(mapping(message.get("tokens"))) if role == "assistant" else {},
        state=_state(message, role, found),
        metadata={"type": message["type"]} if text(message.get("type")) else {},
    )


def asked(message: Mapping[str, Any]) -> str:
    """Return a prompt as it was typed: `displayContent` where Gemini put more before the model."""
    for name in ("displayContent", "content"):
        parts = as_blocks(message.get(name))
        if said := text_of([block for part in parts for block in _part(part)]):
            return said
    return ""


def is_title(prompt: str) -> bool:
    """Return whether a prompt says what its conversation is about; commands do not."""
    return not prompt.lstrip().startswith(_COMMANDS)


def _role(message: Mapping[str, Any], found: Sequence[Block]) -> Role:
    kind = message.get("type")
    if kind == "gemini":
        return "assistant"
    if kind == "user":
        if found and all(block.get("type") == "tool_result" for block in found):
            return "tool"
        return "system" if asked(message).lstrip().startswith(_CONTEXTS) else "user"
    return "system" if isinstance(kind, str) and kind in _SHOWN else "other"


def _state(
    message: Mapping[str, Any], role: Role, found: Sequence[Block]
) -> tuple[Status, Activity] | None:
    """Return whose turn it is behind a message, None where it changes nothing."""
    if message.get("type") == "error":
        return "error", "waiting"
    if message.get("type") == "info":
        return ("active", "waiting") if asked(message) in _STOPPED else None
    if role == "assistant":
        # Tools that were let run are followed by another response, those called off are not.
        runs = [mapping(call).get("status") for call in as_blocks(message.get("toolCalls"))]
        if any(status != "cancelled" for status in runs):
            return "active", "working"
        return "active", "waiting" if found else "working"
    return ("active", "working") if role in ("user", "tool") else None


def _blocks(message: Mapping[str, Any]) -> list[Block]:
    thoughts = [_thought(one) for one in as_blocks(message.get("thoughts"))]
    parts = [block for part in as_blocks(message.get("content")) for block in _part(part)]
    found = parts if any(block.get("type") == "thinking" for block in parts) else thoughts + parts
    called, answered = map(set, tools(found))
    for call in as_blocks(message.get("toolCalls")):
        # Newer versions have the calls among the parts, too.
        if (id := text(call.get("id")) or "") not in called:
            called.add(id)
            found.append(_call(call, id))
        if text(call.get("status")) in _DONE and id not in answered:
            answered.add(id)
            found.append(_result(call, id))
    return found


def _thought(thought: Mapping[str, Any]) -> Block:
    parts = (text(thought.get("subject")), text(thought.get("description")))
    return {"type": "thinking", "thinking": "\n\n".join(part for part in parts if part)}


def _part(part: Block) -> list[Block]:
    """Return a part of the model's language as blocks."""
    said = text(part.get("text"))
    if said is not None:
        return [
            {"type": "thinking", "thinking": said} if part.get("thought") is True else _says(said)
        ]
    if call := mapping(part.get("functionCall")):
        return [_call(call, text(call.get("id")) or "")]
    if answer := mapping(part.get("functionResponse")):
        output = _printed(answer)
        return [
            {"type": "tool_result", "tool_use_id": text(answer.get("id")) or "", "content": output}
        ]
    if (data := mapping(part.get("inlineData"))) and text(data.get("data")):
        kind = text(data.get("mimeType")) or ""
        source = {"type": "base64", "media_type": kind, "data": data["data"]}
        return [{"type": "image" if kind.startswith("image/") else "document", "source": source}]
    return [] if not part or set(part) <= {"text", "thought", "thoughtSignature"} else [part]


def _says(said: str) -> Block:
    return {"type": "text", "text": said}


def _call(call: Mapping[str, Any], id: str) -> Block:
    args = call.get("args")
    return {
        "type": "tool_use",
        "id": id,
        "name": text(call.get("name")) or "",
        "input": args if isinstance(args, dict) else {},
    }


def _result(call: Mapping[str, Any], id: str) -> Block:
    parts = as_blocks(call.get("result"))
    printed = [
        _printed(answer) for part in parts if (answer := mapping(part.get("functionResponse")))
    ]
    others = [block for part in parts if "functionResponse" not in part for block in _part(part)]
    shown = "\n".join(printed)
    block: Block = {
        "type": "tool_result",
        "tool_use_id": id,
        "content": [_says(shown), *others] if others else shown,
    }
    return block if call.get("status") == "success" else block | {"is_error": True}


def _printed(answer: Mapping[str, Any]) -> str:
    response = mapping(answer.get("response"))
    return text(response.get("output")) or text(response.get("error")) or ""


def _usage(tokens: Mapping[str, Any]) -> dict[str, int]:
    """Return tokens by our names.

    Gemini's input holds what was cached, ours does not; its output holds no thoughts, ours does:
    `total` is input, output, thoughts and the prompt of tools together.
    """
    stated = {name: count(tokens.get(name)) or 0 for name in tokens}
    thoughts, cached = stated.get("thoughts", 0), stated.get("cached", 0)
    ours = {
        "input_tokens": max(0, stated.get("input", 0) - cached) + stated.get("tool", 0),
        "output_tokens": stated.get("output", 0) + thoughts,
        "cache_read_tokens": cached,
        "reasoning_tokens": thoughts,
    }
    return {name: value for name, value in ours.items() if value}
