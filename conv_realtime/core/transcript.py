"""The fold of one transcript: what it says so far, without its contents.

Of one that grows by appending, what a record's conversation, message id and place are follows
from the bytes up to its own end and is never revised, so any split of the file into reads gives
the same rows.
"""

from __future__ import annotations

import abc
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from conv_realtime.core import records
from conv_realtime.core.conversation_fold import ConversationFold, Entry, LogEntry
from conv_realtime.core.framing import Line
from conv_realtime.core.records import Record, Torn
from conv_realtime.core.redaction import Found
from conv_realtime.core.sanitize import Cleaning, Sanitizer
from conv_realtime.models import Role

TITLE_CHARS = 100
_NAMES_KEPT = 1_000


class Transcript(abc.ABC):
    """The fold of one file: read totals and places at any time.

    Attributes:
        source: the format's name in rows and ids.
        session: the session id, None until a record fixes it.
        agent: the subagent that the whole file is, None for a session's file.
        conversations: by thread, a name within the file; None is its main conversation.
        log: for each record that is part of a message, in the order in which they came: its end,
            thread, message and mark. A message is as new as its last place in the log.
    """

    source: str
    session: str | None = None
    agent: str | None = None

    def __init__(self, sanitizer: Sanitizer) -> None:
        self.conversations: dict[str | None, ConversationFold] = {}
        self.log: list[LogEntry] = []
        self._sanitizer = sanitizer
        self._names: dict[str, str] = {}

    def begun(self, start: int, end: int) -> Iterator[ConversationFold]:
        """Yield the conversations whose first message lies from `start` on and before `end`."""
        for fold in self.conversations.values():
            if fold.entries and start <= fold.since < end:
                yield fold

    def ended(self, start: int, end: int) -> Iterator[ConversationFold]:
        """Yield the conversations that end behind `start`, and not behind `end`."""
        for fold in self.conversations.values():
            if fold.entries and start < fold.end <= end:
                yield fold

    def name(self, text: str) -> str:
        """Return a name or path without what must not leave the machine; records repeat them."""
        known = self._names.get(text)
        if known is None:
            if len(self._names) >= _NAMES_KEPT:
                self._names.clear()
            known = self._names[text] = self._sanitizer.name(text)
        return known

    def id(self, text: str) -> str:
        """Return a name that ids are made of; one that holds a secret becomes a digest."""
        return self._sanitizer.id(text)

    def clean(self, value: Any, needed: Cleaning | None = None) -> Any:
        """Return a JSON value without what must not leave the machine; see `Sanitizer.value`."""
        return self._sanitizer.value(value, needed)

    def take_secrets(self) -> Collection[Found]:
        """Return the secrets that were replaced since this was asked last."""
        return self._sanitizer.take_found()

    def note_secrets(self, entry: Entry, said: Sequence[Mapping[str, Any]]) -> None:
        """Count the secrets in what a record of a message says: once for each, or for none.

        By `entry.cleaning` the sanitizer need not look again when the message's row is made.
        """
        needed = self._sanitizer.note(said)
        entry.cleaning = needed if len(entry.spans) == 1 else max(needed, entry.cleaning)

    def shortened(self, title: str) -> str:
        """Return a title on one line, without what must not leave the machine."""
        # Cleaned before it is cut: half a secret would not be recognised.
        line = " ".join(self._sanitizer.text(title).split())
        return line if len(line) <= TITLE_CHARS else line[: TITLE_CHARS - 1].rstrip() + "…"


class LogTranscript(Transcript):
    """The fold of a file that grows by appending: push records in order."""

    def __init__(self, sanitizer: Sanitizer) -> None:
        super().__init__(sanitizer)
        self._at: ConversationFold | None = None

    @abc.abstractmethod
    def add(self, record: Record) -> None:
        """Take the next record of the file."""

    @abc.abstractmethod
    def message_fields(self, entry: Entry, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return what a message's records say together, as columns of its row.

        These are `role, text, content, model, created_at, usage, metadata`. `records` are those
        at the entry's `spans`, in order.
        """

    def split(self, line: Line) -> Iterable[Record | Torn]:
        """Return the records on a line, in order."""
        return records.read_records(line)

    def load(self, data: bytes) -> dict[str, Any] | None:
        """Return the one record that `data` is, None when it is not whole."""
        value = records.load(data)
        return value if isinstance(value, dict) else None

    def is_whole(self, data: bytes) -> bool:
        """Return whether a last line without a newline is a record that nothing can be added to."""
        return self.load(data) is not None

    def keep_secrets(self) -> None:
        """Count the secrets of the record that was added last with its conversation."""
        if self._at is not None and (found := self._sanitizer.take_found()):
            self._at.secrets.update(found)

    # For formats ---------------------------------------------------------------------------

    def fold(self, thread: str | None = None, agent: str | None = None) -> ConversationFold:
        """Return the conversation `thread` of the file, begun where there is none."""
        found = self.conversations.get(thread)
        if found is None:
            found = self.conversations[thread] = ConversationFold(thread, agent)
        self._at = found
        return found

    def put(
        self,
        fold: ConversationFold,
        record: Record,
        native: str | None,
        role: Role,
        *,
        replaces: bool = False,
    ) -> Entry:
        """Merge a record into its message, or begin one; without `native` its place names it.

        A record that `replaces` says all of the message anew: those before it are not read again.
        """
        name = native or f"@{record.start}"
        span = record.start, record.end, record.crc, record.seed
        entry = fold.put(name, role, span, replaces=replaces)
        self.log.append(LogEntry(record.end, fold.thread, name, record.mark))
        return entry

    def withdraw(
        self, fold: ConversationFold, record: Record, natives: Sequence[str], at: datetime | None
    ) -> None:
        """Take messages back, by a record that says so."""
        for native in natives:
            if fold.withdraw(native, record.end, at):
                self.log.append(LogEntry(record.end, fold.thread, native, record.mark))
