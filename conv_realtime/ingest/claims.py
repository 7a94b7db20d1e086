"""Which file states a conversation, where several documents do: two exports, a file and its copy.

The newer statement holds, in whatever order the files are read; of equal ones the first that was
found, while its file exists. What an earlier process sent counts, too, also when its file is gone:
an older copy that is left of it does not take anything back.
"""

from __future__ import annotations

import os
import weakref
from dataclasses import dataclass
from threading import Lock
from typing import Protocol
from uuid import UUID

from conv_realtime.core.memory import Memory, Rank


class Claimant(Protocol):
    """Who states conversations of a file."""

    def memory(self, thread: str | None) -> Memory | None:
        """Return what there is to remember of a conversation, None where it is not stated here."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The best statement of a conversation that is known; `follower` is who made it, if alive."""

    path: str
    rank: Rank
    follower: weakref.ref[Claimant] | None = None

    def yields_to(self, path: str, rank: Rank) -> bool:
        """Return whether the statement of another file holds instead."""
        if path == self.path or rank > self.rank:
            return True
        return rank == self.rank and not os.path.exists(self.path)


class Claims:
    """The best statement of every conversation. May be asked from any thread."""

    def __init__(self) -> None:
        self._best: dict[UUID, Claim] = {}
        self._lock = Lock()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._best.clear()

    def make(
        self, id: UUID, path: str, rank: Rank, memory: Memory | None, follower: Claimant
    ) -> Claim | None:
        """Claim a conversation for a file.

        Returns:
            The claim that holds: another file's where that is the better one; else the one that
            held so far, None without any.
        """
        with self._lock:
            best = self._best.get(id)
            if best is None and memory is not None and memory.path:
                best = Claim(memory.path, memory.rank)
            if best is None or best.yields_to(path, rank):
                self._best[id] = Claim(path, rank, weakref.ref(follower))
            else:
                self._best[id] = best
            return best
