"""Roo Code, and Cline before its SDK: one task is `tasks/<id>/ui_messages.json`, rewritten whole.

What the task's view shows, a list of `ClineMessage`: as `packages/types/src/message.ts` of
RooCodeInc/Roo-Code (cb83656) and `src/shared/ExtensionMessage.ts` of cline/cline (21cb8d2) have it.
Each has `ts`, `type` (`say` or `ask`), what is said or asked, `text`, often JSON.

* The first is the task. What a person says later is `user_feedback`.
* `api_req_started` begins a response, and gets its tokens when it ends; all that follows is of it.
* Nothing has an id. The list only grows, or is cut where a person goes back: places are ids.
* Where it ran is in other files. A command's output follows it; what other tools gave back is not
  there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePath
from typing import Any, ClassVar

from conv_realtime.core.blocks import Block, tool_result, tool_use
from conv_realtime.core.document import DocumentFormat, StatedConversation
from conv_realtime.core.fields import amount, count, items, mapping, text, time
from conv_realtime.core.format import Claim, Head, Machine, Recognised
from conv_realtime.core.records import load
from conv_realtime.core.said import Noted, Said
from conv_realtime.models import Activity, Status

_FILE = "ui_messages.json"
_EDITORS = ("Code", "Code - Insiders", "VSCodium", "Cursor", "Windsurf")
_PROMPTS = frozenset({"task", "user_feedback", "user_feedback_diff"})
_TOOLS = frozenset({"tool", "command", "use_mcp_server"})
_OUTPUTS = frozenset({"command_output", "mcp_server_response"})
_NOTES = frozenset(
    {"error", "diff_error", "rooignore_error", "clineignore_error", "api_req_failed",
     "condense_context"}
)  # fmt: skip
_SPOKEN = {"followup": "question", "plan_mode_respond": "response", "act_mode_respond": "response"}
_CHANGED = "HAS_CHANGES"  # Cline marks results that changed files


class _Tasks(DocumentFormat):
    """Tasks of an extension of VS Code and its kin."""

    extension: ClassVar[str]

    def places(self, machine: Machine) -> Sequence[PurePath]:
        """Return the folder of tasks in each editor."""
        data = [place for editor in _EDITORS for place in machine.app_data(editor)]
        data.append(machine.home / ".vscode-server" / "data")
        return [at / "User" / "globalStorage" / self.extension / "tasks" for at in data]

    def is_named(self, path: str) -> bool:
        """Return whether the file has the name that all tasks have."""
        return PurePath(path).name == _FILE

    def claim(self, path: PurePath, head: Head) -> Claim:
        """Return which task the file is, if its first item is a message."""
        found = head.outline
        if not self._is_here(path) or not found.json or (found.names and not found.listed):
            return None
        if {"ts", "type"} <= found.names and found.names & {"say", "ask"}:
            return Recognised(self.source, path.parent.name, named=True)
        return None if found.ends else "unsure"

    def _is_here(self, path: PurePath) -> bool:
        return self.extension in path.parts

    def conversations(self, value: Any, path: PurePath) -> Iterable[StatedConversation]:
        """Yield the task."""
        if isinstance(value, list) and value:
            said = list(map(mapping, value))
            noted = Noted(state=_turn(said[-1]))
            yield StatedConversation(path.parent.name, _messages(said), noted=noted)


class RooCode(_Tasks):
    """Roo Code's tasks."""

    source = "roo_code"
    title = "Roo Code"
    extension = "rooveterinaryinc.roo-cline"


class Cline(_Tasks):
    """Cline's tasks, as it wrote them before its SDK; also those that lie elsewhere."""

    source = "cline"
    title = "Cline before its SDK"
    extension = "saoudrizwan.claude-dev"

    def places(self, machine: Machine) -> Sequence[PurePath]:
        """Return the folder of tasks in each editor, and that of the command line."""
        own = [one / "data" / "tasks" for one in machine.folders("CLINE_DIR", ".cline")]
        return [*super().places(machine), *own]

    def _is_here(self, path: PurePath) -> bool:
        return RooCode.extension not in path.parts


@dataclass(slots=True)
class _Response:
    """What follows a request, as far as it goes."""

    place: int
    at: datetime | None
    usage: Mapping[str, int] = field(default_factory=dict)
    cost: float | None = None
    model: str | None = None
    blocks: list[Block] = field(default_factory=list)


def _turn(last: Mapping[str, Any]) -> tuple[Status, Activity]:
    """Return whose turn it is behind the last item; what a command writes is asked of nobody."""
    kind = _kind(last)
    if kind == "api_req_failed":
        return "error", "waiting"
    asks = last.get("type") == "ask" and last.get("partial") is not True and kind not in _OUTPUTS
    return "active", "waiting" if asks or kind.endswith("completion_result") else "working"


def _kind(item: Mapping[str, Any]) -> str:
    return text(item.get(str(item.get("type")))) or ""


def _messages(items: Sequence[Mapping[str, Any]]) -> Sequence[Said | None]:
    """Return what each item says, a response at its first; None for all others."""
    said: list[Said | None] = [None] * len(items)
    response: _Response | None = None

    def end(response: _Response | None) -> None:
        if response is not None and response.blocks:
            said[response.place] = Said(
                "assistant",
                response.blocks,
                created_at=response.at,
                model=response.model,
                usage=response.usage,
                metadata={"cost_usd": response.cost} if response.cost else {},
            )

    for place, item in enumerate(items):
        kind, at = _kind(item), time(item.get("ts"))
        if kind in _PROMPTS or (place == 0 and kind == "text"):
            end(response)
            response = None
            if prompt := [*_shown(item), *_images(item)]:
                said[place] = Said("user", prompt, created_at=at)
        elif kind in _NOTES:
            if note := _note(item):
                said[place] = Said("system", note, created_at=at)
        else:
            if kind == "api_req_started" or response is None:
                end(response)
                response = _Response(place, at, *_request(item))
            _add(response, kind, item, place)
    end(response)
    return said


def _add(response: _Response, kind: str, item: Mapping[str, Any], place: int) -> None:
    """Add an item to the response that it is of."""
    model = text(mapping(item.get("modelInfo")).get("modelId"))
    response.model = model or response.model
    if thought := text(item.get("reasoning")):
        response.blocks.append({"type": "thinking", "thinking": thought})
    if kind == "reasoning" and (thought := text(item.get("text"))):
        response.blocks.append({"type": "thinking", "thinking": thought})
    elif kind in ("text", "completion_result", "plan_completion_result", *_SPOKEN):
        response.blocks += [*_shown(item, _SPOKEN.get(kind)), *_images(item)]
    elif kind in _TOOLS and text(item.get("text")):
        response.blocks.append(_call(kind, item, place))
    elif kind in _OUTPUTS:
        _answer(response, item)


def _call(kind: str, item: Mapping[str, Any], place: int) -> Block:
    stated, id = text(item.get("text")) or "", f"@{place}"
    if kind == "command":
        return tool_use(id, "execute_command", {"command": stated})
    given = dict(_json(stated))
    if kind == "tool":
        return tool_use(id, text(given.pop("tool", None)), given or {"text": stated})
    name = ".".join(
        part for key in ("serverName", "toolName") if (part := text(given.get(key)))
    )  # fmt: skip
    arguments = _json(text(given.get("arguments")) or "")
    return tool_use(id, name or None, arguments or given)


def _answer(response: _Response, item: Mapping[str, Any]) -> None:
    """Add what a command wrote, in pieces, or a server gave back, to the call before it."""
    said, last = text(item.get("text")), response.blocks[-1] if response.blocks else {}
    if said is None:
        return
    if last.get("type") == "tool_result":
        last["content"] = f"{last['content']}\n{said}"
    elif last.get("type") == "tool_use":
        response.blocks.append(tool_result(last.get("id"), said))


def _shown(item: Mapping[str, Any], name: str | None = None) -> list[Block]:
    """Return the text of an item, or what its JSON says under `name`."""
    said = text(item.get("text")) or ""
    if name is not None:
        said = text(_json(said).get(name)) or said
    said = said.removesuffix(_CHANGED)
    return [{"type": "text", "text": said}] if said.strip() else []


def _note(item: Mapping[str, Any]) -> str | None:
    return text(mapping(item.get("contextCondense")).get("summary")) or text(item.get("text"))


def _images(item: Mapping[str, Any]) -> list[Block]:
    return [
        {"type": "image", "source": {"type": "url", "url": url}}
        for url in items(item.get("images"))
        if text(url)
    ]


def _request(item: Mapping[str, Any]) -> tuple[Mapping[str, int], float | None]:
    """Return the tokens and the cost that a request states."""
    if text(item.get("say")) != "api_req_started":
        return {}, None
    stated = _json(text(item.get("text")) or "")
    read, written = count(stated.get("cacheReads")) or 0, count(stated.get("cacheWrites")) or 0
    given = count(stated.get("tokensIn")) or 0
    if "apiProtocol" in stated and given >= read + written:  # Roo Code's total
        given -= read + written
    tokens = {
        "input_tokens": given,
        "output_tokens": count(stated.get("tokensOut")) or 0,
        "cache_read_tokens": read,
        "cache_write_tokens": written,
    }
    return {name: number for name, number in tokens.items() if number}, amount(stated.get("cost"))


def _json(stated: str) -> Mapping[str, Any]:
    if not stated.lstrip().startswith("{"):
        return {}
    return mapping(load(stated.encode("utf-8", "surrogatepass")))
