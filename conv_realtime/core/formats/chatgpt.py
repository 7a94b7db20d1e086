"""ChatGPT's data export: `conversations.json`, a list of conversations, each a tree of messages.

Read from exports' fields as Sinity/polylogue inferred them from real ones
(`polylogue/schemas/providers/chatgpt`, with how often each kind of content was met in
`polylogue/sources/parsers/chatgpt.py`), and mitkury/chatgpt-export-parser documents them.

* A conversation is what leads from `current_node` up to the root. Other branches are answers that
  were given again, or prompts that were edited: alternatives, which are not sent.
* A message to a tool (`recipient`) calls it; what the tool says behind it is the answer.
* Hidden messages (`is_visually_hidden_from_conversation`) and empty ones make no row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

from conv_realtime.core.blocks import Block, tool_result, tool_use
from conv_realtime.core.document import Export, StatedConversation
from conv_realtime.core.fields import items, mapping, text, time
from conv_realtime.core.records import load
from conv_realtime.core.said import Noted, Said
from conv_realtime.models import Role

SOURCE = "chatgpt"

_MARKS = frozenset({"mapping", "current_node"})
_OTHERS = frozenset({"uuid", "chat_messages", "role", "messages"})
_ROLES: Mapping[str, Role] = {
    "user": "user", "assistant": "assistant", "tool": "tool", "system": "system",
}  # fmt: skip
_PLAIN = frozenset({"content_type", "parts"})
_THOUGHTS = ("thoughts", "reasoning_recap")


class ChatGpt(Export):
    """ChatGPT's conversations, exported."""

    source = SOURCE
    title = "ChatGPT export"

    def is_conversation(self, names: Collection[str]) -> bool | None:
        """Return whether an item is a conversation: it has a tree of messages."""
        if _MARKS & set(names):
            return True
        return False if _OTHERS & set(names) else None

    def conversations(self, value: Any, path: PurePath) -> Iterable[StatedConversation]:
        """Yield the conversation that an item is."""
        item = mapping(value)
        session = text(item.get("conversation_id")) or text(item.get("id"))
        if session is None:
            return
        noted = Noted(
            at=time(item.get("create_time")),
            title=text(item.get("title")),
            model=text(item.get("default_model_slug")),
        )
        messages = list(_messages(_branch(item)))
        yield StatedConversation(
            session, messages, noted=noted, stated_at=time(item.get("update_time"))
        )


def _branch(item: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the messages that lead to the current one, the first of all first."""
    nodes = mapping(item.get("mapping"))
    at, branch, seen = item.get("current_node"), [], set[str]()
    if not isinstance(at, str) or at not in nodes:
        at = max(nodes, key=lambda name: _written(nodes[name]), default=None)
    while isinstance(at, str) and at in nodes and at not in seen:
        seen.add(at)
        node = mapping(nodes[at])
        if message := mapping(node.get("message")):
            branch.append(message)
        at = node.get("parent")
    return branch[::-1]


def _written(node: Any) -> float:
    at = time(mapping(mapping(node).get("message")).get("create_time"))
    return at.timestamp() if at else 0.0


def _messages(branch: Iterable[Mapping[str, Any]]) -> Iterator[Said | None]:
    """Yield the messages of a branch; None for those that nobody is shown."""
    call: str | None = None
    for message in branch:
        role = _ROLES.get(text(mapping(message.get("author")).get("role")) or "", "other")
        found = _blocks(message, role, call)
        if role != "tool":
            call = next((block["id"] for block in found if block.get("id")), None)
        metadata = mapping(message.get("metadata"))
        if not found or metadata.get("is_visually_hidden_from_conversation") is True:
            yield None
            continue
        yield Said(
            role,
            [dict(message)] if role == "other" else found,
            native=text(message.get("id")),
            created_at=time(message.get("create_time")),
            model=text(metadata.get("model_slug")) if role == "assistant" else None,
            metadata=_metadata(message),
        )


def _metadata(message: Mapping[str, Any]) -> dict[str, Any]:
    content = mapping(message.get("content"))
    stated = {
        "type": content.get("content_type"),
        "tool": mapping(message.get("author")).get("name"),
    }
    return {name: value for name, value in stated.items() if isinstance(value, str) and value}


def _blocks(message: Mapping[str, Any], role: Role, call: str | None) -> list[Block]:
    content = mapping(message.get("content"))
    kind = text(content.get("content_type")) or "text"
    found = [{"type": "text", "text": said}] if (said := _text(content)) else []
    found += [_media(part) for part in items(content.get("parts")) if isinstance(part, dict)]
    if not found:
        return []
    if role == "tool":
        return [tool_result(call, found, failed=kind == "system_error")]
    if role == "assistant" and kind in _THOUGHTS:
        return [{"type": "thinking", "thinking": said}] if said else []
    recipient = text(message.get("recipient"))
    if role == "assistant" and recipient not in (None, "all"):
        return [tool_use(text(message.get("id")), recipient, _input(content, said))]
    return found


def _input(content: Mapping[str, Any], said: str) -> Mapping[str, Any]:
    given = load(said.encode("utf-8", "surrogatepass")) if said.lstrip().startswith("{") else None
    if isinstance(given, dict):
        return given
    return {"code" if content.get("content_type") == "code" else "input": said}


def _text(content: Mapping[str, Any]) -> str:
    """Return the text of a message's content, of whatever kind."""
    stated = items(content.get("parts"))
    parts = [part for part in stated if isinstance(part, str)]
    if len(parts) < len(stated):
        parts += [
            said
            for part in stated
            if mapping(part).get("content_type") == "audio_transcription"
            and (said := text(mapping(part).get("text")))
        ]
    if len(content) <= len(_PLAIN) and content.keys() <= _PLAIN:  # most are
        return "\n\n".join(part for part in parts if part.strip())
    names = ("text", "result", "content", "user_profile", "user_instructions", "output_str")
    parts += [said for name in names if (said := text(content.get(name)))]
    for thought in items(content.get("thoughts")):
        steps = (mapping(thought).get("summary"), mapping(thought).get("content"))
        parts += [said for step in steps if (said := text(step))]
    return "\n\n".join(part for part in parts if part.strip())


def _media(part: Mapping[str, Any]) -> Block:
    """Return an image, or another file that the export has beside it, by its name there."""
    kind = text(part.get("content_type")) or "file"
    pointer = text(part.get("asset_pointer"))
    if kind == "image_asset_pointer" and pointer:
        return {"type": "image", "source": {"type": "url", "url": pointer}}
    return {**part, "type": kind}
