"""Checkpoints in a SQLite file of the state directory: one row per transcript and destination.

SQLite in WAL mode survives a kill at any instant. Losing the file loses no data: the database
is asked what it has, and everything is sent once more, which changes no row.
"""

from __future__ import annotations

import logging
import os
import platform
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID

from conv_realtime.core.checkpoint import Checkpoint, FileStat
from conv_realtime.errors import ConfigError
from conv_realtime.models import Conversation, StoredFault

logger = logging.getLogger("conv_realtime.ingest")

_VERSION = 2
_DROP = "".join(
    f"drop table if exists {table};"
    for table in ("checkpoints", "conversations", "databases", "dead_letters")
)
_SCHEMA = f"""
pragma user_version = {_VERSION};
create table if not exists checkpoints (
    destination text not null, path blob not null,
    device integer, inode integer, size integer, mtime_ns integer,
    base integer not null, part integer not null, position integer not null,
    crc integer not null, end integer not null, rewritten integer not null,
    foreign_revision integer not null,
    messages integer not null, conversations integer not null,
    primary key (destination, path)
) without rowid;
create table if not exists conversations (
    destination text not null, id text not null, path blob not null, row text not null,
    primary key (destination, id)
) without rowid;
create table if not exists databases (
    address text primary key, stream text not null
) without rowid;
create table if not exists dead_letters (
    destination text not null, table_name text not null, id text not null,
    path blob not null, code text not null, reason text not null,
    primary key (destination, table_name, id)
) without rowid;
"""


class Checkpoints:
    """The checkpoints of one destination: a database, and whose rows are sent there.

    The database is known by the stream of its cursors, so that it may change its address; the
    address only says which one to expect until it answers.

    A context manager; every method is synchronous and takes well under a millisecond.

    Attributes:
        fault: why checkpoints cannot be written, None while they can.
    """

    def __init__(self, state_dir: Path, address: str, whose: str = "") -> None:
        self._path = state_dir / "checkpoints.sqlite3"
        self._address = f"{address} {whose}"
        self._whose = whose
        self._destination = self._of(None)
        self._connection: sqlite3.Connection | None = None
        self.fault: str | None = None

    def __enter__(self) -> Self:
        """Open the file, made anew where it is damaged or of another version.

        Raises:
            ConfigError: the state directory cannot be written.
        """
        try:
            make_state_dir(self._path.parent)
            try:
                self._connection = self._open()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise  # the disk or the rights, not what is in the file
                logger.error("%s: %s; starting without checkpoints", self._path, error)
                self._path.replace(self._path.with_suffix(".damaged"))
                self._connection = self._open()
        except (OSError, sqlite3.Error) as error:
            advice = f"cannot keep checkpoints in {self._path}: {error}"
            raise ConfigError("state_dir", advice) from error
        self._destination = self._of(self.known_database())
        return self

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, timeout=10
        )
        try:
            os.chmod(self._path, 0o600)  # it names paths and titles
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = normal")
            (version,) = connection.execute("pragma user_version").fetchone()
            if version != _VERSION:
                connection.executescript(_DROP)
            connection.executescript(_SCHEMA)
        except BaseException:
            connection.close()
            raise
        return connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def _db(self) -> sqlite3.Connection:
        if self._connection is None:
            raise RuntimeError("Checkpoints are used outside of their context")
        return self._connection

    def load(self) -> dict[str, Checkpoint]:
        """Return every checkpoint by path."""
        rows = self._db.execute(
            "select path, device, inode, size, mtime_ns, base, part, position, crc, end, rewritten,"
            " foreign_revision, messages, conversations"
            " from checkpoints where destination = ?",
            (self._destination,),
        )
        return {os.fsdecode(row[0]): _checkpoint(row[1:]) for row in rows}

    def save(self, path: str, checkpoint: Checkpoint, rows: Sequence[Conversation] = ()) -> None:
        """Keep `checkpoint`, and the conversations of the file as they now stand.

        Where it cannot be written (a full disk), `fault` says so and the old one stands: after
        a restart some rows are sent once more, which changes none.
        """
        try:
            self._save(path, checkpoint, rows)
        except sqlite3.Error as error:
            if self.fault is None:
                logger.error("cannot keep checkpoints in %s: %s", self._path, error)
            self.fault = f"checkpoints: {error}"
        else:
            self.fault = None

    def _save(self, path: str, checkpoint: Checkpoint, rows: Sequence[Conversation]) -> None:
        stat = checkpoint.stat
        place = (stat.device, stat.inode, stat.size, stat.mtime_ns) if stat else (None,) * 4
        with self._transaction() as db:
            db.execute(
                "insert or replace into checkpoints values (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    self._destination, os.fsencode(path), *place, checkpoint.base,
                    checkpoint.part, checkpoint.position, checkpoint.crc, checkpoint.end,
                    checkpoint.rewritten, checkpoint.foreign, checkpoint.messages,
                    checkpoint.conversations,
                ),
            )  # fmt: skip
            db.executemany(
                "insert or replace into conversations values (?,?,?,?)",
                [
                    (self._destination, str(row.id), os.fsencode(path), row.model_dump_json())
                    for row in rows
                ],
            )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("begin immediate")
        try:
            yield self._db
            self._db.execute("commit")
        except BaseException:
            if self._db.in_transaction:  # a full disk rolls back by itself
                self._db.execute("rollback")
            raise

    def forget(self, path: str) -> None:
        """Drop the checkpoint of a file that another one took over from."""
        self._db.execute(
            "delete from checkpoints where destination = ? and path = ?",
            (self._destination, os.fsencode(path)),
        )

    def conversations(self) -> Iterator[tuple[str, Conversation]]:
        """Yield the path and the row of every conversation kept."""
        with closing(self._db.cursor()) as cursor:
            cursor.execute(
                "select path, row from conversations where destination = ?", (self._destination,)
            )
            for path, row in cursor:
                yield os.fsdecode(path), Conversation.model_validate_json(row)

    def known_database(self) -> str | None:
        """Return which database stood behind the address when it was last asked."""
        row = self._db.execute(
            "select stream from databases where address = ?", (self._address,)
        ).fetchone()
        return row[0] if row else None

    def met_database(self, stream: str) -> bool:
        """Note which database stands behind the address, by the stream of its cursors.

        Returns whether other checkpoints hold now: those of that database. What another one
        acknowledged says nothing of it; behind another address it is still the same.
        """
        known = self.known_database()
        if known == stream:
            return False
        self._db.execute("insert or replace into databases values (?,?)", (self._address, stream))
        before, self._destination = self._destination, self._of(stream)
        if known is None:  # noted before anybody answered: it was meant for this one
            for table in ("checkpoints", "conversations", "dead_letters"):
                self._db.execute(
                    f"update or replace {table} set destination = ? where destination = ?",
                    (self._destination, before),
                )
        return known is not None

    def _of(self, stream: str | None) -> str:
        return f"{stream or self._address} {self._whose}"

    def bury(self, fault: StoredFault) -> None:
        """Note a row that the database will never take as it is."""
        self._db.execute(
            "insert or replace into dead_letters values (?,?,?,?,?,?)",
            (
                self._destination,
                fault.table,
                str(fault.id),
                os.fsencode(fault.path),
                fault.code,
                fault.reason,
            ),
        )

    def dead_letters(self) -> list[StoredFault]:
        """Return the rows that the database refused for good."""
        rows = self._db.execute(
            "select table_name, id, path, code, reason from dead_letters where destination = ?",
            (self._destination,),
        )
        return [
            StoredFault(table, UUID(id), os.fsdecode(path), code, reason)
            for table, id, path, code, reason in rows
        ]


def _checkpoint(row: Sequence[int | None]) -> Checkpoint:
    device, inode, size, mtime_ns, *rest = row
    stat = None
    if device is not None and inode is not None and size is not None and mtime_ns is not None:
        stat = FileStat(device, inode, size, mtime_ns)
    base, part, position, crc, end, rewritten, *counts = (value or 0 for value in rest)
    return Checkpoint(stat, base, part, position, crc, end, bool(rewritten), *counts)


@contextmanager
def using(state_dir: Path) -> Iterator[None]:
    """Tell what the system refuses in `state_dir` as what it is: a setting to change.

    Raises:
        ConfigError: the folder or a file in it cannot be made, read or written.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        advice = f"{state_dir} cannot be used: {reason}; free it or choose another"
        raise ConfigError("--state-dir", advice) from error


def make_state_dir(state_dir: Path) -> None:
    """Make the state directory if need be: to be entered, not listed, by others.

    The local PostgreSQL may run below it as another user. Modes of what is there are kept.
    """
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o711)


def machine_id(state_dir: Path) -> str:
    """Return the name of this machine: kept in the state directory since the first run.

    The first run takes the operating system's machine id, else the host name, and remembers
    it, so that a renamed host keeps its conversations.
    """
    kept = state_dir / "machine"
    try:
        if known := kept.read_text(encoding="utf-8").strip():
            return known
    except OSError:
        pass
    machine = _os_machine_id() or platform.node() or "localhost"
    try:
        make_state_dir(state_dir)
        draft = kept.with_name(f"machine.{os.getpid()}")
        draft.write_text(machine + "\n", encoding="utf-8")
        draft.replace(kept)
    except OSError as error:
        raise ConfigError("state_dir", f"cannot be written: {error}") from error
    return machine


def _os_machine_id() -> str | None:
    for place in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            if known := Path(place).read_text(encoding="ascii").strip():
                return known
        except (OSError, UnicodeDecodeError):
            continue
    return None
