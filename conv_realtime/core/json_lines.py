"""A format of one JSON object a line, described by what one object says.

This is the short way to a format: a class with two methods, `session` and `said`, for assistants
that append their messages one by one.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from conv_realtime.core.conversation_fold import ConversationFold, Entry
from conv_realtime.core.format import Claim, Head, LogFormat, Recognised
from conv_realtime.core.framing import Line
from conv_realtime.core.records import Record, Torn
from conv_realtime.core.said import Noted, Said, count_message, message_fields, note_conversation
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.core.transcript import LogTranscript

__all__ = ["JsonLines", "JsonLinesTranscript", "Noted", "Said"]

_NOTHING = Noted()


class JsonLines(LogFormat):
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
        """Return the message that a record states, None where it states none.

        A record over which this raises an exception is skipped and counted, with its place.
        """

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
        self._next: tuple[Record, Noted, Said | None] | None = None

    def split(self, line: Line) -> Iterator[Record | Torn]:
        """Yield the records on a line; one that the format fails over is none, and says so."""
        for found in super().split(line):
            if isinstance(found, Record):
                try:
                    self._next = found, *self._read(found)
                except Exception as error:  # whatever somebody's format raises over odd data
                    # By its name alone: what it says may be of the conversation.
                    reason = f"the format {self.source} raised {type(error).__name__}"
                    found = Torn(found.start, found.end, reason)
            yield found

    def read(self, record: Record) -> tuple[Noted, Said | None]:
        """Return what a record says, as its format has it."""
        if self._next is not None and self._next[0] is record:
            return self._next[1:]
        return self._read(record)

    def _read(self, record: Record) -> tuple[Noted, Said | None]:
        return self._form.noted(record.fields), self._form.said(record.fields)

    def add(self, record: Record) -> None:
        """Take the next record of the file."""
        self.note_session(record)
        fold = self.fold(None, self.agent)
        noted, said = self.read(record)
        self.note(fold, record, noted, said)
        if said is not None:
            self.take(fold, record, said)

    def message_fields(self, entry: Entry, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return what a message's records say together, as columns of its row."""
        parts = [one for fields in records if (one := self._form.said(fields)) is not None]
        return message_fields(self, entry, parts)

    # Steps of `add` ----------------------------------------------------------------------------

    def note_session(self, record: Record) -> None:
        """Take the session that the file is of, by the first record that tells."""
        if self.session is None and (found := self._form.session(self._path, [record.fields])):
            self.session = self.id(found)

    def note(self, fold: ConversationFold, record: Record, noted: Noted, said: Said | None) -> None:
        """Take what a record says of its conversation."""
        fold.saw_record(record.end, noted.at or (said.created_at if said else None))
        note_conversation(self, fold, noted)

    def take(self, fold: ConversationFold, record: Record, said: Said) -> Entry:
        """Take a message, or a part of one."""
        if fold.project_path is None:
            fold.project_path = fold.cwd or ""
        entry = self.put(fold, record, said.native, said.role, replaces=said.replaces)
        count_message(self, fold, entry, said)
        return entry
