"""Every conversation that was told of or that an earlier run has seen; of those most stay text."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, MutableMapping
from uuid import UUID

from conv_realtime.edges.checkpoints import KeptConversation
from conv_realtime.models import Conversation


class Shown:
    """A conversation that is known, the path that states it and the project that it is of."""

    __slots__ = ("_row", "path", "project_id")

    def __init__(self, path: str, project_id: UUID | None, row: Conversation | str) -> None:
        self.path = path
        self.project_id = project_id
        self._row = row

    @property
    def row(self) -> Conversation:
        """Its row. Of an earlier run it is parsed now: nobody may ever want it."""
        if isinstance(self._row, str):
            self._row = Conversation.model_validate_json(self._row)
        return self._row


class AllShown(MutableMapping[UUID, Shown]):
    """Conversations by id; those of an earlier run are made when they are asked for."""

    def __init__(self, kept: Mapping[str, KeptConversation]) -> None:
        self._kept = dict(kept)
        self._made: dict[UUID, Shown] = {}

    def moved(self, former: str, path: str) -> None:
        """Take note that another file states what `former` did."""
        place = os.fsencode(former)
        for id in [id for id, (_, where, *_) in self._kept.items() if where == place]:
            self[UUID(id)]  # is made, so that it can be changed
        for shown in self._made.values():
            if shown.path == former:
                shown.path = path

    def __getitem__(self, id: UUID) -> Shown:
        made = self._made.get(id)
        if made is None:
            _, path, row, project = self._kept.pop(str(id))
            project_id = UUID(project) if project else None
            made = self._made[id] = Shown(os.fsdecode(path), project_id, row)
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
