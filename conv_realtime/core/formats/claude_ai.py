"""claude.ai's data export: `conversations.json`, a list of conversations, each a list of messages.

Read from exports' fields as Sinity/polylogue inferred them from real ones
(`polylogue/schemas/providers/claude-ai`): of a conversation `uuid`, `name` (may be empty),
`created_at`, `updated_at`, `chat_messages`; of a message `uuid`, `sender`, `content` as Claude's
API has it, older ones `text` alone, `attachments` with the text of files, `parent_message_uuid`.

* Where messages name their parents, a conversation is what leads to the newest one; other branches
  are alternatives, which are not sent.
* What tools gave back stands in the response that called them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from conv_realtime.core.blocks import Block, as_blocks, tool_result, tool_use
from conv_realtime.core.document import Export, StatedConversation
from conv_realtime.core.fields import items, mapping, text, time
from conv_realtime.core.said import Noted, Said
from conv_realtime.models import Role

SOURCE = "claude_ai"

_NO_PARENT = "00000000-0000-4000-8000-000000000000"
_ROLES: Mapping[str, Role] = {"human": "user", "assistant": "assistant"}
_OTHERS = frozenset({"mapping", "current_node", "role", "messages"})


class ClaudeAi(Export):
    """claude.ai's conversations, exported."""

    source = SOURCE
    title = "claude.ai export"

    def is_conversation(self, names: Collection[str]) -> bool | None:
        """Return whether an item is a conversation: it has chat messages."""
        if "chat_messages" in names:
            return True
        return False if _OTHERS & set(names) else None

    def conversations(self, value: Any, path: PurePath) -> Iterable[StatedConversation]:
        """Yield the conversation that an item is."""
        item = mapping(value)
        session = text(item.get("uuid"))
        if session is None:
            return
        listed = [one for one in as_blocks(item.get("chat_messages")) if "uuid" in one]
        messages = [_said(message) for message in _branch(listed)]
        noted = Noted(
            at=time(item.get("created_at")),
            title=text(item.get("name")),
            model=text(item.get("model")),
        )
        yield StatedConversation(
            session, messages, noted=noted, stated_at=time(item.get("updated_at"))
        )


def _branch(messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return the messages that lead to the newest one; all where their parents are not known."""
    by_id = {id: one for one in messages if (id := text(one.get("uuid")))}
    parents = {text(one.get("parent_message_uuid")) for one in messages}
    if not messages or not parents <= {*by_id, _NO_PARENT}:
        return messages
    branch: dict[str, Mapping[str, Any]] = {}
    at = text(messages[-1].get("uuid"))
    while at in by_id and at not in branch:
        branch[at] = by_id[at]
        at = text(by_id[at].get("parent_message_uuid"))
    return list(branch.values())[::-1]


def _said(message: Mapping[str, Any]) -> Said | None:
    """Return a message in our words; None for an empty one."""
    role = _ROLES.get(text(message.get("sender")) or "", "other")
    id = text(message.get("uuid"))
    found = _attached(message) + _blocks(message, id or "")
    if not found:
        return None
    files = [text(mapping(one).get("file_name")) for one in as_blocks(message.get("files"))]
    names = [name for name in files if name]
    return Said(
        role,
        [dict(message)] if role == "other" else found,
        native=id,
        created_at=time(message.get("created_at")),
        metadata={"files": names} if names else {},
    )


def _blocks(message: Mapping[str, Any], id: str) -> list[Block]:
    """Return the content of a message; a call without an id gets one from its place."""
    found: list[Block] = []
    open_call: str | None = None
    for place, block in enumerate(items(message.get("content"))):
        kind, block = mapping(block).get("type"), mapping(block)
        if kind == "tool_use":
            open_call = text(block.get("id")) or f"{id}:{place}"
            found.append(tool_use(open_call, text(block.get("name")), block.get("input") or {}))
        elif kind == "tool_result":
            answered = text(block.get("tool_use_id")) or open_call
            failed = block.get("is_error") is True
            found.append(tool_result(answered, block.get("content") or "", failed=failed))
        elif kind == "thinking":
            found.append({"type": "thinking", "thinking": text(block.get("thinking")) or ""})
        elif kind == "text":
            if said := text(block.get("text")):
                cited = {"citations": cites} if (cites := block.get("citations")) else {}
                found.append({"type": "text", "text": said, **cited})
        elif block:
            found.append(dict(block))
    if not found and (said := text(message.get("text"))):
        found.append({"type": "text", "text": said})
    return found


def _attached(message: Mapping[str, Any]) -> list[Block]:
    """Return the texts of the files that were attached."""
    return [
        {
            "type": "document",
            "title": text(one.get("file_name")) or "",
            "source": {"type": "text", "media_type": "text/plain", "data": said},
        }
        for one in as_blocks(message.get("attachments"))
        if (said := text(one.get("extracted_content")))
    ]
