"""The running totals of one conversation: what its records so far amount to.

A fold holds places and sums, never contents: a message's blocks are read again from its
`spans` when its row is wanted, so a gigabyte of transcript folds into some megabytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from conv_realtime.models import TOKEN_FIELDS, Activity, Role, Status

Span = tuple[int, int, int]
"""Start, end and CRC-32 of one record's bytes in the file."""


class LogEntry(NamedTuple):
    """A record that is part of a message: where it ends, and where its line does."""

    end: int
    agent: str | None
    native: str
    mark: tuple[int, int]


_TITLE_RANK = ("custom", "ai", "agent", "summary", "prompt")


@dataclass(slots=True)
class Entry:
    """One message: where its records lie and the most tokens that they stated."""

    native: str
    role: Role
    spans: list[Span]
    usage: dict[str, int] = field(default_factory=dict)

    @property
    def seq(self) -> int:
        """Offset of the first record."""
        return self.spans[0][0]

    @property
    def end(self) -> int:
        """Offset behind the last record merged into it."""
        return self.spans[-1][1]


@dataclass(slots=True)
class ConversationFold:
    """Everything that a conversation's row says, except whose it is.

    `agent` is None for the session itself; `end` is the offset behind its last record.
    """

    agent: str | None
    project_path: str | None = None
    entries: dict[str, Entry] = field(default_factory=dict)
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

    @property
    def title(self) -> str | None:
        """Return the best title known, None without any."""
        return next((self.titles[kind] for kind in _TITLE_RANK if kind in self.titles), None)

    @property
    def first_seq(self) -> int:
        """Offset of the first message; there must be one."""
        return next(iter(self.entries.values())).seq

    def saw_record(self, end: int, time: datetime | None) -> None:
        """Count a record of this conversation, whether it makes a message or not."""
        self.end = max(self.end, end)
        if time is not None:
            self.first_time = self.first_time or time
            self.last_time = max(self.last_time or time, time)

    def put(self, native: str, role: Role, span: Span) -> Entry:
        """Merge a record into its message, or begin one."""
        entry = self.entries.get(native)
        if entry is not None:
            entry.spans.append(span)
            return entry
        entry = self.entries[native] = Entry(native, role, [span])
        if role in ("user", "assistant"):
            self.message_count += 1
        return entry

    def count_tokens(self, entry: Entry, stated: dict[str, int]) -> None:
        """Raise the message's maximum, and the sums by as much: lines of one response repeat."""
        for name, value in stated.items():
            before = entry.usage.get(name, 0)
            entry.usage[name] = max(before, value)
            self.tokens[name] += entry.usage[name] - before

    def call_tools(self, calls: list[str], results: list[str]) -> None:
        """Open the calls that are new and close those that are answered."""
        self.open_tools.update(call for call in calls if call not in self.tool_ids)
        self.tool_ids.update(calls)
        self.open_tools.difference_update(results)

    def is_at(self, status: Status, activity: Activity) -> None:
        """Set what the newest record says of the conversation's state."""
        self.status, self.activity = status, activity
