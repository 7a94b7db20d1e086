"""What was last sent of each conversation that a document states: digests, never contents.

A document says everything anew each time it is written; only this tells what of it is news. One row
a conversation, whichever file states it, written when something of it changed.

Of a session of a database, which tells whether it changed, that is kept as well: `judged`. It holds
only while nothing of it is about to be sent.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from uuid import UUID

from conv_realtime.core.memory import Judged, Memory, Rank, Sent
from conv_realtime.edges.checkpoints.file import StateFile, connect

logger = logging.getLogger("conv_realtime.ingest")

_COLUMNS = "id, path, stated_at, stated_messages, named, revision, digest, base, unsent, messages"
_IDS_A_QUESTION = 500


class Documents:
    """The memories of one destination."""

    def __init__(self, file: StateFile, destination: str) -> None:
        self._file = file
        self._destination = destination

    def recall(self, ids: Collection[UUID]) -> dict[UUID, Memory]:
        """Return what is kept of those of `ids` of which anything is. May be called on any thread.

        What cannot be read is not known: the database is asked instead.
        """
        found: dict[UUID, Memory] = {}
        if ids:
            with self._reading() as db:
                for some in _chunks([str(id) for id in ids]):
                    found.update(self._read(db, some))
        return found

    def _read(self, db: sqlite3.Connection, ids: Sequence[str]) -> Iterator[tuple[UUID, Memory]]:
        rows = db.execute(
            f"select {_COLUMNS} from documents where destination = ?"
            f" and id in ({', '.join('?' * len(ids))})",
            (self._destination, *ids),
        )
        for id, path, stated_at, count, named, revision, digest, base, unsent, messages in rows:
            rank = Rank(stated_at, count, bool(named))
            known = {native: Sent(*rest) for native, *rest in json.loads(messages)}
            yield (
                UUID(id),
                Memory(revision, digest, base, known, bool(unsent), os.fsdecode(path), rank),
            )

    def keep(self, memories: Mapping[UUID, Memory]) -> None:
        """Keep what is about to be sent.

        Where it cannot be written (a full disk), what is there stands: after a restart the same
        rows are sent again under the same revisions.
        """
        rows = [
            (
                self._destination, str(id), os.fsencode(memory.path), *memory.rank,
                memory.revision, memory.digest, memory.base, memory.unsent,
                json.dumps([(native, *rest) for native, rest in memory.messages.items()]),
            )
            for id, memory in memories.items()
        ]  # fmt: skip
        statement = f"insert or replace into documents values ({', '.join('?' * 11)})"

        def work(db: sqlite3.Connection) -> None:
            db.executemany(statement, rows)
            db.executemany(
                "delete from judged where destination = ? and id = ?", [row[:2] for row in rows]
            )

        self._file.write(work)

    def sent(self, ids: Collection[UUID]) -> None:
        """Note that the database has all of these conversations."""
        if ids:
            rows = [(self._destination, str(id)) for id in ids]
            statement = "update documents set unsent = 0 where destination = ? and id = ?"
            self._file.write(lambda db: db.executemany(statement, rows))

    def judge(self, path: str, judged: Collection[Judged]) -> None:
        """Note that sessions of a database need not be read while their marks are the same."""
        if judged:
            place = os.fsencode(path)
            rows = [
                (self._destination, str(id), place, json.dumps(mark, default=str), messages)
                for id, mark, messages in judged
            ]
            statement = "insert or replace into judged values (?, ?, ?, ?, ?)"
            self._file.write(lambda db: db.executemany(statement, rows))

    def judged(self, path: str) -> Sequence[Judged]:
        """Return what is kept of the sessions of a database. May be called on any thread.

        What cannot be read is not known: they are read instead.
        """
        found: list[Judged] = []
        with self._reading() as db:
            rows = db.execute(
                "select id, mark, messages from judged where destination = ? and path = ?",
                (self._destination, os.fsencode(path)),
            )
            found += [Judged(UUID(id), tuple(json.loads(mark)), count) for id, mark, count in rows]
        return found

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(connect(self._file.path)) as db:
                yield db
        except sqlite3.Error as error:
            logger.error("what was sent cannot be read in %s: %s", self._file.path, error)

    def lift(self, id: UUID, path: str, above: int) -> None:
        """Have all of a conversation sent again, under revisions above one that is there."""
        before = self.recall([id]).get(id, Memory(path=path))
        base = max(before.base, above)
        self.keep({id: replace(before, base=base, unsent=True)})


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _IDS_A_QUESTION):
        yield ids[start : start + _IDS_A_QUESTION]
