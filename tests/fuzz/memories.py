"""Whose rows are read, and the state directory of a first run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

from conv_realtime.core.memory import Judged, Memory
from conv_realtime.ingest.rows import Identity
from conv_realtime.testing.formats.reading import MACHINE, OWNER

IDENTITY = Identity(OWNER, MACHINE)


class NoMemories:
    """Nothing was ever sent, and nothing is kept."""

    def recall(self, ids: Collection[UUID]) -> Mapping[UUID, Memory]:
        """Give nothing."""
        return {}

    def keep(self, memories: Mapping[UUID, Memory]) -> None:
        """Keep nothing."""

    def sent(self, ids: Collection[UUID]) -> None:
        """Keep nothing."""

    def judge(self, path: str, judged: Collection[Judged]) -> None:
        """Keep nothing."""

    def judged(self, path: str) -> Collection[Judged]:
        """Give nothing."""
        return ()
