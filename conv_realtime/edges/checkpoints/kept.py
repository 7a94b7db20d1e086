"""Checkpoints: one row per transcript and destination."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from conv_realtime.core.checkpoint import Checkpoint, FileStat
from conv_realtime.core.format import Recognised
from conv_realtime.edges.checkpoints.documents import Documents
from conv_realtime.edges.checkpoints.file import (
    REDACTED,
    TABLES_OF_A_DESTINATION,
    StateFile,
    connect,
)
from conv_realtime.edges.checkpoints.letters import DeadLetters
from conv_realtime.edges.checkpoints.remembered import COLUMNS as REMEMBERED
from conv_realtime.edges.checkpoints.remembered import Key, Remembered
from conv_realtime.models import Conversation

logger = logging.getLogger("conv_realtime.ingest")

_COLUMNS = (
    "device, inode, size, mtime_ns, base, part, position, crc, end, rewritten,"
    " foreign_revision, messages, conversations, source, session, agent, named"
)
_SAVE = (
    "insert into checkpoints values (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
    f" on conflict (destination, path) do update set ({_COLUMNS})"
    f" = ({', '.join('excluded.' + name for name in _COLUMNS.split(', '))})"
    " where (excluded.part, excluded.base) >= (checkpoints.part, checkpoints.base)"
)


KeptConversation = tuple[str, bytes, str | None, int]
"""A conversation of an earlier run: its id, its file's path, its project's id, its revision."""


class Checkpoints:
    """The checkpoints of one destination: a database, and whose rows are sent there.

    The database is known by the stream of its cursors, so that it may change its address; the
    address only says which one to expect until it answers.

    A context manager; every method is synchronous and takes well under a millisecond.

    Attributes:
        database: the one that they speak of, None before any has answered.
        letters: what the destination refused for good.
        documents: what was sent of the conversations that documents state.
    """

    database: str | None
    letters: DeadLetters
    documents: Documents

    def __init__(self, state_dir: Path, address: str, whose: str = "") -> None:
        self._state_dir = state_dir
        self._address = f"{address} {whose}"
        self._whose = whose
        self._destination = ""
        self._file: StateFile | None = None
        self._unread = False  # what another process has written

    def __enter__(self) -> Self:
        """Open the file, made anew where it is damaged or of another version.

        Raises:
            ConfigError: the state directory cannot be written.
        """
        self._file = StateFile(self._state_dir)
        row = self._db.execute(
            "select stream from databases where address = ?", (self._address,)
        ).fetchone()
        self._go_to(row[0] if row else None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def fault(self) -> str | None:
        """Why checkpoints cannot be written, None while they can."""
        return self._file.fault if self._file else None

    @property
    def _opened(self) -> StateFile:
        if self._file is None:
            raise RuntimeError("Checkpoints are used outside of their context")
        return self._file

    @property
    def _db(self) -> sqlite3.Connection:
        return self._opened.connection

    def changed_elsewhere(self) -> bool:
        """Return whether another process has written here; what is in `letters` is current then.

        One that cannot be read now is asked again.
        """
        try:
            self._unread |= self._opened.changed_elsewhere()
            if not self._unread:
                return False
            self.letters.reload()
        except sqlite3.Error as error:
            logger.debug("the state directory cannot be read: %s", error)
            return False
        self._unread = False
        return True

    def load(self, sources: Collection[str] = ()) -> Remembered:
        """Return every checkpoint by path.

        No file counts as unchanged that is of none of `sources`, or that is not the only one to
        state its conversation: it has to be looked at.
        """
        where = (self._destination,)
        rows = self._db.execute(
            f"select {REMEMBERED} from checkpoints where destination = ?", where
        )
        found = Remembered(rows, self)
        others = self._db.execute(
            "select source, session, agent from checkpoints where destination = ?"
            " group by source, session, agent"
            f" having count(*) > 1 or source is null or source not in ({_places(sources)})",
            (*where, *sources),
        )
        for key in others.fetchall():
            for path in self._stating(key):
                found.get(path)
        return found

    def stating(self, key: Key) -> list[str]:
        """Return the files that state the same, by their checkpoints.

        No file where they cannot be read: who states it is then decided by those that are there.
        """
        try:
            return self._stating(key)
        except sqlite3.Error as error:
            logger.error("who states the session of a file cannot be read: %s", error)
            return []

    def _stating(self, key: Key) -> list[str]:
        rows = self._db.execute(
            "select path from checkpoints where destination = ?"
            " and source is ? and session is ? and agent is ?",
            (self._destination, *key),
        )
        return [os.fsdecode(path) for (path,) in rows]

    def load_one(self, path: str) -> Checkpoint | None:
        """Return the checkpoint of a file as it now stands, None if there is none."""
        row = self._db.execute(
            f"select {_COLUMNS} from checkpoints where destination = ? and path = ?",
            (self._destination, os.fsencode(path)),
        ).fetchone()
        return _checkpoint(row) if row else None

    def whole(self, path: str) -> Checkpoint | None:
        """Return the same, None where it cannot be read: the file is sent once more then."""
        try:
            return self.load_one(path)
        except sqlite3.Error as error:
            logger.error("the checkpoint of %s cannot be read: %s", path, error)
            return None

    def save(self, path: str, checkpoint: Checkpoint, rows: Sequence[Conversation] = ()) -> bool:
        """Keep `checkpoint`, and the conversations of the file as they now stand.

        Where it cannot be written (a full disk), `fault` says so and the old one stands: after
        a restart some rows are sent once more, which changes none.

        Returns False, and keeps the one that is there, where another process counts the file's
        revisions from a higher base, or knows it as a later part: ours would be dropped.
        """
        stat, one = checkpoint.stat, checkpoint.known
        place = (stat.device, stat.inode, stat.size, stat.mtime_ns) if stat else (None,) * 4
        key = (self._destination, os.fsencode(path))
        values = (
            *place, checkpoint.base, checkpoint.part, checkpoint.position, checkpoint.crc,
            checkpoint.end, checkpoint.rewritten, checkpoint.foreign, checkpoint.messages,
            checkpoint.conversations,
            *((one.source, one.session, one.agent, one.named) if one else (None,) * 4),
        )  # fmt: skip
        shown = [
            (
                self._destination, str(row.id), key[1], row.model_dump_json(),
                row.project_id and str(row.project_id), row.revision,
            )
            for row in rows
        ]  # fmt: skip
        written = 1

        def work(db: sqlite3.Connection) -> None:
            nonlocal written
            written = db.execute(_SAVE, (*key, *values)).rowcount
            db.executemany("insert or replace into conversations values (?,?,?,?,?,?)", shown)

        self._opened.write(work)
        return written > 0

    def clean_as(self, how: str) -> bool:
        """Note how rows are cleaned before they are sent; return whether that was another way.

        Then nothing counts as sent any more: what was sent before may say too much.
        """
        where = (self._destination,)
        known = self._db.execute("select how from cleaning where destination = ?", where).fetchone()
        if known == (how,):
            return False

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "update checkpoints set position = 0, crc = 0, size = null, device = null,"
                " inode = null, mtime_ns = null where destination = ?",
                where,
            )
            db.execute("update documents set unsent = 1 where destination = ?", where)
            db.execute("delete from judged where destination = ?", where)
            db.execute("insert or replace into cleaning values (?,?)", (*where, how))

        return self._opened.write(work)

    def forget(self, path: str, heir: str | None = None) -> None:
        """Drop the checkpoint of a file that another one took over from.

        `heir` states the file's conversations from now on.
        """
        where = (self._destination, os.fsencode(path))

        def work(db: sqlite3.Connection) -> None:
            db.execute("delete from checkpoints where destination = ? and path = ?", where)
            if heir is not None:
                statement = "update conversations set path = ? where destination = ? and path = ?"
                db.execute(statement, (os.fsencode(heir), *where))

        self._opened.write(work)

    def conversations(self) -> dict[str, KeptConversation]:
        """Return every conversation kept, by id."""
        rows = self._db.execute(
            "select id, path, project, revision from conversations indexed by shown"
            " where destination = ?",
            (self._destination,),
        )
        return {row[0]: row for row in rows}

    def rows(self) -> list[tuple[str, str]]:
        """Return the id of every conversation kept, and its row as JSON. From any thread."""
        with closing(connect(self._opened.path)) as db:
            return db.execute(
                "select id, row from conversations where destination = ?", (self._destination,)
            ).fetchall()

    def redacted(self) -> Iterator[tuple[str, UUID, dict[str, int]]]:
        """Yield the file and id of conversations that were rid of secrets, and how many by kind."""
        rows = self._db.execute(
            "select path, id, json_extract(row, '$.metadata.redacted') as counts"
            " from conversations indexed by redacted"
            f" where destination = ? and {REDACTED} and counts is not null",
            (self._destination,),
        )
        for path, id, counts in rows:
            yield os.fsdecode(path), UUID(id), json.loads(counts)

    def met_database(self, stream: str) -> bool:
        """Note which database stands behind the address, by the stream of its cursors.

        Returns whether other checkpoints hold now: those of that database. What another one
        acknowledged says nothing of it; behind another address it is still the same. Another
        process may have noted it before: what is asked is whether this one knew.
        """
        known, before, here = self.database, self._destination, self._of(stream)
        if known == stream:
            return False

        def work(db: sqlite3.Connection) -> None:
            db.execute("insert or replace into databases values (?,?)", (self._address, stream))
            if known is None:  # noted before anybody answered: it was meant for this one
                for table in TABLES_OF_A_DESTINATION:
                    db.execute(
                        f"update or replace {table} set destination = ? where destination = ?",
                        (here, before),
                    )

        if self._opened.write(work) or known is not None:  # else it is met again
            self._go_to(stream)
        return known is not None

    def _go_to(self, database: str | None) -> None:
        self.database, self._destination = database, self._of(database)
        self.letters = DeadLetters(self._opened, self._destination)
        self.documents = Documents(self._opened, self._destination)

    def _of(self, stream: str | None) -> str:
        return f"{stream or self._address} {self._whose}"


def _places(values: Collection[str]) -> str:
    return ", ".join("?" * len(values))


def _checkpoint(row: Sequence[Any]) -> Checkpoint:
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
