"""Checkpoints in memory: of those of an earlier run only what tells whether a file has changed.

The rest is read when it is asked for, which it nearly never is: of tens of thousands of files all
that is wanted is that they did not change.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Protocol

from conv_realtime.core.checkpoint import Checkpoint, FileStat

COLUMNS = "device, inode, size, mtime_ns, messages, conversations, path"
_STAT, _MESSAGES, _CONVERSATIONS, _PATH = slice(0, 4), 4, 5, 6
_DECODING = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()

Row = tuple[Any, ...]
"""The values of `COLUMNS`."""

Key = tuple[str, str, str | None]
"""Source, session and agent: what a file states."""


class Reading(Protocol):
    """Where the rest of a row is read."""

    def whole(self, path: str) -> Checkpoint | None:
        """Return the checkpoint of a file, None where it is lost."""
        ...

    def stating(self, key: Key) -> list[str]:
        """Return the files that state the same."""
        ...


class Remembered(MutableMapping[str, Checkpoint]):
    """The checkpoint of each file, by path. May be asked on any thread, and changed on one.

    Args:
        rows: what an earlier run has kept.
        reading: reads the rest.
    """

    def __init__(self, rows: Iterable[Row] = (), reading: Reading | None = None) -> None:
        self._rows = {row[_PATH].decode(*_DECODING): row[:_PATH] for row in rows}
        self._made: dict[str, Checkpoint] = {}
        self._reading = reading

    def __getitem__(self, path: str) -> Checkpoint:
        if path in self._rows:
            whole = self._reading.whole(path) if self._reading is not None else None
            if whole is not None:
                self._made.setdefault(path, whole)
            self._rows.pop(path, None)  # only now: another thread may ask for it meanwhile
        return self._made[path]

    def __setitem__(self, path: str, checkpoint: Checkpoint) -> None:
        self._made[path] = checkpoint
        self._rows.pop(path, None)

    def __delitem__(self, path: str) -> None:
        if self._rows.pop(path, None) is None:
            del self._made[path]

    def __contains__(self, path: object) -> bool:
        return path in self._made or path in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter([*self._made, *self._rows])

    def __len__(self) -> int:
        return len(self._made) + len(self._rows)

    def stating(self, key: Key) -> list[str]:
        """Return the files that state the same, by their checkpoints."""
        return self._reading.stating(key) if self._reading is not None else []

    def unchanged(self, stats: Mapping[str, FileStat]) -> set[str]:
        """Return which files are as their rows say; none whose checkpoint was asked for."""
        rows = self._rows.copy()
        return {path for path, row in rows.items() if stats.get(path) == row[_STAT]}

    def counts(self, paths: Collection[str]) -> tuple[int, int]:
        """Return how many messages and conversations files state, by their rows."""
        rows = [self._rows[path] for path in paths]
        return sum([row[_MESSAGES] for row in rows]), sum([row[_CONVERSATIONS] for row in rows])
