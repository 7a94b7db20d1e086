"""Every conversation that was told of or that an earlier run has seen.

Of the latter, which may be tens of thousands, the state directory keeps the rows until somebody
wants to see them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, MutableMapping
from typing import Protocol
from uuid import UUID

from conv_realtime.background import on_thread
from conv_realtime.edges.checkpoints import KeptConversation
from conv_realtime.models import Conversation

_A_HOP = 1000
"""How many rows are taken in one go on the loop."""


class Shown:
    """A conversation that is known: the path that states it, and as much of its row as there is.

    Attributes:
        row: all of it, None while nobody wanted to see it.
    """

    __slots__ = ("path", "project_id", "revision", "row")

    def __init__(
        self, path: str, project_id: UUID | None, revision: int, row: Conversation | None = None
    ) -> None:
        self.path = path
        self.project_id = project_id
        self.revision = revision
        self.row = row

    def gone(self, id: UUID, owner: UUID) -> Conversation:
        """Return what is told of it when it was erased for good: nothing of what it said."""
        return Conversation(
            id=id,
            owner_id=owner,
            project_id=self.project_id,
            source="",
            machine="",
            session_id="",
            updated_at=self.row and self.row.updated_at,
            revision=self.revision + 1,
        )


class Keeping(Protocol):
    """Where the rows of an earlier run are."""

    def conversations(self) -> dict[str, KeptConversation]:
        """Return every conversation that is kept, by id; the caller may change this."""
        ...

    def rows(self) -> Iterable[tuple[str, str]]:
        """Return the id of each, and its row as JSON. From any thread."""
        ...


class AllShown(MutableMapping[UUID, Shown]):
    """Conversations by id; those of an earlier run are made when they are asked for."""

    def __init__(self, keeping: Keeping | None = None) -> None:
        self._keeping = keeping
        self._kept = keeping.conversations() if keeping is not None else {}
        self._made: dict[UUID, Shown] = {}
        self._read = not self._kept
        self._reading = asyncio.Lock()

    def of_projects(self) -> Counter[str | None]:
        """Return how many each project has, of those of an earlier run."""
        return Counter([project for _, _, project, _ in self._kept.values()])

    async def read(self) -> set[str]:
        """Read all of the rows of an earlier run, on a thread, if nobody has. May be cancelled.

        Returns:
            The files that state those that cannot be read, of a damaged state directory.
        """
        async with self._reading:
            if self._read or self._keeping is None:
                return set()
            for place, (id, row) in enumerate(await on_thread(_rows, self._keeping)):
                shown = self.get(id)
                if shown is not None and shown.row is None:
                    shown.row, shown.revision = row, row.revision
                if place % _A_HOP == 0:
                    await asyncio.sleep(0)
            self._read = True
            return {shown.path for shown in self.values() if shown.row is None}

    def rows(self) -> Iterator[tuple[UUID, Conversation]]:
        """Yield each conversation of which all is known: see `read`."""
        for id, shown in self.items():
            if shown.row is not None:
                yield id, shown.row

    def moved(self, former: str, path: str) -> None:
        """Take note that another file states what `former` did."""
        place = os.fsencode(former)
        for id in [id for id, (_, where, _, _) in self._kept.items() if where == place]:
            self[UUID(id)]  # is made, so that it can be changed
        for shown in self._made.values():
            if shown.path == former:
                shown.path = path

    def __getitem__(self, id: UUID) -> Shown:
        made = self._made.get(id)
        if made is None:
            _, path, project, revision = self._kept.pop(str(id))
            project_id = UUID(project) if project else None
            made = self._made[id] = Shown(os.fsdecode(path), project_id, revision)
        return made

    def __setitem__(self, id: UUID, shown: Shown) -> None:
        self._kept.pop(str(id), None)
        self._made[id] = shown

    def __delitem__(self, id: UUID) -> None:
        if self._kept.pop(str(id), None) is None:
            del self._made[id]

    def __contains__(self, id: object) -> bool:
        return id in self._made or str(id) in self._kept

    def __iter__(self) -> Iterator[UUID]:
        return iter([*self._made, *map(UUID, self._kept)])

    def __len__(self) -> int:
        return len(self._made) + len(self._kept)


def _rows(keeping: Keeping) -> list[tuple[UUID, Conversation]]:
    rows = []
    for id, row in keeping.rows():
        with contextlib.suppress(ValueError):  # damaged
            rows.append((UUID(id), Conversation.model_validate_json(row)))
    return rows
