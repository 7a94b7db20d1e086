"""The state file of an ingest, looked at and spoilt."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from conv_realtime.edges.checkpoints.file import FILE_NAME


@contextmanager
def state_file(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open the state file in the state directory of a test; what is changed is kept."""
    with closing(sqlite3.connect(folder / "state" / FILE_NAME)) as db, db:
        yield db
