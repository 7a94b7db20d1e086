"""Checkpoints in memory: of those of an earlier run only what tells whether a file has changed.

The rest is read when it is asked for, which it nearly never is: of tens of thousands of files all
that is wanted is that they did not change.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from conv_realtime.core.checkpoint import Checkpoint, FileStat

COLUMNS = "device, inode, size, mtime_ns, messages, conversations, source, session, agent, path"
_STAT, _MESSAGES, _CONVERSATIONS, _KEY, _PATH = slice(0, 4), 4, 5, slice(6, 9), 9
_DECODING = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()

Row = tuple[Any, ...]
"""The values of `COLUMNS`."""

Key = tuple[str, str, str | None]
"""Source, session and agent: what a file states."""


class Remembered(MutableMapping[str, Checkpoint]):
    """The checkpoint of each file, by path.

    Args:
        rows: what an earlier run has kept.
        read: gives the whole checkpoint of a path of `rows`, None where it is lost.
    """

    def __init__(
        self,
        rows: Iterable[Row] = (),
        read: Callable[[str], Checkpoint | None] = lambda path: None,
    ) -> None:
        self._read = read
        self._rows = {row[_PATH].decode(*_DECODING): row for row in rows}
        self._made: dict[str, Checkpoint] = {}

    def __getitem__(self, path: str) -> Checkpoint:
        if path not in self._made and self._rows.pop(path, None) is not None:
            if (checkpoint := self._read(path)) is not None:
                self._made[path] = checkpoint
        return self._made[path]

    def __setitem__(self, path: str, checkpoint: Checkpoint) -> None:
        self._rows.pop(path, None)
        self._made[path] = checkpoint

    def __delitem__(self, path: str) -> None:
        if self._rows.pop(path, None) is None:
            del self._made[path]

    def __contains__(self, path: object) -> bool:
        return path in self._made or path in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter([*self._made, *self._rows])

    def __len__(self) -> int:
        return len(self._made) + len(self._rows)

    def unchanged(self, stats: Mapping[str, FileStat]) -> set[str]:
        """Return which files are as their rows say; none whose checkpoint was asked for."""
        rows = self._rows
        return {
            path
            for path, stat in stats.items()
            if (row := rows.get(path)) is not None and row[_STAT] == stat
        }

    def keys_by_path(self) -> dict[str, Key]:
        """Return what each file states, by the rows."""
        return {path: row[_KEY] for path, row in self._rows.items()}

    def counts(self, paths: Collection[str]) -> tuple[int, int]:
        """Return how many messages and conversations files state, by their rows."""
        rows = [self._rows[path] for path in paths]
        return sum([row[_MESSAGES] for row in rows]), sum([row[_CONVERSATIONS] for row in rows])
