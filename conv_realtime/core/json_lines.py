"""A format of one JSON object a line, described by what one object says.

This is the short way to a format: a class with two methods, `session` and `said`, for assistants
that append their messages one by one.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePath
from typing import Any

from conv_realtime.core import blocks
from conv_realtime.core.conversation_fold import ConversationFold, Entry
from conv_realtime.core.format import Claim, Format, Head, Recognised
from conv_realtime.core.records import Record
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.core.transcript import LogTranscript
from conv_realtime.models import Activity, Role, Status


@dataclass(frozen=True, slots=True)
class Said:
    """One message, or a part of one, as a record states it.

    Attributes:
        role: who speaks.
        content: a text, or blocks as Claude's API has them: `text`, `thinking`, `tool_use` with
            `id`, `name` and `input`, `tool_result` with `tool_use_id` and `content`, `image`.
        native: the message's own id; records with the same one are one message. Without it the
            record's place identifies it.
        replaces: whether the record says all of the message anew, instead of a part of it.
        created_at: when, in UTC.
        model: the model that answered.
        usage: tokens, by the names of `conv_realtime.models.TOKEN_FIELDS`.
        state: what the record says of the conversation's state; default: it follows from `role`
            and from the tools that are called and answered.
        metadata: what else is worth keeping.
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


@dataclass(frozen=True, slots=True)
class Noted:
    """What a record says of its conversation; what it does not state is None.

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


_NOTHING = Noted()


class JsonLines(Format):
    """A log of JSON objects, one a line, each one message or none."""

    suffix = ".jsonl"

    @abc.abstractmethod
    def session(self, path: PurePath, records: Sequence[Mapping[str, Any]]) -> str | None:
        """Return the session that a file with these first records is of.

        None says that it is no file of this format. `records` has at least one; more of them
        must not change the answer.
        """

    @abc.abstractmethod
    def said(self, fields: Mapping[str, Any]) -> Said | None:
        """Return the message that a record states, None where it states none."""

    def noted(self, fields: Mapping[str, Any]) -> Noted:
        """Return what a record says of its conversation; nothing by default."""
        return _NOTHING

    def agent(self, path: PurePath) -> str | None:
        """Return the subagent of its session that a file is; None, the session itself, by default.

        It is asked of files of this format alone.
        """
        return None

    # What follows from these -----------------------------------------------------------------

    def is_named(self, path: str) -> bool:
        """Return whether the file has the format's suffix."""
        return path.endswith(self.suffix)

    def claim(self, path: PurePath, head: Head) -> Claim:
        """Return which session the file is of, as `session` tells from its first records."""
        records = [record.fields for record in head.records]
        if not records:
            return "unsure"
        session = self.session(path, records)
        if not session:
            return None
        agent = self.agent(path)
        return Recognised(self.source, session, agent, named=path.stem == (agent or session))

    def transcript(self, path: PurePath, sanitizer: Sanitizer) -> LogTranscript:
        """Return the fold of a file."""
        return JsonLinesTranscript(self, path, sanitizer)


class JsonLinesTranscript(LogTranscript):
    """The fold of a file whose format says what each record says."""

    def __init__(self, form: JsonLines, path: PurePath, sanitizer: Sanitizer) -> None:
        super().__init__(sanitizer)
        self.source = form.source
        agent = form.agent(path)
        self.agent = self.id(agent) if agent else None
        self._form = form
        self._path = path

    def add(self, record: Record) -> None:
        """Take the next record of the file."""
        fields = record.fields
        if self.session is None:
            session = self._form.session(self._path, [fields])
            self.session = self.id(session) if session else None
        fold = self.fold(None, self.agent)
        noted, said = self._form.noted(fields), self._form.said(fields)
        self.note(fold, record, noted, said)
        if said is not None:
            self.take(fold, record, said)

    def message_fields(self, entry: Entry, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return what a message's records say together, as columns of its row."""
        said = [one for fields in records if (one := self._form.said(fields)) is not None]
        merged: list[blocks.Block] = []
        metadata: dict[str, Any] = {}
        for one in said:
            merged = blocks.merge(merged, _blocks(one))
            metadata |= one.metadata
        clean = self._sanitizer.value(merged, plain=entry.plain)
        model = next((one.model for one in said if one.model), entry.model)
        return {
            "role": entry.role,
            "text": blocks.text_of(clean) if entry.role != "other" else "",
            "content": clean,
            "model": self.name(model) if model else None,
            "created_at": next((one.created_at for one in said if one.created_at), None),
            "usage": dict(entry.usage) or None,
            "metadata": self._sanitizer.value(metadata),
        }

    # Steps of `add` ----------------------------------------------------------------------------

    def note(self, fold: ConversationFold, record: Record, noted: Noted, said: Said | None) -> None:
        """Take what a record says of its conversation."""
        fold.saw_record(record.end, noted.at or (said.created_at if said else None))
        clean = self.name
        if noted.title:
            fold.titles["custom"] = self.shortened(noted.title)
        fold.cwd = clean(noted.cwd) if noted.cwd else fold.cwd
        fold.git_branch = clean(noted.git_branch) if noted.git_branch else fold.git_branch
        fold.model = clean(noted.model) if noted.model else fold.model
        fold.parent = self.id(noted.parent) if noted.parent else fold.parent
        if noted.state is not None:
            fold.is_at(*noted.state)

    def take(self, fold: ConversationFold, record: Record, said: Said) -> Entry:
        """Take a message, or a part of one."""
        if fold.project_path is None:
            fold.project_path = fold.cwd or ""
        entry = self.put(fold, record, said.native, said.role, replaces=said.replaces)
        fold.count_tokens(entry, said.usage)
        found = _blocks(said)
        self.note_secrets(entry, found)
        fold.call_tools(entry, blocks.tool_calls(found), blocks.tool_results(found))
        if said.role == "assistant":
            fold.model = self.name(said.model) if said.model else fold.model
            entry.model = None if said.model else fold.model
        if said.role == "user" and "prompt" not in fold.titles:
            if prompt := blocks.text_of(found).strip():
                fold.titles["prompt"] = self.shortened(prompt)
        fold.is_at(*(said.state or _state(said.role, fold)))
        return entry


def _state(role: Role, fold: ConversationFold) -> tuple[Status, Activity]:
    """Return whose turn it is after a message of `role`."""
    if role == "assistant" and not fold.open_tools:
        return "active", "waiting"
    if role in ("user", "assistant", "tool"):
        return "active", "working"
    return fold.status, fold.activity


def _blocks(said: Said) -> list[blocks.Block]:
    content = said.content
    return blocks.as_blocks(content if isinstance(content, str) else list(content))
