"""What one record says, in the terms of rows: a message, or something of its conversation.

Formats put what they read into these words; what follows from them is the same for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, get_args

from conv_realtime.core import blocks
from conv_realtime.core.conversation_fold import ConversationFold, Entry
from conv_realtime.core.fields import count, time
from conv_realtime.core.transcript import Transcript
from conv_realtime.models import TOKEN_FIELDS, Activity, Role, Status

_ROLES = get_args(Role)


@dataclass(frozen=True, slots=True)
class Said:
    """One message, or a part of one, as a record states it.

    Whatever a record holds can be given: what cannot be read as what it should be is absent.

    Attributes:
        role: who speaks.
        content: a text, or blocks as Claude's API has them: `text`, `thinking`, `tool_use` with
            `id`, `name` and `input`, `tool_result` with `tool_use_id` and `content`, `image`.
        native: the message's own id; records with the same one are one message. Without it the
            record's place identifies it.
        replaces: whether the record says all of the message anew, instead of a part of it.
        created_at: when, in UTC; a text or a number is read as `core.fields.time` does.
        model: the model that answered.
        usage: tokens, by the names of `conv_realtime.models.TOKEN_FIELDS`.
        state: what the record says of the conversation's state; default: it follows from `role`
            and from the tools that are called and answered. Behind a call that asks a person
            something it is that person's turn, whatever is given.
        metadata: what else is worth keeping.

    Raises:
        ValueError: there is no such role.
    """

    role: Role
    content: str | Sequence[Mapping[str, Any]]
    native: str | None = None
    replaces: bool = False
    created_at: datetime | None = None
    model: str | None = None
    usage: Mapping[str, int] = field(default_factory=dict)
    state: tuple[Status, Activity] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.role, str) or self.role not in _ROLES:
            raise ValueError(f"{self.role!r} is no role; roles are {', '.join(_ROLES)}")
        put = partial(object.__setattr__, self)
        for name in ("native", "model"):
            stated: Any = getattr(self, name)
            if not isinstance(stated, str | None):
                put(name, str(stated) if type(stated) is int else None)
        if self.created_at is not None:
            put("created_at", time(self.created_at))
        if self.usage:
            counted = ((name, count(self.usage.get(name))) for name in TOKEN_FIELDS)
            put("usage", {name: value for name, value in counted if value is not None})


@dataclass(frozen=True, slots=True)
class Noted:
    """What a record says of its conversation; what it does not state, or nobody can read, is None.

    Attributes:
        at: the record's time.
        title: the title that a person or the assistant gave it; else the first prompt is taken.
        parent: the session that this one came from.
    """

    at: datetime | None = None
    title: str | None = None
    cwd: str | None = None
    git_branch: str | None = None
    model: str | None = None
    parent: str | None = None
    state: tuple[Status, Activity] | None = None

    def __post_init__(self) -> None:
        put = partial(object.__setattr__, self)
        for name in ("title", "cwd", "git_branch", "model", "parent"):
            if not isinstance(getattr(self, name), str | None):
                put(name, None)
        if self.at is not None:
            put("at", time(self.at))


def note_conversation(transcript: Transcript, fold: ConversationFold, noted: Noted) -> None:
    """Take what is said of a conversation."""
    clean = transcript.name
    if noted.title:
        fold.titles["custom"] = transcript.shortened(noted.title)
    fold.cwd = clean(noted.cwd) if noted.cwd else fold.cwd
    fold.git_branch = clean(noted.git_branch) if noted.git_branch else fold.git_branch
    fold.model = clean(noted.model) if noted.model else fold.model
    fold.parent = transcript.id(noted.parent) if noted.parent else fold.parent
    if noted.state is not None:
        fold.settle(*noted.state)


def count_message(transcript: Transcript, fold: ConversationFold, entry: Entry, said: Said) -> None:
    """Count a message, or a part of one, into the totals of its conversation."""
    fold.count_tokens(entry, said.usage)
    found = blocks_of(said)
    transcript.note_secrets(entry, found)
    fold.call_tools(entry, *blocks.tools(found))
    if said.role == "assistant":
        fold.model = transcript.name(said.model) if said.model else fold.model
        entry.model = None if said.model else fold.model
    if said.role == "user" and "prompt" not in fold.titles:
        if prompt := blocks.text_of(found).strip():
            fold.titles["prompt"] = transcript.shortened(prompt)
    if blocks.asks(found, fold.open_tools):
        fold.is_at("active", "waiting")  # also a subagent, which has not ended
    else:
        fold.settle(*(said.state or _state(said.role, fold)))


def message_fields(transcript: Transcript, entry: Entry, said: Sequence[Said]) -> dict[str, Any]:
    """Return what the parts of a message say together, as columns of its row."""
    merged: list[blocks.Block] = []
    metadata: dict[str, Any] = {}
    for one in said:
        merged = blocks.merge(merged, blocks_of(one))
        metadata |= one.metadata
    clean = transcript.clean(merged, entry.cleaning)
    model = next((one.model for one in said if one.model), entry.model)
    return {
        "role": entry.role,
        "text": blocks.text_of(_spoken(entry.role, clean)) if entry.role != "other" else "",
        "content": clean,
        "model": transcript.name(model) if model else None,
        "created_at": next((one.created_at for one in said if one.created_at), None),
        "usage": dict(entry.usage) or None,
        "metadata": transcript.clean(metadata),
    }


def _spoken(role: Role, found: list[blocks.Block]) -> list[blocks.Block]:
    """Return what is said in a message: in a response not what its tools gave back."""
    if role != "assistant":
        return found
    return [one for one in found if not str(one.get("type")).endswith("tool_result")]


def blocks_of(said: Said) -> list[blocks.Block]:
    """Return the content of a message as blocks."""
    content = said.content
    return blocks.as_blocks(list(content) if isinstance(content, tuple) else content)


def _state(role: Role, fold: ConversationFold) -> tuple[Status, Activity]:
    """Return whose turn it is after a message of `role`."""
    if role == "assistant" and not fold.open_tools:
        return "active", "waiting"
    if role in ("user", "assistant", "tool"):
        return "active", "working"
    return fold.status, fold.activity
