"""OpenCode 2: `session_v2` and `session_message`, a row a message.

As `packages/core/src/session/sql.ts` of anomalyco/opencode makes the tables (the schema of a real
2.0.3 is in getagentseal/codeburn#1293), `projector.ts` beside it writes them, and
`packages/schema/src/session-message.ts` has what `data` holds, by the row's `type`:

* `user`: text, files; `synthetic`, `system`, `skill`: text that OpenCode put in;
* `assistant`: content (text, reasoning, tool with its state), model, tokens, cost, error, finish;
* `shell`: a command that a person ran, with its output; `compaction`: a summary;
* `idle`: the turn is over, and how; others switch the model, the agent or the folder.

Rows grow in place, `seq` orders them. What a `revert` names and all behind it is hidden until it is
undone, or deleted with the next prompt. Tokens of thoughts are not among the output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conv_realtime.core.blocks import Block, as_blocks, tool_result, tool_use
from conv_realtime.core.document import Layout, Rows, StatedConversation
from conv_realtime.core.fields import mapping, text
from conv_realtime.core.formats import opencode_rows as rows_of
from conv_realtime.core.said import Said
from conv_realtime.models import Activity, Role, Status

_ROLES: Mapping[Any, Role] = {
    "user": "user", "assistant": "assistant", "synthetic": "system", "system": "system",
    "skill": "system", "shell": "system", "compaction": "system",
}  # fmt: skip
_SWITCHES = frozenset({"agent-switched", "model-switched", "location-switched", "idle"})

# Rows are large: while it is watched, those of sessions that were at work lately. A session
# without any is not here; what OpenCode 1 has of it counts.
_CHANGES = f"""
    with spoken as (
        select session_id as id, count(*) as messages, max(seq) as last
        from session_message group by session_id
    ), begun as (
        select spoken.id, newest.time_created as at from spoken
        join session_message as newest
            on newest.session_id = spoken.id and newest.seq = spoken.last
    ), lately as (
        select id from begun where ? or at > (select max(at) from begun) - {rows_of.HOUR_MS}
    ), changed as (
        select session_id as id, max(time_updated) as newest from session_message
        where session_id in (select id from lately) group by session_id
    )
    select session_v2.id, ifnull(session_v2.time_updated, 0), spoken.messages,
        ifnull(spoken.last, 0), case when lately.id is not null then ifnull(changed.newest, 0) end
    from session_v2
    join spoken on spoken.id = session_v2.id
    left join lately on lately.id = session_v2.id
    left join changed on changed.id = session_v2.id
"""
_QUERIES = {
    "session": "select * from session_v2 where id = ?",
    "message": "select id, type, time_created, data from session_message where session_id = ?"
    " order by seq, id",
}

_ABORTED = ("type", "aborted")  # of an error: a person has ended the turn


def _conversation(rows: Rows) -> StatedConversation | None:
    """Return what the rows of a session state."""
    session = next(iter(rows["session"]), None)
    if session is None:
        return None
    messages = [(row, rows_of.json_of(row.get("data"))) for row in rows["message"]]
    reverted = text(rows_of.json_of(session.get("revert")).get("messageID"))
    ids = [row.get("id") for row, _ in messages]
    standing = messages[: ids.index(reverted)] if reverted and reverted in ids else messages
    return rows_of.session_of(
        session,
        [_said(row, data) for row, data in standing],
        unreadable=sum(not data for _, data in messages),
        state=_end(*standing[-1]) if standing else None,
    )


def _end(row: Mapping[str, Any], data: Mapping[str, Any]) -> tuple[Status, Activity] | None:
    """Return whose turn it is where the last row says that one is over."""
    if row.get("type") != "idle":
        return None
    return ("error" if data.get("outcome") == "failed" else "active"), "waiting"


def _said(row: Mapping[str, Any], data: Mapping[str, Any]) -> Said | None:
    """Return a message in our words; None where a row is none, or nothing of it is said yet."""
    kind = row.get("type")
    if kind in _SWITCHES:
        return None
    role = _ROLES.get(text(kind), "other")
    found = [dict(data)] if role == "other" and data else _blocks(data)
    if not found:
        return None
    model = mapping(data.get("model"))
    costs = kind in ("assistant", "compaction")
    return Said(
        role,
        found,
        native=text(row.get("id")),
        created_at=rows_of.created_at(row, data),
        model=text(model.get("id")) if role == "assistant" else None,
        usage=rows_of.usage(mapping(data.get("tokens")), apart=True) if costs else {},
        state=rows_of.turn(data, role, aborted=_ABORTED),
        metadata=rows_of.metadata(data, type=kind, providerID=model.get("providerID")),
    )


def _blocks(data: Mapping[str, Any]) -> list[Block]:
    """Return what a message says: each type has its own fields for it."""
    found = [block for part in as_blocks(data.get("content")) for block in _part(part)]
    if command := text(data.get("command")) or text(mapping(data.get("shell")).get("command")):
        output = data.get("output")
        printed = text(output) or text(mapping(output).get("output")) or ""
        found.append(_text(f"$ {command}\n{printed}".rstrip()))
    found += [_text(said) for name in ("text", "summary") if (said := text(data.get(name)))]
    found += [
        rows_of.file(url, one.get("mime"), one.get("name"))
        for one in as_blocks(data.get("files"))
        if (url := text(one.get("uri")) or text(one.get("url")))
    ]
    if not found and (error := mapping(data.get("error"))):
        found.append(_text(_error(error)))
    return found


def _part(part: Block) -> list[Block]:
    kind, said = part.get("type"), text(part.get("text"))
    if kind == "tool":
        return _tool(part)
    if not said:
        return []
    return [{"type": "thinking", "thinking": said} if kind == "reasoning" else _text(said)]


def _tool(part: Block) -> list[Block]:
    """Return a call, and its answer where it has one."""
    state, id = mapping(part.get("state")), text(part.get("id"))
    given = state.get("input")
    blocks = [tool_use(id, text(part.get("name")), given if isinstance(given, dict) else {})]
    if state.get("status") == "completed":
        blocks.append(tool_result(id, [_printed(one) for one in as_blocks(state.get("content"))]))
    elif state.get("status") == "error":
        said = _error(mapping(state.get("error")))
        blocks.append(tool_result(id, said, failed=True))
    return blocks


def _printed(part: Block) -> Block:
    uri = text(part.get("uri"))
    return rows_of.file(uri, part.get("mime"), part.get("name")) if uri else dict(part)


def _error(error: Mapping[str, Any]) -> str:
    return text(error.get("message")) or text(error.get("type")) or "error"


def _text(said: str) -> Block:
    return {"type": "text", "text": said}


LAYOUT = Layout(frozenset({"session_v2", "session_message"}), _CHANGES, _QUERIES, _conversation)
