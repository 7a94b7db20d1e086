"""OpenCode 1, since 1.2: `session`, `message` and `part`.

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
from typing import Any

from conv_realtime.core.blocks import Block, tool_result, tool_use
from conv_realtime.core.document import Layout, Rows, StatedConversation
from conv_realtime.core.fields import mapping, text
from conv_realtime.core.formats import opencode_rows as rows_of
from conv_realtime.core.said import Said
from conv_realtime.models import Role

# Parts are many and large: while it is watched, those of sessions that were at work lately.
_CHANGES = f"""
    with spoken as (
        select session_id as id, count(*) as messages, max(time_updated) as newest
        from message group by session_id
    ), lately as (
        select id from spoken
        where ? or newest > (select max(newest) from spoken) - {rows_of.HOUR_MS}
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
_QUERIES = {
    "session": "select * from session where id = ?",
    "message": "select id, time_created, data from message where session_id = ?"
    " order by time_created, id",
    "part": "select message_id, data from part where session_id = ? order by id",
}

_ABORTED = ("name", "MessageAbortedError")  # of an error: a person has ended the turn


def _conversation(rows: Rows) -> StatedConversation | None:
    """Return what the rows of a session state."""
    session = next(iter(rows["session"]), None)
    if session is None:
        return None
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for part in rows["part"]:
        parts.setdefault(str(part.get("message_id")), []).append(rows_of.json_of(part.get("data")))
    reverted = text(rows_of.json_of(session.get("revert")).get("messageID"))
    said = [(message, rows_of.json_of(message.get("data"))) for message in rows["message"]]
    messages = [
        _said(message, data, parts.get(str(message.get("id")), []))
        for message, data in said
        if reverted is None or str(message.get("id")) < reverted
    ]
    stated = [*(data for _, data in said), *chain.from_iterable(parts.values())]
    return rows_of.session_of(session, messages, unreadable=sum(not data for data in stated))


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
        created_at=rows_of.created_at(row, data),
        model=model if role == "assistant" else None,
        usage=rows_of.usage(mapping(data.get("tokens")), apart=False)
        if role == "assistant"
        else {},
        state=rows_of.turn(data, role, aborted=_ABORTED),
        metadata=rows_of.metadata(data),
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


def _blocks(part: Mapping[str, Any]) -> list[Block]:
    kind, said = part.get("type"), text(part.get("text"))
    if kind == "text" and said and part.get("ignored") is not True:
        return [{"type": "text", "text": said}]
    if kind == "reasoning" and said:
        return [{"type": "thinking", "thinking": said}]
    if kind == "tool":
        return _tool(part)
    if kind == "file" and (url := text(part.get("url"))):
        return [rows_of.file(url, part.get("mime"), part.get("filename"))]
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


LAYOUT = Layout(frozenset({"session", "message", "part"}), _CHANGES, _QUERIES, _conversation)
