"""The running totals of one conversation: what its records so far amount to.

A fold holds places and sums, never contents: a message's blocks are read again from its
`spans` when its row is wanted, so a gigabyte of transcript folds into some megabytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from conv_realtime.core.ownership import FORKED
from conv_realtime.core.redaction import Found
from conv_realtime.core.sanitize import Cleaning
from conv_realtime.models import TOKEN_FIELDS, Activity, Role, Status

Span = tuple[int, int, int, int]
"""Start and end of one record's bytes in the file, their CRC-32, and what that was begun with."""


class LogEntry(NamedTuple):
    """A record that is part of a message: where it ends, and where its line does."""

    end: int
    thread: str | None
    native: str
    mark: tuple[int, int]


_NO_TIME = datetime.fromtimestamp(0, UTC)
_TITLE_RANK = ("custom", "ai", "agent", "summary", "prompt", "command")


@dataclass(slots=True)
class Entry:
    """One message: where its records lie and the most tokens that they stated.

    Attributes:
        seq: its place in the file, which orders the conversation: offset of the first record.
        since: the place in the log before its first record; in a log that is `seq`.
        end: the place in the log behind the last record that changed it: an offset in the file.
        spans: the records that say what is in it.
        model: who said it, where the records themselves do not tell.
        calls: ids of the tools that it calls.
        deleted_at: when it was taken back, None while it stands.
        cleaning: what is to be done to what its records say.
        revision: its revision, where that does not follow from `end`.
        digest: what it says, in short, where that has to be compared.
        weight: about how many bytes it has, where `spans` do not tell.
    """

    native: str
    role: Role
    seq: int
    since: int
    end: int
    spans: list[Span]
    usage: dict[str, int] = field(default_factory=dict)
    model: str | None = None
    calls: tuple[str, ...] = ()
    deleted_at: datetime | None = None
    cleaning: Cleaning = Cleaning.ALL
    revision: int | None = None
    digest: str = ""
    weight: int = 0

    @property
    def size(self) -> int:
        """About how many bytes it has."""
        if len(self.spans) == 1:
            return self.weight or self.spans[0][1] - self.spans[0][0]
        return self.weight or sum([span[1] - span[0] for span in self.spans])


@dataclass(slots=True)
class ConversationFold:
    """Everything that a conversation's row says, except whose it is.

    Attributes:
        thread: its name within the file, None for the main one.
        agent: the subagent of its session that it is, None for the session itself.
        session: its session id, None where that is the file's.
        parent: the session that it came from, where the file states another than its own.
        since: the place in the log before its first message; negative while it has none.
        end: the place in the log behind its last record.
        secrets: those that are replaced in what it says, each once.
        revision: its revision, where that does not follow from `end`.
        recalled: whether it was known before this process followed the file: no news.
        metadata: what else is worth keeping.
    """

    thread: str | None
    agent: str | None = None
    session: str | None = None
    parent: str | None = None
    project_path: str | None = None
    entries: dict[str, Entry] = field(default_factory=dict)
    since: int = -1
    end: int = 0
    first_time: datetime | None = None
    last_time: datetime | None = None
    cwd: str | None = None
    git_branch: str | None = None
    model: str | None = None
    status: Status = "active"
    activity: Activity = "working"
    message_count: int = 0
    tool_ids: set[str] = field(default_factory=set)
    open_tools: set[str] = field(default_factory=set)
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOKEN_FIELDS, 0))
    titles: dict[str, str] = field(default_factory=dict)
    secrets: set[Found] = field(default_factory=set)
    revision: int | None = None
    recalled: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def fork(self, origin: str) -> None:
        """Note that the conversation was forked from session `origin`."""
        self.parent = origin
        self.metadata = {**self.metadata, FORKED: origin}

    @property
    def title(self) -> str | None:
        """Return the best title known, None without any."""
        return next((found for kind in _TITLE_RANK if (found := self.titles.get(kind))), None)

    @property
    def standing(self) -> Sequence[Entry]:
        """The messages that were not taken back, in the order in which they began."""
        return [entry for entry in self.entries.values() if entry.deleted_at is None]

    def saw_record(self, end: int, time: datetime | None) -> None:
        """Count a record of this conversation, whether it makes a message or not."""
        if end > self.end:
            self.end = end
        if time is not None:
            self.first_time = self.first_time or time
            if self.last_time is None or time > self.last_time:
                self.last_time = time

    def put(self, native: str, role: Role, span: Span, *, replaces: bool = False) -> Entry:
        """Merge a record into its message, or begin one.

        A record that `replaces` says all of the message anew.
        """
        entry = self.entries.get(native)
        if entry is None:
            if not self.entries:
                self.since = span[0]
            return self.begin(Entry(native, role, span[0], span[0], span[1], [span]))
        if entry.deleted_at is not None:
            entry.deleted_at, replaces = None, True
            self._count(entry.role, 1)
        if replaces:
            entry.spans.clear()
            self.recast(entry, role)
        entry.end = span[1]
        entry.spans.append(span)
        return entry

    def recast(self, entry: Entry, role: Role) -> None:
        """Change who spoke: a later record knows better."""
        self._count(entry.role, -1)
        entry.role = role
        self._count(role, 1)

    def begin(self, entry: Entry) -> Entry:
        """Take a message that was not there before."""
        self.entries[entry.native] = entry
        self._count(entry.role, 1)
        return entry

    def withdraw(self, native: str, end: int, at: datetime | None) -> bool:
        """Take a message back, by a record that ends at `end`; return whether it stood."""
        entry = self.entries.get(native)
        if entry is None or entry.deleted_at is not None:
            return False
        entry.end, entry.deleted_at = end, at or self.last_time or _NO_TIME
        self._count(entry.role, -1)
        for name, value in entry.usage.items():
            self.tokens[name] -= value
        self.tool_ids.difference_update(entry.calls)
        self.open_tools.difference_update(entry.calls)
        entry.usage, entry.calls = {}, ()
        return True

    def _count(self, role: Role, by: int) -> None:
        if role in ("user", "assistant"):
            self.message_count += by

    def count_tokens(self, entry: Entry, stated: Mapping[str, int]) -> None:
        """Raise the message's maximum, and the sums by as much: lines of one response repeat."""
        usage, tokens = entry.usage, self.tokens
        for name, value in stated.items():
            before = usage.get(name)
            if before is None or value > before:
                usage[name] = value
                tokens[name] += value - (before or 0)

    def call_tools(self, entry: Entry, calls: Sequence[str], results: Sequence[str]) -> None:
        """Open the calls that are new and close those that are answered."""
        if calls and (new := [call for call in calls if call not in self.tool_ids]):
            self.open_tools.update(new)
            self.tool_ids.update(new)
            entry.calls += tuple(new)
        if results:
            self.open_tools.difference_update(results)

    def is_at(self, status: Status, activity: Activity) -> None:
        """Set what the newest record says of the conversation's state."""
        self.status, self.activity = status, activity

    def settle(self, status: Status, activity: Activity) -> None:
        """Set the state, that of a subagent too: who called it has its answer, nobody is asked."""
        if self.agent is not None and (status, activity) == ("active", "waiting"):
            status, activity = "completed", "ended"
        self.is_at(status, activity)
