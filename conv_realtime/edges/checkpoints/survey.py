"""What a state directory says, to somebody who only looks: nothing is made, locked or changed."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from conv_realtime.edges.checkpoints.file import FILE_NAME, VERSION
from conv_realtime.edges.checkpoints.letters import DISCARDED, read_letters
from conv_realtime.models import StoredFault

_REDACTED = """
select kind.key, sum(kind.value)
from (select max(row) as row from conversations group by id),
    json_each(row, '$.metadata.redacted') kind
group by kind.key order by kind.key"""


@dataclass(frozen=True, slots=True)
class Survey:
    """What all destinations of a state directory come to.

    `files` are those that were sent, `waiting` those of them that changed since, `forgotten`
    the conversations that were erased for good, `redacted` the secrets that were replaced, by kind.
    `fault` is why a state file that is there cannot be read.
    """

    files: int = 0
    waiting: int = 0
    forgotten: int = 0
    dead_letters: Sequence[StoredFault] = ()
    redacted: Mapping[str, int] = field(default_factory=dict)
    fault: str | None = None


def survey(state_dir: Path) -> Survey:
    """Return what the state file says; one that is not there or not ours says nothing."""
    path = state_dir / FILE_NAME
    try:
        address = f"file:{quote(str(path))}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=5)) as db:
            if db.execute("pragma user_version").fetchone() != (VERSION,):
                return Survey()
            return _read(db)
    except sqlite3.Error as error:
        fault = f"{path} cannot be read: {error}"
        return Survey(fault=fault) if os.path.exists(path) else Survey()


def _read(db: sqlite3.Connection) -> Survey:
    files = db.execute("select path, size, mtime_ns from checkpoints").fetchall()
    (forgotten,) = db.execute("select count(distinct id) from forgotten").fetchone()
    return Survey(
        files=len({path for path, _, _ in files}),
        waiting=len({path for path, *known in files if _changed(path, *known)}),
        forgotten=forgotten,
        dead_letters=read_letters(db, "where code <> ?", [DISCARDED]),
        redacted=dict(db.execute(_REDACTED).fetchall()),
    )


def _changed(path: bytes, size: int | None, mtime_ns: int | None) -> bool:
    try:
        now = os.stat(path)
    except OSError:
        return False  # it is gone, and its rows stay
    return (now.st_size, now.st_mtime_ns) != (size, mtime_ns)
