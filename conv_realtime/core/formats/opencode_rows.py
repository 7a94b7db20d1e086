"""What rows of OpenCode say alike, whatever its version: sessions, turns, files, tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from conv_realtime.core.blocks import Block
from conv_realtime.core.document import StatedConversation
from conv_realtime.core.fields import amount, count, mapping, text, time
from conv_realtime.core.records import load
from conv_realtime.core.said import Noted, Said
from conv_realtime.models import Activity, Role, Status

HOUR_MS = 3_600_000
"""How long a session was at work lately: only there is looked for changes of what is old."""

# What a session is called until it has a title, or for good where no model makes one: see
# `internal/parser/opencode.go` of kenn-io/agentsview at 538600744.
_UNTITLED = re.compile(r"(?:New|Child) session - \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def session_of(
    session: Mapping[str, Any],
    messages: Sequence[Said | None],
    *,
    unreadable: int,
    state: tuple[Status, Activity] | None = None,
) -> StatedConversation | None:
    """Return what the row of a session states, with its messages."""
    id = text(session.get("id"))
    if not id:
        return None
    title = text(session.get("title")) or ""
    noted = Noted(
        at=time(session.get("time_created")),
        title=None if _UNTITLED.fullmatch(title) else title,
        cwd=text(session.get("directory")),
        parent=text(session.get("parent_id")) or text(session.get("fork_session_id")),
        state=state,
    )
    costs = [one.metadata["cost_usd"] for one in messages if one and "cost_usd" in one.metadata]
    return StatedConversation(
        id,
        messages,
        noted=noted,
        stated_at=time(session.get("time_updated")),
        metadata={"cost_usd": round(sum(costs), 6)} if costs else {},
        unreadable=unreadable,
    )


def json_of(value: Any) -> Mapping[str, Any]:
    """Return the object that a column holds as JSON, an empty one where it is none."""
    return mapping(load(value.encode("utf-8", "surrogatepass"))) if isinstance(value, str) else {}


def created_at(row: Mapping[str, Any], data: Mapping[str, Any]) -> datetime | None:
    """Return when a message began, None where that is not said."""
    return time(mapping(data.get("time")).get("created")) or time(row.get("time_created"))


def turn(
    data: Mapping[str, Any], role: Role, *, aborted: tuple[str, str]
) -> tuple[Status, Activity] | None:
    """Return whose turn it is behind a message: an answer that is not completed goes on.

    `aborted` is what an error states of itself where a person has ended the turn: field and value.
    """
    if role != "assistant":
        return ("active", "working") if role == "user" else None
    if error := mapping(data.get("error")):
        name, value = aborted
        return ("active" if error.get(name) == value else "error"), "waiting"
    done = "completed" in mapping(data.get("time")) and data.get("finish") != "tool-calls"
    return "active", "waiting" if done else "working"


def file(url: str, mime: Any, name: Any) -> Block:
    """Return a file that was given, by where it is."""
    image = (text(mime) or "").startswith("image/")
    named = {"title": name} if text(name) else {}
    source = {"type": "url", "url": url}
    return {"type": "image" if image else "document", **named, "source": source}


def usage(tokens: Mapping[str, Any], *, apart: bool) -> dict[str, int]:
    """Return tokens by our names.

    Ours has what was thought among the output, OpenCode's has it `apart`: since anomalyco/opencode
    #21047, and then all its numbers add up to the total that is stated, if any is.
    """
    cache = mapping(tokens.get("cache"))
    stated = {
        "input_tokens": tokens.get("input"),
        "output_tokens": tokens.get("output"),
        "reasoning_tokens": tokens.get("reasoning"),
        "cache_read_tokens": cache.get("read"),
        "cache_write_tokens": cache.get("write"),
    }
    found = {name: number for name, value in stated.items() if (number := count(value))}
    thought = found.get("reasoning_tokens", 0)
    if thought and (apart or sum(found.values()) == tokens.get("total")):
        found["output_tokens"] = found.get("output_tokens", 0) + thought
    return found


def metadata(data: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return what else of a message is worth keeping."""
    kept = {name: data.get(name) for name in ("providerID", "agent", "mode", "finish")} | more
    found: dict[str, Any] = {name: value for name, value in kept.items() if text(value)}
    if cost := amount(data.get("cost")):
        found["cost_usd"] = cost
    return found
