"""The state directory of a day: lost, spoilt, an older one, and what it knows of files."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from tests.simulator.transcripts import File

_NAME = "checkpoints.sqlite3"


class StateDirectory:
    """A state directory, for who has seen to it that nobody uses it now; `keep` needs no rest."""

    def __init__(self, path: Path, kept: Path) -> None:
        self.path = path
        self._kept = kept

    def lose(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path)

    def spoil(self, where: float) -> None:
        """Overwrite a part of its file, and the beginning of those beside it."""
        for path in self.path.glob(f"{_NAME}*"):
            data = bytearray(path.read_bytes())
            at = int(len(data) * where) if path.suffix == ".sqlite3" else 0
            data[at : at + 2000] = bytes(len(data[at : at + 2000]))
            path.write_bytes(data)

    def keep(self) -> None:
        """Make a copy of it, as a backup does."""
        source = self.path / _NAME
        if source.exists():
            with (
                closing(sqlite3.connect(source)) as db,
                closing(sqlite3.connect(self._kept)) as copy,
            ):
                db.backup(copy)

    @property
    def is_kept(self) -> bool:
        """Whether there is a copy."""
        return self._kept.exists()

    def restore(self) -> None:
        """Put the copy in its place."""
        for path in self.path.glob(f"{_NAME}*"):
            path.unlink()
        shutil.copy(self._kept, self.path / _NAME)

    def unread(self, files: Mapping[str, File]) -> list[str]:
        """Return the files that it does not know as they are."""
        with closing(sqlite3.connect(self.path / _NAME)) as db:
            rows = db.execute("select path, size, mtime_ns from checkpoints").fetchall()
        known = {os.fsdecode(path): place for path, *place in rows}
        return [
            f"{name} was not read"
            for name, file in files.items()
            if file.exists
            and not file.away
            and not any(known.get(str(path)) == _place(path) for path in file.paths)
        ]


def _place(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]
