"""Continue: one session is `sessions/<id>.json`, rewritten whole after each turn.

A `Session` as `core/index.d.ts` of continuedev/continue (d0a3c0b) has it, written by `save` of
`core/util/history.ts`: `sessionId`, `title`, `workspaceDirectory`, `history`, `chatModelTitle`,
`usage`. An item of the history is `{message, contextItems, toolCallStates, reasoning, …}`.

* Editors give each message an `id` (`gui/src/redux/slices/sessionSlice.ts`); the command line gives
  none: there its place names it.
* What a model thought is an item of its own before the answer, or `reasoning` of the answer: it is
  part of the answer.
* A tool's output is in `toolCallStates` of the message that calls it; where a message of role
  `tool` says it once more, that is none.
* Nothing says when a message was written, but `reasoning.startAt`. Tokens are those of the whole
  session, so no message has any.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import unquote

from conv_realtime.core.blocks import Block, as_blocks, tool_result, tool_use
from conv_realtime.core.document import JsonDocument, StatedConversation
from conv_realtime.core.fields import amount, items, mapping, text, time
from conv_realtime.core.format import Machine
from conv_realtime.core.records import load
from conv_realtime.core.said import Noted, Said
from conv_realtime.models import Role

SOURCE = "continue"

_NAMES = frozenset(
    {"sessionId", "title", "workspaceDirectory", "history", "mode", "chatModelTitle", "usage"}
)
_UNTITLED = "New Session"
_ROLES: Mapping[str, Role] = {
    "user": "user", "assistant": "assistant", "thinking": "assistant", "system": "system",
    "tool": "tool",
}  # fmt: skip
_FILE = "file://"


class Continue(JsonDocument):
    """Continue's sessions, of its editors and its command line."""

    source = SOURCE
    title = "Continue"

    def places(self, machine: Machine) -> Sequence[PurePath]:
        """Return the folder of sessions."""
        return [one / "sessions" for one in machine.folders("CONTINUE_GLOBAL_DIR", ".continue")]

    def is_named(self, path: str) -> bool:
        """Return whether the file can be a session: the list of them is beside."""
        return super().is_named(path) and PurePath(path).name != "sessions.json"

    def session(self, path: PurePath, fields: Mapping[str, Any]) -> str | None:
        """Return the session of a file with these fields: what is stated before its history."""
        if "workspaceDirectory" in fields and "title" in fields:
            return text(fields.get("sessionId"))
        return None

    def may_be(self, names: Collection[str]) -> bool:
        """Return whether a file has no other fields than a session."""
        return _NAMES.issuperset(names)

    def conversations(self, value: Any, path: PurePath) -> Iterable[StatedConversation]:
        """Yield the session."""
        record = mapping(value)
        session, history = self.session(path, record), record.get("history")
        if session is None or not isinstance(history, list):
            return
        title = text(record.get("title"))
        cost = amount(mapping(record.get("usage")).get("totalCost"))
        noted = Noted(
            title=None if title == _UNTITLED else title,
            cwd=_folder(text(record.get("workspaceDirectory"))),
            model=text(record.get("chatModelTitle")),
        )
        yield StatedConversation(
            session,
            list(_messages(list(map(mapping, history)))),
            noted=noted,
            metadata={"cost_usd": round(cost, 6)} if cost else {},
        )


def _folder(stated: str | None) -> str | None:
    """Return a folder, which editors state as an address."""
    if stated is None or not stated.startswith(_FILE):
        return stated
    path = unquote(stated.removeprefix(_FILE))
    return path[1:] if path[2:3] == ":" else path  # /C:/work


def _messages(history: Sequence[Mapping[str, Any]]) -> Iterator[Said | None]:
    """Yield what each item says; None for one that is part of the next, or says nothing."""
    thoughts: list[Block] = []
    answered: set[str] = set()
    kinds = [text(mapping(item.get("message")).get("role")) or "" for item in history]
    for item, kind, following in zip(history, kinds, [*kinds, ""][1:], strict=True):
        message = mapping(item.get("message"))
        found = [*thoughts, *_blocks(item, message, kind, answered)]
        if kind == "thinking" and following in ("assistant", "thinking"):
            thoughts = found
            yield None
            continue
        thoughts = []
        role = _ROLES.get(kind, "other")
        if not found:
            yield None
            continue
        yield Said(
            role,
            [dict(message)] if role == "other" else found,
            native=text(message.get("id")),
            created_at=time(mapping(item.get("reasoning")).get("startAt")),
        )


def _blocks(
    item: Mapping[str, Any], message: Mapping[str, Any], kind: str, answered: set[str]
) -> list[Block]:
    """Return the content of an item; what is answered in it is added to `answered`."""
    content = message.get("content")
    if kind == "thinking":
        return [{"type": "thinking", "thinking": said}] if (said := _text(content)) else []
    if kind == "tool":
        call = text(message.get("toolCallId"))
        said = _text(content)
        return [tool_result(call, said)] if said and call not in answered else []
    found: list[Block] = []
    if kind == "assistant" and (thought := text(mapping(item.get("reasoning")).get("text"))):
        found.append({"type": "thinking", "thinking": thought})
    found += [block for part in _parts(content) if (block := _part(part))]
    if kind == "user":
        found += [block for one in as_blocks(item.get("contextItems")) if (block := _attached(one))]
    if kind == "assistant":
        found += _tools(item, message, answered)
    return found


def _parts(content: Any) -> Sequence[Mapping[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [mapping(part) for part in items(content)]


def _part(part: Mapping[str, Any]) -> Block | None:
    if part.get("type") == "imageUrl":
        url = text(mapping(part.get("imageUrl")).get("url"))
        return {"type": "image", "source": {"type": "url", "url": url}} if url else None
    said = text(part.get("text"))
    return {"type": "text", "text": said} if said and said.strip() else None


def _text(content: Any) -> str:
    return "\n\n".join(said for part in _parts(content) if (said := text(part.get("text"))))


def _attached(one: Mapping[str, Any]) -> Block | None:
    """Return a piece of context that was given with a prompt, with its text."""
    said = text(one.get("content"))
    if said is None:
        return None
    source = {"type": "text", "media_type": "text/plain", "data": said}
    return {"type": "document", "title": text(one.get("name")) or "", "source": source}


def _tools(
    item: Mapping[str, Any], message: Mapping[str, Any], answered: set[str]
) -> Iterator[Block]:
    """Yield the calls of a message, each with its output where it has one."""
    states = [mapping(one) for one in items(item.get("toolCallStates"))]
    known = {text(state.get("toolCallId")) for state in states}
    for call in map(mapping, items(message.get("toolCalls"))):
        if text(call.get("id")) not in known:
            yield _call(call)
    for state in states:
        id, status = text(state.get("toolCallId")), state.get("status")
        yield _call({"id": id, **mapping(state.get("toolCall"))})
        outputs = (text(mapping(one).get("content")) for one in items(state.get("output")))
        said = "\n\n".join(output for output in outputs if output)
        if said or status in ("done", "errored", "canceled"):
            yield tool_result(id, said, failed=status in ("errored", "canceled"))
            answered.add(id or "")


def _call(call: Mapping[str, Any]) -> Block:
    function = mapping(call.get("function"))
    stated = text(function.get("arguments"))
    given = load(stated.encode("utf-8", "surrogatepass")) if stated else {}
    if not isinstance(given, dict):
        given = {"arguments": stated}
    return tool_use(text(call.get("id")), text(function.get("name")), given)
