"""Dead letters: rows that the database refused for good, and conversations that it erased.

Kept in the state file, because they outlive the process, and in memory, because they are asked
for with every batch. Another process on the same state directory may change them too.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from sqlite3 import Connection
from uuid import UUID

from conv_realtime.edges.checkpoints.file import StateFile
from conv_realtime.models import StoredFault


def read_letters(db: Connection, which: str, values: Sequence[str]) -> list[StoredFault]:
    """Return the letters of a state file that a `where` chooses, the oldest first."""
    rows = db.execute(
        "select table_name, id, path, code, reason, revision, parent, since"
        f" from dead_letters {which} order by since, path, revision",
        values,
    )
    return [
        StoredFault(
            table, UUID(id), os.fsdecode(path), code, reason, revision,
            UUID(parent) if parent else None, since,
        )
        for table, id, path, code, reason, revision, parent, since in rows
    ]  # fmt: skip


DISCARDED = "discarded"
"""The code of a letter that was given up: its row is neither shown nor sent again nor told of."""

REOPENED = "reopened"
"""The code of such a letter that is to be tried again, until the database has said something."""


class DeadLetters:
    """The dead letters of one destination, and what is forgotten there.

    Attributes:
        faults: by the row's id.
        forgotten: conversations that were erased for good.
    """

    def __init__(self, file: StateFile, destination: str) -> None:
        self._file = file
        self._destination = destination
        self.faults: dict[UUID, StoredFault] = {}
        self.forgotten: set[UUID] = set()
        self._unkept: set[UUID] = set()
        self.reload()

    def reload(self) -> None:
        """Take what the file says now."""
        db, where = self._file.connection, (self._destination,)
        found = read_letters(db, "where destination = ?", where)
        unkept = {id: self.faults[id] for id in self._unkept & self.faults.keys()}
        self.faults = {fault.id: fault for fault in found} | unkept
        ids = db.execute("select id from forgotten where destination = ?", where)
        self.forgotten = {UUID(id) for (id,) in ids}

    def bury(self, faults: Sequence[StoredFault]) -> bool:
        """Note rows that the database will not take as they are.

        Returns whether all that were ever given are kept, for what is not kept must not be
        passed over: on a full disk call again.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        for fault in faults:
            known = self.faults.get(fault.id)
            self.faults[fault.id] = replace(fault, since=known.since if known else now)
            self._unkept.add(fault.id)
        if self._unkept:
            rows = [self._stored(self.faults[id]) for id in self._unkept & self.faults.keys()]
            statement = "insert or replace into dead_letters values (?,?,?,?,?,?,?,?,?)"
            if self._file.write(lambda db: db.executemany(statement, rows)):
                self._unkept.clear()
        return not self._unkept

    @property
    def open(self) -> list[StoredFault]:
        """The letters that nobody has given up on, the oldest first."""
        return [fault for fault in self.faults.values() if fault.code != DISCARDED]

    def discard(self, ids: Collection[UUID] | None = None) -> int:
        """Give up on the letters of `ids`, or on all; return on how many.

        They stay: another process that finds one gone takes it that its row was taken.
        """
        given_up = [fault for fault in self.open if ids is None or fault.id in ids]
        self.bury([replace(fault, code=DISCARDED) for fault in given_up])
        return len(given_up)

    def reopen(self, ids: Collection[UUID]) -> None:
        """Take up letters again that were given up; whether they are refused tells later."""
        given_up = [self.faults[id] for id in self.faults.keys() & set(ids)]
        self.bury([replace(one, code=REOPENED) for one in given_up if one.code == DISCARDED])

    def is_news(self, fault: StoredFault) -> bool:
        """Return whether a refusal says something that no letter says yet."""
        known = self.faults.get(fault.id)
        if known is None or known.revision != fault.revision:
            return True
        return known.code not in (fault.code, DISCARDED)

    def taken(self, ids: Collection[UUID]) -> list[StoredFault]:
        """Forget the letters of rows that the database took after all; return them."""
        return self._drop([self.faults[id] for id in self.faults.keys() & ids])

    def drop_of(self, path: str) -> list[StoredFault]:
        """Forget the letters of a file that is begun from its start again; return them."""
        return self._drop([fault for fault in self.faults.values() if fault.path == path])

    def moved(self, former: str, path: str) -> None:
        """Note that the rows of one file's letters are stated by another now."""
        theirs = [replace(one, path=path) for one in self.faults.values() if one.path == former]
        if theirs:
            self.faults |= {fault.id: fault for fault in theirs}
            statement = "update dead_letters set path = ? where destination = ? and path = ?"
            values = (os.fsencode(path), self._destination, os.fsencode(former))
            if not self._file.write(lambda db: db.execute(statement, values)):
                self._unkept.update(fault.id for fault in theirs)  # `bury` tries again

    def forget(self, conversations: Collection[UUID]) -> None:
        """Note conversations that were erased for good."""
        new = set(conversations) - self.forgotten
        if not new:
            return
        self.forgotten |= new
        ids = [(self._destination, str(id)) for id in new]

        def work(db: Connection) -> None:
            db.executemany("insert or replace into forgotten values (?,?)", ids)
            # Neither are their titles kept here, nor digests of what was said.
            for table in ("conversations", "documents"):
                db.executemany(f"delete from {table} where destination = ? and id = ?", ids)

        self._file.write(work)

    def _drop(self, faults: list[StoredFault]) -> list[StoredFault]:
        if faults:
            for fault in faults:
                self.faults.pop(fault.id, None)
            ids = [(self._destination, str(fault.id)) for fault in faults]
            statement = "delete from dead_letters where destination = ? and id = ?"
            self._file.write(lambda db: db.executemany(statement, ids))
        return faults

    def _stored(self, fault: StoredFault) -> tuple[object, ...]:
        return (
            self._destination, fault.table, str(fault.id), os.fsencode(fault.path), fault.code,
            fault.reason, fault.revision, str(fault.parent) if fault.parent else None, fault.since,
        )  # fmt: skip
