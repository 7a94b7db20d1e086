"""What is remembered across restarts of what files that are rewritten whole have stated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID


class Rank(NamedTuple):
    """What decides between two files that state the same conversation: the higher one holds."""

    stated_at: float
    messages: int
    named: bool


NO_RANK = Rank(0.0, 0, False)


class Sent(NamedTuple):
    """A message as it was last sent: its digest, its revision, and when it was taken back."""

    digest: str
    revision: int
    deleted_at: float | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """What is kept of a conversation across restarts.

    Attributes:
        revision: the conversation's own.
        digest: of its row.
        base: revisions begin above it.
        messages: by native id, in the order in which they first came.
        unsent: whether the database may not have all of it.
        path: the file that stated it.
        rank: of that statement.
    """

    revision: int = 0
    digest: str = ""
    base: int = 0
    messages: Mapping[str, Sent] = field(default_factory=dict)
    unsent: bool = False
    path: str = ""
    rank: Rank = NO_RANK


class Judged(NamedTuple):
    """A session of a database that an earlier process has read, and sent whole.

    Attributes:
        id: of its conversation.
        mark: the session, and what the database said of its state: see `DatabaseFormat.changes`.
        messages: how many it stated.
    """

    id: UUID
    mark: tuple[Any, ...]
    messages: int
