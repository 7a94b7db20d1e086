"""Reads a file as a whole and gives the rows that it states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

from conv_realtime.core.formats.claude_code import ClaudeCode
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.edges.disk import OpenFile
from conv_realtime.ingest.follow import Follower
from conv_realtime.ingest.rows import Identity
from conv_realtime.models import Conversation, Message

CLAUDE = ClaudeCode()
IDENTITY = Identity(UUID("aaaaaaaa-0000-4000-8000-000000000001"), "bench")


def follow(path: Path) -> Follower:
    """Return a follower that has read nothing yet."""
    return Follower(str(path), CLAUDE, IDENTITY, Sanitizer())


def read_all(follower: Follower, path: Path, limit: int = 2**20) -> None:
    """Fold everything that is there, `limit` bytes at a time."""
    with OpenFile(str(path)) as file:
        while follower.read(file, limit):
            pass


def read_in_pieces(follower: Follower, path: Path, data: bytes, cuts: Sequence[int]) -> None:
    """Have a file grow to `data`, cut anywhere, and fold each piece when it is there."""
    path.write_bytes(b"")
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in pairwise(edges):
        with path.open("ab") as file:
            file.write(data[start:end])
        read_all(follower, path)


def check_growth(
    folder: Path,
    name: str,
    data: bytes,
    cuts: Sequence[int],
    follow: Callable[[Path], Follower],
    state: Callable[[Follower, Path], object],
) -> None:
    """A file that grows to `data` ends in the rows of one that is read at once; so it stays."""
    grown, whole = folder / "grown" / name, folder / "whole" / name
    for path in (grown, whole):
        path.parent.mkdir(parents=True, exist_ok=True)
    whole.write_bytes(data)
    follower, once = follow(grown), follow(whole)
    read_in_pieces(follower, grown, data, cuts)
    read_all(once, whole)
    assert state(follower, grown) == state(once, whole)
    read_all(follower, grown)
    assert state(follower, grown) == state(once, whole)


def stated_by(
    follower: Follower, path: Path, lines: Iterable[bytes]
) -> tuple[Conversation, list[Message]]:
    """Return what a file of these lines states, which is one conversation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(lines))
    read_all(follower, path)
    conversations, messages = rows(follower, path)
    (row,) = conversations
    return row, messages


def rows(follower: Follower, path: Path) -> tuple[list[Conversation], list[Message]]:
    """Return what the follower states, conversations by agent, messages by `seq`."""
    with OpenFile(str(path)) as file:
        folds = [fold for _, fold in follower.rows.conversations()]
        folds.sort(key=lambda fold: (fold.since, fold.agent or ""))
        messages = [row for fold in folds for row in follower.last_messages(fold, file, 10**9)]
    return [follower.rows.conversation(fold) for fold in folds], messages


def state(follower: Follower, path: Path) -> list[dict[str, Any]]:
    """Return every row as the database would get it."""
    conversations, messages = rows(follower, path)
    return [row.to_row() for row in (*conversations, *messages)]


def stated(path: Path) -> tuple[list[Conversation], list[Message]]:
    """Return what a file states, read at once with its last line at rest."""
    follower = follow(path)
    read_all(follower, path)
    follower.take_rest()
    return rows(follower, path)
