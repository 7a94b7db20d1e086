"""Which of several files with the same conversation states it.

Copies, snapshots and synchronised folders give one session several files. One of them owns
the conversation; the others are skipped, so nothing is doubled. The choice depends on the set
of files, never on the order in which they were found.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

FORKED = "forked_from"
"""The key of a conversation's metadata that names the session it was forked from."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that could own a conversation; `named` when its stem is the session id."""

    path: str
    size: int
    named: bool


def choose_owner(
    candidates: Collection[Candidate],
    current: str | None,
    continues: Callable[[Candidate, Candidate], bool],
) -> Candidate:
    """Return the owner among at least one candidate.

    An owner stays while it exists. Otherwise the file named like the session, else the
    largest, else the first path. A larger file that begins with all of the owner's content
    takes over: it is the same conversation, grown further.

    Args:
        candidates: the files that exist now, one a path.
        current: the path that owns the conversation so far.
        continues: whether the first file begins with the whole content of the second.
    """
    ranked = sorted(candidates, key=lambda file: (not file.named, -file.size, file.path))
    owner = next((file for file in ranked if file.path == current), ranked[0])
    larger = [file for file in ranked if file.size > owner.size]
    for file in sorted(larger, key=lambda file: (-file.size, not file.named, file.path)):
        if continues(file, owner):
            return file
    return owner


def is_subagent(agent_id: str | None, metadata: Mapping[str, Any]) -> bool:
    """Return whether a child is part of its parent, by its agent's name and its metadata.

    A file that was rewritten with something else goes on as a child, too, `<agent>@<part>`, and so
    does what a person forked: these are other conversations.
    """
    if FORKED in metadata:
        return False
    _, _, part = (agent_id or "").partition("@")
    return not part.isdigit()
