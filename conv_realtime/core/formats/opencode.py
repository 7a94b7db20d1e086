"""OpenCode since 1.2: sessions in an SQLite database, `opencode.db`.

OpenCode 1 and OpenCode 2 have different tables in it, in one file. What 1 wrote stays where it is;
2 copies it once, and nothing that 1 writes later (anomalyco/opencode#49641). What 2 has of a
session counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from conv_realtime.core.document import DatabaseFormat
from conv_realtime.core.fields import text
from conv_realtime.core.format import Machine
from conv_realtime.core.formats import opencode_1, opencode_2

SOURCE = "opencode"


class OpenCode(DatabaseFormat):
    """OpenCode's sessions."""

    source = SOURCE
    title = "OpenCode"
    layouts = (opencode_1.LAYOUT, opencode_2.LAYOUT)

    def places(self, machine: Machine) -> Sequence[PurePath]:
        """Return the database, wherever its folder is said to be."""
        usual = machine.home / ".local" / "share"
        folder = machine.home / (text(machine.environ.get("XDG_DATA_HOME")) or usual)
        return [folder / "opencode" / (text(machine.environ.get("OPENCODE_DB")) or "opencode.db")]

    def is_named(self, path: str) -> bool:
        """Return whether the file is called like a database of OpenCode, of any channel."""
        name = PurePath(path).name
        return name.startswith("opencode") and name.endswith(".db")
