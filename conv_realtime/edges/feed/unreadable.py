"""Rows of the database that this version cannot read: each is left out, and none in silence.

A newer version may have written them, or somebody by hand. One of them must not hold up what comes
behind it, for it would for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from conv_realtime.models import Conversation, Message, Project

logger = logging.getLogger("conv_realtime.feed")

_MOST = 10_000

_Kind = TypeVar("_Kind", Project, Conversation, Message)


class Unreadable:
    """Reads rows, and remembers those that it could not read until it can."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], None] = {}

    def __len__(self) -> int:
        """Return how many rows are left out, `_MOST` at most."""
        return len(self._rows)

    def read(self, kind: type[_Kind], row: Mapping[str, Any], **joined: Any) -> _Kind | None:
        """Return a row as what it is, None where it is none that this version knows.

        `joined` are fields that are not in the table.
        """
        place = kind.table, str(row.get("id"))
        try:
            found = kind.model_validate({**row, **joined})
        except ValidationError as error:
            self._note(place, error)
            return None
        self._rows.pop(place, None)
        return found

    def _note(self, place: tuple[str, str], error: ValidationError) -> None:
        if place in self._rows:
            return
        # Its own words could hold what the row says.
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        logger.error(
            "%s %s is left out: this version cannot read its %s (%s)", *place, where, first["type"]
        )
        self._rows[place] = None
        if len(self._rows) > _MOST:
            del self._rows[next(iter(self._rows))]
