"""Other programs' SQLite databases, read without a trace.

A reader of a database in WAL mode makes `-wal` and `-shm` files where there are none, and leaves
them. So one that nobody has open is read as what it then is: a file that does not change. That is
only true while no `-wal` appears; where one does, what was read is read again.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from conv_realtime.errors import SourceError

LOG_SUFFIX = "-wal"
_WAIT_SECONDS = 5.0
_ATTEMPTS = 3

_Result = TypeVar("_Result")


class Snapshot:
    """One state of a database, whoever writes meanwhile."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, query: str, *values: Any) -> list[Mapping[str, Any]]:
        """Return what a query gives, each row by the names of its columns."""
        cursor = self._connection.execute(query, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def tuples(self, query: str, *values: Any) -> Iterator[Sequence[Any]]:
        """Yield the rows that a query gives."""
        yield from self._connection.execute(query, values)


def read(path: str, work: Callable[[Snapshot], _Result]) -> _Result:
    """Return what `work` makes of one state of the database.

    It may be called more than once, and only its last result counts.

    Raises:
        SourceError: the database cannot be read, or is not of the form that is asked for.
    """
    for _ in range(_ATTEMPTS):
        alone = not os.path.exists(path + LOG_SUFFIX)
        before = _stamp(path)
        try:
            result = _read(path, work, "immutable=1" if alone else "mode=ro")
        except (sqlite3.Error, UnicodeDecodeError) as error:  # names of columns that are no UTF-8
            if alone and (os.path.exists(path + LOG_SUFFIX) or before != _stamp(path)):
                continue  # it was opened, or closed, just now
            raise SourceError(path, str(error)) from error
        if not alone or (not os.path.exists(path + LOG_SUFFIX) and before == _stamp(path)):
            return result
    raise SourceError(path, "it is opened and closed all the time")


def _read(path: str, work: Callable[[Snapshot], _Result], how: str) -> _Result:
    address = f"{Path(path).absolute().as_uri()}?{how}"
    connection = sqlite3.connect(address, uri=True, isolation_level=None, timeout=_WAIT_SECONDS)
    with closing(connection):
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        connection.execute("begin")
        return work(Snapshot(connection))


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
