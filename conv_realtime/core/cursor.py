"""Cursors: `<stream>.<position>`, opaque to clients, comparable within one stream.

A position is one number or several, joined by `-`, compared from the left: a counter of this
process, or the transaction and sequence number of a database.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_FORM = re.compile(r"([A-Za-z0-9_-]{1,64})\.([0-9]{1,20}(?:-[0-9]{1,20}){0,3})")


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place between two changes: everything up to `position` of `stream` is behind it."""

    stream: str
    position: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.stream}.{'-'.join(map(str, self.position))}"

    def reaches(self, other: Cursor) -> bool:
        """Return whether everything before `other` is also before this one."""
        return self.stream == other.stream and self.position >= other.position


def parse_cursor(text: str) -> Cursor | None:
    """Return the cursor that `text` holds, or None if it has another form."""
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    return Cursor(found[1], tuple(int(part) for part in found[2].split("-")))
