"""The SQLite file of a state directory, shared by all processes that work on it.

In WAL mode it survives a kill at any instant. Losing it loses no data: the database is asked
what it has, and everything is sent once more, which changes no row. So a file that is damaged,
or of another version of this library, is no reason not to start.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from conv_realtime.edges.checkpoints.place import make_state_dir
from conv_realtime.errors import unusable

logger = logging.getLogger("conv_realtime.ingest")

VERSION = 9
FILE_NAME = "checkpoints.sqlite3"
_TABLES = {
    "checkpoints": """
        destination text not null, path blob not null,
        device integer, inode integer, size integer, mtime_ns integer,
        base integer not null, part integer not null, position integer not null,
        crc integer not null, end integer not null, rewritten integer not null,
        foreign_revision integer not null,
        messages integer not null, conversations integer not null,
        source text, session text, agent text, named integer,
        primary key (destination, path)""",
    "cleaning": "destination text primary key, how text not null",
    "conversations": """
        destination text not null, id text not null, path blob not null, row text not null,
        project text, revision integer,
        primary key (destination, id)""",
    "databases": "address text primary key, stream text not null",
    "dead_letters": """
        destination text not null, table_name text not null, id text not null,
        path blob not null, code text not null, reason text not null,
        revision integer not null, parent text, since text not null,
        primary key (destination, id)""",
    "documents": """
        destination text not null, id text not null, path blob not null,
        stated_at real not null, stated_messages integer not null, named integer not null,
        revision integer not null, digest text not null, base integer not null,
        unsent integer not null, messages text not null,
        primary key (destination, id)""",
    "judged": """
        destination text not null, id text not null, path blob not null, mark text not null,
        messages integer not null,
        primary key (destination, id)""",
    "forgotten": "destination text not null, id text not null, primary key (destination, id)",
}
_KNOWN = ("source text", "session text", "agent text", "named integer")
TABLES_OF_A_DESTINATION = tuple(name for name in _TABLES if name != "databases")
_DROP = "".join(f"drop table if exists {table};" for table in _TABLES)
REDACTED = """instr(row, '"redacted":')"""
"""Whether a conversation may say that it was rid of secrets: few do."""

_SCHEMA = "".join(
    f"create table if not exists {table} ({columns}) without rowid;"
    for table, columns in _TABLES.items()
)
_SCHEMA += f"""
create index if not exists stating on checkpoints (destination, source, session, agent);
create index if not exists shown on conversations (destination, id, path, project, revision);
create index if not exists redacted on conversations (destination) where {REDACTED};
pragma user_version = {VERSION};
"""
# A file of version 2 goes on: what it says of checkpoints still holds. Its dead letters do not
# say what was refused, and their rows were passed over; without the checkpoints of their files
# these are sent again.
_FROM_2 = """
delete from checkpoints where (destination, path) in (select destination, path from dead_letters);
drop table dead_letters;
"""
# One of version 3 does not say what a file is: each is read once more to tell. One of version 4 had
# no documents.
_FROM_3 = "".join(f"alter table checkpoints add column {column};" for column in _KNOWN)
# One of version 5 does not say how rows were cleaned: all are sent once more. One of version 6 does
# not say which sessions of a database were judged: all are read once more. Until version 7 only
# its row told the project and revision of a conversation.
_FROM_7 = """
alter table conversations add column project text;
alter table conversations add column revision integer;
update conversations set
    project = json_extract(row, '$.project_id'), revision = json_extract(row, '$.revision');
"""
_FROM = {
    2: _FROM_2 + _FROM_3 + _FROM_7,
    3: _FROM_3 + _FROM_7,
    **dict.fromkeys(range(4, 8), _FROM_7),
    8: "",
}


class StateFile:
    """An open state file.

    Attributes:
        path: where it lies.
        connection: for statements; each is a transaction of its own.
        fault: why it cannot be written, None while it can.
    """

    def __init__(self, state_dir: Path) -> None:
        """Open the file, made anew where it is damaged or of another version.

        Raises:
            ConfigError: the state directory cannot be written.
        """
        self.path = state_dir / FILE_NAME
        self.fault: str | None = None
        try:
            make_state_dir(state_dir)
            self.connection = self._open_or_begin()
        except (OSError, sqlite3.Error) as error:
            raise unusable(self.path, error) from error
        self._seen = self._data_version()

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def changed_elsewhere(self) -> bool:
        """Return whether another process has written since this was asked last."""
        before, self._seen = self._seen, self._data_version()
        return before != self._seen

    def write(self, work: Callable[[sqlite3.Connection], object]) -> bool:
        """Do `work` in one transaction; where that fails (a full disk), `fault` says so.

        Nothing is raised then: what could not be kept is done once more after a restart.

        Returns:
            Whether it is kept.
        """
        try:
            self._write(work)
        except sqlite3.Error as error:
            if self.fault is None:
                logger.error("cannot keep checkpoints in %s: %s", self.path, error)
            self.fault = f"checkpoints: {error}"
        else:
            self.fault = None
        return self.fault is None

    def _write(self, work: Callable[[sqlite3.Connection], object]) -> None:
        try:
            self._transact(work)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CORRUPT:
                raise
            # Most likely an index: what is in one is not checked when the file is opened.
            self.connection.execute("reindex")
            self._transact(work)

    def _transact(self, work: Callable[[sqlite3.Connection], object]) -> None:
        db = self.connection
        db.execute("begin immediate")
        try:
            work(db)
            db.execute("commit")
        except BaseException:
            if db.in_transaction:  # a full disk rolls back by itself
                db.execute("rollback")
            raise

    def _open_or_begin(self) -> sqlite3.Connection:
        try:
            return self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise  # the disk or the rights, not what is in the file
            logger.error("%s: %s; starting without checkpoints", self.path, error)
        self._put_aside()
        return self._open()

    def _open(self) -> sqlite3.Connection:
        # It names paths and titles: nobody may open it before its mode is right, nor keep it open.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        os.chmod(self.path, 0o600)
        connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, timeout=10
        )
        try:
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = normal")
            if _version(connection) == VERSION:
                _check(connection)
            else:
                _migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _put_aside(self) -> None:
        """Move a damaged file away, with the log that belongs to it and to no other."""
        self.path.replace(self.path.with_suffix(".damaged"))
        for tail in ("-wal", "-shm"):
            self.path.with_name(self.path.name + tail).unlink(missing_ok=True)

    def _data_version(self) -> int:
        (version,) = self.connection.execute("pragma data_version").fetchone()
        return int(version)


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection of its own: the other one may be in the middle of a transaction."""
    return sqlite3.connect(path, isolation_level=None, timeout=10)


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("pragma user_version").fetchone()
    return int(version)


def _migrate(connection: sqlite3.Connection) -> None:
    """Make the tables of this version, from those of an earlier one or anew."""
    connection.execute("begin immediate")
    version = _version(connection)  # another process may have been first
    if version != VERSION:
        script = _FROM.get(version, _DROP) + _SCHEMA
        for statement in script.split(";"):
            connection.execute(statement)
    connection.execute("commit")


def _check(connection: sqlite3.Connection) -> None:
    """Read what is going to be read, while the file can still be put aside.

    Raises:
        sqlite3.DatabaseError: a page of it is damaged.
    """
    (found,) = connection.execute("pragma quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(str(found).splitlines()[0])
