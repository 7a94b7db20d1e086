"""Examples of transcripts: small, invented, one folder a format, for its own checks and others'."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "examples"
_LATER_STATE = re.compile(r"(.+)\.(\d+)$")


@dataclass(frozen=True, slots=True)
class Example:
    """One transcript: its path within a folder of transcripts, and its contents.

    A log has one state, which is read in any pieces; a document has those that it was rewritten
    to, oldest first.
    """

    name: str
    states: tuple[bytes, ...]

    @property
    def whole(self) -> bytes:
        """The newest state."""
        return self.states[-1]

    @property
    def appended(self) -> bool:
        """Whether each state begins with the one before it."""
        return all(
            later.startswith(state)
            for state, later in zip(self.states, self.states[1:], strict=False)
        )


Given = Mapping[str, bytes | Sequence[bytes]] | Path
"""Contents by path, or a folder: there `name.2` is what `name` was rewritten to, and so on."""


def examples_of(given: Given) -> list[Example]:
    """Return the examples that somebody gives.

    Raises:
        ValueError: there is none.
    """
    found = _in_folder(given) if isinstance(given, Path) else _named(given)
    if not found:
        raise ValueError(f"there is no example in {given}")
    return found


@cache
def built_in(source: str) -> tuple[Example, ...]:
    """Return our examples of one of our formats."""
    return tuple(_in_folder(FOLDER / source))


def _named(given: Mapping[str, bytes | Sequence[bytes]]) -> list[Example]:
    return [
        Example(name, (states,) if isinstance(states, bytes) else tuple(states))
        for name, states in given.items()
    ]


def _in_folder(folder: Path) -> list[Example]:
    states: dict[str, dict[int, bytes]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name, place = path.relative_to(folder).as_posix(), 1
            if (later := _LATER_STATE.match(name)) is not None:
                name, place = later[1], int(later[2])
            states.setdefault(name, {})[place] = path.read_bytes()
    return [
        Example(name, tuple(data for _, data in sorted(found.items())))
        for name, found in states.items()
    ]
