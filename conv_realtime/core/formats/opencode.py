"""OpenCode since 1.2: sessions in an SQLite database, `opencode.db`.

As `packages/opencode/src/session/session.sql.ts` of anomalyco/opencode (before: sst/opencode) makes
its tables, and `message-v2.ts` beside it what `data` holds in them:

* `session` (id, parent_id, directory, title, revert, time_created, time_updated, …);
* `message` (id, session_id, data: role, time, modelID, tokens, cost, error, …);
* `part` (id, message_id, session_id, data: text, reasoning, tool with its state, file, …).

Messages and parts grow in place. Ids rise with time. What a `revert` names, and all behind it, is
hidden until it is undone, or deleted with the next prompt: it is taken back. A subagent's session
names its parent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import PurePath
from typing import Any, ClassVar

from conv_realtime.core.blocks import Block, tool_result, tool_use
from conv_realtime.core.document import DatabaseFormat, Rows, StatedConversation
from conv_realtime.core.fields import count, mapping, text, time
from conv_realtime.core.format import Machine
from conv_realtime.core.records import load
from conv_realtime.core.said import Noted, Said
from conv_realtime.models import Activity, Role, Status

SOURCE = "opencode"

_HOUR_MS = 3_600_000


class OpenCode(DatabaseFormat):
    """OpenCode's sessions."""

    source = SOURCE
    title = "OpenCode"

    # Parts are many and large: while it is watched, those of sessions that were at work lately.
    changes = f"""
        with spoken as (
            select session_id as id, count(*) as messages, max(time_updated) as newest
            from message group by session_id
        ), lately as (
            select id from spoken
            where ? or newest > (select max(newest) from spoken) - {_HOUR_MS}
        ), parts as (
            select session_id as id, count(*) as parts, max(time_updated) as newest
            from part where session_id in (select id from lately) group by session_id
        )
        select session.id, ifnull(session.time_updated, 0),
            ifnull(spoken.messages, 0), ifnull(spoken.newest, 0),
            case when lately.id is not null then ifnull(parts.parts, 0) end,
            case when lately.id is not null then ifnull(parts.newest, 0) end
        from session
        left join spoken on spoken.id = session.id
        left join lately on lately.id = session.id
        left join parts on parts.id = session.id
    """
    queries: ClassVar[Mapping[str, str]] = {
        "session": "select * from session where id = ?",
        "message": "select id, time_created, data from message where session_id = ?"
        " order by time_created, id",
        "part": "select message_id, data from part where session_id = ? order by id",
    }

    def places(self, machine: Machine) -> Sequence[PurePath]:
        """Return the database, wherever its folder is said to be."""
        usual = machine.home / ".local" / "share"
        folder = machine.home / (text(machine.environ.get("XDG_DATA_HOME")) or usual)
        return [folder / "opencode" / (text(machine.environ.get("OPENCODE_DB")) or "opencode.db")]

    def is_named(self, path: str) -> bool:
        """Return whether the file is called like a database of OpenCode, of any channel."""
        name = PurePath(path).name
        return name.startswith("opencode") and name.endswith(".db")

    def conversation(self, rows: Rows) -> StatedConversation | None:
        """Return what the rows of a session state."""
        session = next(iter(rows["session"]), None)
        if session is None or not (id := text(session.get("id"))):
            return None
        parts: dict[str, list[Mapping[str, Any]]] = {}
        for part in rows["part"]:
            parts.setdefault(str(part.get("message_id")), []).append(_data(part))
        reverted = text(_json(session.get("revert")).get("messageID"))
        said = [(message, _data(message)) for message in rows["message"]]
        messages = [
            _said(message, data, parts.get(str(message.get("id")), []))
            for message, data in said
            if reverted is None or str(message.get("id")) < reverted
        ]
        stated = [*(data for _, data in said), *chain.from_iterable(parts.values())]
        noted = Noted(
            at=time(session.get("time_created")),
            title=text(session.get("title")),
            cwd=text(session.get("directory")),
            parent=text(session.get("parent_id")),
        )
        costs = [one.metadata["cost_usd"] for one in messages if one and "cost_usd" in one.metadata]
        return StatedConversation(
            id,
            messages,
            noted=noted,
            stated_at=time(session.get("time_updated")),
            metadata={"cost_usd": round(sum(costs), 6)} if costs else {},
            unreadable=sum(not data for data in stated),
        )


def _json(value: Any) -> Mapping[str, Any]:
    return mapping(load(value.encode("utf-8", "surrogatepass"))) if isinstance(value, str) else {}


def _data(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return _json(row.get("data"))


def _said(
    row: Mapping[str, Any], data: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]
) -> Said | None:
    """Return a message in our words; None while nothing of it is said."""
    role = _role(data, parts)
    found = [block for part in parts for block in _blocks(part)]
    if not found and not (error := mapping(data.get("error"))):
        return None
    if not found:
        found = [{"type": "text", "text": _error(error)}]
    model = text(data.get("modelID")) or text(mapping(data.get("model")).get("modelID"))
    return Said(
        role,
        [dict(data)] if role == "other" and data else found,
        native=text(row.get("id")),
        created_at=time(mapping(data.get("time")).get("created")) or time(row.get("time_created")),
        model=model if role == "assistant" else None,
        usage=_usage(mapping(data.get("tokens"))) if role == "assistant" else {},
        state=_state(data, role),
        metadata=_metadata(data),
    )


def _role(data: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]) -> Role:
    stated = data.get("role")
    if stated == "assistant":
        return "assistant"
    if stated != "user":
        return "other"
    texts = [part for part in parts if part.get("type") == "text"]
    injected = bool(texts) and all(part.get("synthetic") is True for part in texts)
    return "system" if injected else "user"


def _state(data: Mapping[str, Any], role: Role) -> tuple[Status, Activity] | None:
    """Return whose turn it is behind a message: an answer that is not completed goes on."""
    if role != "assistant":
        return ("active", "working") if role == "user" else None
    if error := mapping(data.get("error")):
        aborted = error.get("name") == "MessageAbortedError"
        return ("active" if aborted else "error"), "waiting"
    done = "completed" in mapping(data.get("time"))
    return "active", "waiting" if done and data.get("finish") != "tool-calls" else "working"


def _blocks(part: Mapping[str, Any]) -> list[Block]:
    kind, said = part.get("type"), text(part.get("text"))
    if kind == "text" and said and part.get("ignored") is not True:
        return [{"type": "text", "text": said}]
    if kind == "reasoning" and said:
        return [{"type": "thinking", "thinking": said}]
    if kind == "tool":
        return _tool(part)
    if kind == "file" and (url := text(part.get("url"))):
        image = (text(part.get("mime")) or "").startswith("image/")
        source = {"type": "url", "url": url}
        named = {"title": name} if (name := text(part.get("filename"))) else {}
        return [{"type": "image" if image else "document", **named, "source": source}]
    return []


def _tool(part: Mapping[str, Any]) -> list[Block]:
    """Return a call, and its answer where it has one."""
    state, id = mapping(part.get("state")), text(part.get("callID"))
    blocks = [tool_use(id, text(part.get("tool")), mapping(state.get("input")))]
    if state.get("status") == "completed":
        blocks.append(tool_result(id, text(state.get("output")) or ""))
    elif state.get("status") == "error":
        blocks.append(tool_result(id, text(state.get("error")) or "", failed=True))
    return blocks


def _error(error: Mapping[str, Any]) -> str:
    said = text(mapping(error.get("data")).get("message"))
    return said or text(error.get("name")) or "error"


def _usage(tokens: Mapping[str, Any]) -> dict[str, int]:
    cache = mapping(tokens.get("cache"))
    stated = {
        "input_tokens": tokens.get("input"),
        "output_tokens": tokens.get("output"),
        "reasoning_tokens": tokens.get("reasoning"),
        "cache_read_tokens": cache.get("read"),
        "cache_write_tokens": cache.get("write"),
    }
    return {name: number for name, value in stated.items() if (number := count(value))}


def _metadata(data: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: data.get(name) for name in ("providerID", "agent", "mode", "finish")}
    found: dict[str, Any] = {name: value for name, value in kept.items() if text(value)}
    cost = data.get("cost")
    if isinstance(cost, int | float) and not isinstance(cost, bool) and 0 < cost < 1e9:
        found["cost_usd"] = cost
    return found
