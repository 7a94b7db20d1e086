"""Decodes what PostgreSQL's pgoutput plug-in (protocol 1) streams. No I/O.

Messages go in one at a time, whole transactions come out, in commit order, each with the rows
that it changed. Streaming of open transactions and two-phase commit are not asked for, so one
transaction's messages are never interleaved with another's.

Source: PostgreSQL documentation, "Logical Replication Message Formats".
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

POSTGRES_EPOCH = 946_684_800.0  # 2000-01-01T00:00:00Z, in seconds since 1970

Kind = Literal["INSERT", "UPDATE", "DELETE", "TRUNCATE"]

Row = Mapping[str, str | None]
"""Column name to its text form, None for null. Unchanged TOASTed columns are left out."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a relation as the stream describes it."""

    name: str
    type_oid: int
    type_modifier: int
    is_key: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A table as the stream describes it; with ``publish_via_partition_root`` it is the root."""

    oid: int
    schema: str
    name: str
    replica_identity: str
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One changed row.

    Attributes:
        kind: what happened to it.
        relation: the table.
        new: the row afterwards; empty for DELETE and TRUNCATE.
        old: the row before, or only its key, as the replica identity gives it; else empty.
    """

    kind: Kind
    relation: Relation
    new: Row = field(default_factory=dict)
    old: Row = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transaction:
    """A committed transaction.

    Attributes:
        xid: its 32-bit id. Decoding outruns visibility: another session's snapshot may not see
            it for some milliseconds yet (ask ``pg_visible_in_snapshot``).
        lsn: the position after its commit record.
        committed_at: commit time in seconds since 1970.
        changes: its rows in the order in which they were written.
    """

    xid: int
    lsn: int
    committed_at: float
    changes: tuple[Change, ...]


class Decoder:
    """Push one pgoutput message in, pull out the transaction that it completes, if any."""

    def __init__(self) -> None:
        self._relations: dict[int, Relation] = {}
        self._xid = 0
        self._changes: list[Change] = []

    def feed(self, message: bytes) -> Transaction | None:
        """Takes one message.

        Raises:
            ValueError: the message is not of protocol 1; the stream cannot go on.
        """
        reader = _Reader(message)
        match reader.take("!c")[0]:
            case b"B":
                _, _, self._xid = reader.take("!QqI")
                self._changes = []
            case b"C":
                _, _, end_lsn, microseconds = reader.take("!BQQq")
                changes, self._changes = tuple(self._changes), []
                return Transaction(self._xid, end_lsn, _seconds(microseconds), changes)
            case b"R":
                relation = _relation(reader)
                self._relations[relation.oid] = relation
            case b"I" | b"U" | b"D" as kind:
                self._changes.append(self._row(kind, reader))
            case b"T":
                self._changes.extend(self._truncated(reader))
            case b"Y" | b"O" | b"M":
                pass  # types, origins and logical messages: nothing that a reader here needs
            case kind:
                raise ValueError(f"pgoutput message of unknown kind {kind!r}")
        return None

    def _row(self, kind: bytes, reader: _Reader) -> Change:
        relation = self._relation(reader.take("!I")[0])
        new: Row = {}
        old: Row = {}
        while not reader.at_end:
            if reader.take("!c")[0] == b"N":
                new = reader.row(relation)
            else:  # K: the key, O: the whole old row
                old = reader.row(relation)
        names: dict[bytes, Kind] = {b"I": "INSERT", b"U": "UPDATE", b"D": "DELETE"}
        return Change(names[kind], relation, new, old)

    def _truncated(self, reader: _Reader) -> list[Change]:
        count, _ = reader.take("!IB")
        oids = (reader.take("!I")[0] for _ in range(count))
        return [Change("TRUNCATE", self._relation(oid)) for oid in oids]

    def _relation(self, oid: int) -> Relation:
        if oid not in self._relations:
            raise ValueError(f"pgoutput change of a table {oid} that it did not describe")
        return self._relations[oid]


class _Reader:
    """Reads big-endian fields off a message from its start to its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def at_end(self) -> bool:
        return self._at >= len(self._data)

    def take(self, fmt: str) -> tuple[Any, ...]:
        values = struct.unpack_from(fmt, self._data, self._at)
        self._at += struct.calcsize(fmt)
        return values

    def text(self) -> str:
        end = self._data.index(0, self._at)
        value = self._data[self._at : end].decode()
        self._at = end + 1
        return value

    def row(self, relation: Relation) -> Row:
        row: dict[str, str | None] = {}
        (count,) = self.take("!H")
        for column in relation.columns[:count]:
            kind = self.take("!c")[0]
            if kind == b"n":
                row[column.name] = None
            elif kind == b"t":
                size = self.take("!I")[0]
                row[column.name] = self._data[self._at : self._at + size].decode()
                self._at += size
            elif kind != b"u":
                raise ValueError(f"pgoutput column of unknown kind {kind!r}")
        return row


def _relation(reader: _Reader) -> Relation:
    (oid,) = reader.take("!I")
    schema = reader.text() or "pg_catalog"
    name = reader.text()
    identity, count = reader.take("!cH")
    columns = []
    for _ in range(count):
        (flags,) = reader.take("!B")
        column = reader.text()
        type_oid, type_modifier = reader.take("!Ii")
        columns.append(Column(column, type_oid, type_modifier, bool(flags & 1)))
    return Relation(oid, schema, name, identity.decode(), tuple(columns))


def _seconds(microseconds: int) -> float:
    return POSTGRES_EPOCH + microseconds / 1_000_000
