"""Checkpoints in memory: those of an earlier run stay rows until they are asked for.

Most never are. Of tens of thousands of files that did not change all that is wanted is that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from conv_realtime.core.checkpoint import Checkpoint, FileStat
from conv_realtime.core.format import Recognised

COLUMNS = (
    "device, inode, size, mtime_ns, base, part, position, crc, end, rewritten,"
    " foreign_revision, messages, conversations, source, session, agent, named"
)
_STAT, _COUNTS, _KEY = slice(0, 4), slice(11, 13), slice(13, 16)

Row = tuple[Any, ...]
"""The values of `COLUMNS`."""

Key = tuple[str, str, str | None]
"""Source, session and agent: what a file states."""


class Remembered(MutableMapping[str, Checkpoint]):
    """The checkpoint of each file, by path."""

    def __init__(self, rows: Iterable[tuple[str, Row]] = ()) -> None:
        self._rows = dict(rows)
        self._made: dict[str, Checkpoint] = {}

    def __getitem__(self, path: str) -> Checkpoint:
        made = self._made.get(path)
        if made is None:
            made = self._made[path] = checkpoint_of(self._rows[path])
            del self._rows[path]
        return made

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

    def unchanged(self, stats: Mapping[str, FileStat]) -> dict[str, Key]:
        """Return which files are as their rows say, and what these state.

        Without those whose checkpoint was asked for.
        """
        rows = self._rows
        return {
            path: row[_KEY]
            for path, stat in stats.items()
            if (row := rows.get(path)) is not None and row[_STAT] == stat
        }

    def by_key(self) -> dict[Key, str]:
        """Return which file a conversation is of, by the rows; of several one."""
        return {row[_KEY]: path for path, row in self._rows.items()}

    def counts(self, paths: Collection[str]) -> tuple[int, int]:
        """Return how many messages and conversations files state, by their rows."""
        each = [self._rows[path][_COUNTS] for path in paths]
        return sum(messages for messages, _ in each), sum(several for _, several in each)


def checkpoint_of(row: Row) -> Checkpoint:
    """Return what a row says."""
    (
        device, inode, size, mtime_ns, base, part, position, crc, end, rewritten, foreign, messages,
        conversations, source, session, agent, named,
    ) = row  # fmt: skip
    return Checkpoint(
        None if device is None else FileStat(device, inode, size, mtime_ns),
        base,
        part,
        position,
        crc,
        end,
        bool(rewritten),
        foreign,
        messages,
        conversations,
        None if source is None else Recognised(source, session, agent, bool(named)),
    )
