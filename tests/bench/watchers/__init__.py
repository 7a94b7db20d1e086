"""Watchers of a folder, each a process: `watching`, then a line with time and path a notice.

The time is `CLOCK_MONOTONIC` in nanoseconds, which all processes share. They end with their input.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from conv_realtime.models import Row, Table
from conv_realtime.testing import MemoryStore

ANY = b"*"
"""The path of a notice that does not say in which file."""


class Nowhere(MemoryStore):
    """A store that answers at once and keeps nothing: the same one in every process."""

    async def database(self) -> str:
        """Return its name."""
        return "nowhere"

    async def write(
        self, table: Table, rows: Sequence[Row], *, history: bool = False, more: bool = False
    ) -> int:
        """Take rows."""
        return len(rows)


def notice(path: bytes) -> None:
    """Say that a file was noticed now."""
    os.write(1, b"%d %s\n" % (time.monotonic_ns(), path))


def watching() -> None:
    """Say that every change is noticed from now on."""
    os.write(1, b"watching\n")
