"""What was sent of conversations that documents state, across restarts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol
from uuid import UUID

from conv_realtime.core.memory import Judged, Memory


class Memories(Protocol):
    """What is kept of conversations across restarts: see `edges.checkpoints.documents`."""

    def recall(self, ids: Collection[UUID]) -> Mapping[UUID, Memory]:
        """Return what is kept of those of `ids` of which anything is. From any thread."""
        ...

    def keep(self, memories: Mapping[UUID, Memory]) -> None:
        """Keep what is about to be sent."""
        ...

    def sent(self, ids: Collection[UUID]) -> None:
        """Note that the database has all of these conversations."""
        ...

    def judge(self, path: str, judged: Collection[Judged]) -> None:
        """Note that sessions of a database need not be read while their marks are the same."""
        ...

    def judged(self, path: str) -> Collection[Judged]:
        """Return what is kept of the sessions of a database. From any thread."""
        ...
