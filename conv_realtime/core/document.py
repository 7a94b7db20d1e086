"""A format whose files are rewritten whole: what a complete file states, said conversation by
conversation.

Where a conversation lies in the file is known before it is read: so of an export with thousands of
them only one at a time is held in memory.
"""

from __future__ import annotations

import abc
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePath
from typing import Any, ClassVar, NamedTuple

from conv_realtime.core.format import Claim, Format, Head, Recognised
from conv_realtime.core.said import Noted, Said

_BLANK = re.compile(rb"[ \n\r\t]*")
_WINDOW_BYTES = 64 * 2**10
_OTHERS = (
    ".meta.json", "sessions-index.json", "package.json", "package-lock.json", "tsconfig.json",
    "settings.json", "logs.json", "api_conversation_history.json", "task_metadata.json",
    "context_history.json", "history_item.json",
)  # fmt: skip


class Part(NamedTuple):
    """Bytes `start` to `end` of a file, one JSON value that states whole conversations."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class StatedConversation:
    """A conversation as a file states it, from its beginning to its end.

    Attributes:
        session: its id; with `agent`, that of the session whose subagent it is.
        project: the path or name of its project, where that is not the folder it runs in.
        messages: in their order. One that makes no row is None: it keeps its place, so that
            the places of those behind it do not change when it becomes one.
        noted: what is said of it; `at` is when it began.
        stated_at: how new the statement is: of two files that state the same conversation the
            newer one holds. Default: the time of its newest message.
        metadata: what else is worth keeping.
        unreadable: how many rows of it, in a database, hold nothing that can be read.
    """

    session: str
    messages: Sequence[Said | None]
    agent: str | None = None
    project: str | None = None
    noted: Noted = field(default_factory=Noted)
    stated_at: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    unreadable: int = 0


class DocumentFormat(Format):
    """A format whose files are rewritten whole."""

    suffix = ".json"

    def is_named(self, path: str) -> bool:
        """Return whether the file has the format's suffix, and is not known as something else."""
        return path.endswith(self.suffix) and not path.endswith(_OTHERS)

    def parts(self, data: bytes) -> Iterator[Part]:
        """Yield where the values lie that `conversations` is called with: the file is one.

        Raises:
            ValueError: the file is not complete.
        """
        yield Part(0, len(data))

    @abc.abstractmethod
    def conversations(self, value: Any, path: PurePath) -> Iterable[StatedConversation]:
        """Yield what the JSON value of a part states; nothing where it is something else."""


class JsonDocument(DocumentFormat):
    """A JSON object that is one session."""

    def claim(self, path: PurePath, head: Head) -> Claim:
        """Return which session the file is of, as `session` tells from its first object."""
        found = head.outline
        if not found.json or found.listed:
            return None
        session = self.session(path, found.fields)
        if session is not None:
            return Recognised(self.source, session, named=path.stem == session)
        return "unsure" if not found.ends and self.may_be(found.names) else None

    @abc.abstractmethod
    def session(self, path: PurePath, fields: Mapping[str, Any]) -> str | None:
        """Return the session that a file with these first fields is of.

        None says that they do not tell yet. More of them must not change the answer.
        """

    def may_be(self, names: Collection[str]) -> bool:
        """Return whether a file with fields of these names may be of this format."""
        return True


class Export(DocumentFormat):
    """A JSON list, each item a conversation."""

    def claim(self, path: PurePath, head: Head) -> Claim:
        """Return whether the first item is a conversation of this format."""
        found = head.outline
        if not found.json or (not found.listed and found.names):
            return None
        verdict = self.is_conversation(found.names)
        if verdict is True:
            return Recognised(self.source, str(path))
        return "unsure" if verdict is None and not found.ends else None

    @abc.abstractmethod
    def is_conversation(self, names: Collection[str]) -> bool | None:
        """Return whether an item with fields of these names is one, None while that is open."""

    def parts(self, data: bytes) -> Iterator[Part]:
        """Yield the items of the list.

        Raises:
            ValueError: the file is not complete, or no list.
        """
        at = _skip(data, 3 if data.startswith(b"\xef\xbb\xbf") else 0)
        at = _skip(data, _expect(data, at, b"["))
        if data[at : at + 1] != b"]":
            while True:
                end = _end_of_value(data, at)
                yield Part(at, end)
                at = _skip(data, end)
                if data[at : at + 1] == b"]":
                    break
                at = _skip(data, _expect(data, at, b","))
        if _skip(data, at + 1) != len(data):
            raise ValueError("something follows the list")


Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""The rows of one session, by the name of the query that gave them."""

_SQLITE = b"SQLite format 3\x00"


class Layout(NamedTuple):
    """How a database holds sessions.

    Attributes:
        tables: those that it needs.
        changes: a query that gives every session: its id, and columns that are others whenever
            anything is said of it. Its parameter says whether to look everywhere; else only
            where something may have happened lately. What was not looked at is NULL, and
            nothing else is; times are milliseconds.
        queries: by name, what gives the rows of one session; its id is the parameter.
        conversation: returns what the rows of a session state, None where it is none.
    """

    tables: frozenset[str]
    changes: str
    queries: Mapping[str, str]
    conversation: Callable[[Rows], StatedConversation | None]


class DatabaseFormat(Format):
    """A format whose sessions are rows of an SQLite database.

    Attributes:
        layouts: a database may have several; what the last of them says of a session counts.
    """

    layouts: ClassVar[Sequence[Layout]]

    def claim(self, path: PurePath, head: Head) -> Claim:
        """Return whether the file, by its name one of this format, is a database."""
        begin = head.data[: len(_SQLITE)]
        if begin == _SQLITE:
            return Recognised(self.source, str(path))
        return "unsure" if _SQLITE.startswith(begin) else None


def _end_of_value(data: bytes, at: int) -> int:
    """Return where the JSON value that begins at `at` ends; little more of the file is looked at.

    Raises:
        ValueError, RecursionError: it is not whole, or no JSON that can be read.
    """
    size = _WINDOW_BYTES
    while True:
        # As Latin-1 a byte is a character: places are bytes. What is found this way is parsed
        # again from its bytes; here it only has to end where it ends.
        text = data[at : at + size].decode("latin-1")
        last = at + size >= len(data)
        try:
            _, length = _decode(text)
        except (ValueError, RecursionError):
            if last:
                raise
        else:
            if last or length < len(text):
                return at + length
        size *= 4


def _nothing(_: list[tuple[str, Any]]) -> None:
    return None


_decode = json.JSONDecoder(strict=False, object_pairs_hook=_nothing).raw_decode


def _skip(data: bytes, at: int) -> int:
    blank = _BLANK.match(data, at)
    return blank.end() if blank else at


def _expect(data: bytes, at: int, what: bytes) -> int:
    if data[at : at + 1] != what:
        raise ValueError(f"no {what!r} at {at}")
    return at + 1
