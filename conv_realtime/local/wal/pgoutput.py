"""Decodes what PostgreSQL's pgoutput plug-in (protocol 1) streams. No I/O.

Messages go in one at a time, whole transactions come out, in commit order, each with the rows
that it changed; where they could be large, in parts. Streaming of open transactions and two-phase
commit are not asked for, so one transaction's messages are never interleaved with another's.

Source: PostgreSQL documentation, "Logical Replication Message Formats".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
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
        size: of the messages that described them, in bytes.
        is_whole: false if more of it follows; `lsn` is then that of its commit record.
    """

    xid: int
    lsn: int
    committed_at: float
    changes: tuple[Change, ...]
    size: int = 0
    is_whole: bool = True


class Decoder:
    """Push one pgoutput message in, pull out the transaction that it completes, if any.

    Args:
        wants: whether the changes of a table are wanted at all.
        part_rows: a transaction comes in parts of at most so many rows.
        part_bytes: and, but for its last row, of less than so many bytes.
    """

    def __init__(
        self,
        wants: Callable[[Relation], bool] = lambda _: True,
        part_rows: int | None = None,
        part_bytes: int | None = None,
    ) -> None:
        self._wants = wants
        self._part_rows = part_rows
        self._part_bytes = part_bytes
        self._relations: dict[int, Relation] = {}
        self._begun = (0, 0, 0)
        self._changes: list[Change] = []
        self._size = 0

    def feed(self, message: bytes) -> Transaction | None:
        """Takes one message.

        Raises:
            ValueError: the message is not of protocol 1; the stream cannot go on.
        """
        reader = _Reader(message)
        match reader.take("!c")[0]:
            case b"B":
                self._begun = reader.take("!QqI")
                self._changes, self._size = [], 0
            case b"C":
                _, _, end_lsn, _ = reader.take("!BQQq")
                return self._completed(end_lsn, is_whole=True)
            case b"R":
                relation = _relation(reader)
                self._relations[relation.oid] = relation
            case b"I" | b"U" | b"D" as kind:
                relation = self._relation(reader.take("!I")[0])
                if self._wants(relation):
                    self._changes.append(_row(kind, relation, reader))
                    self._size += len(message)
                    if self._is_full():
                        return self._completed(self._begun[0], is_whole=False)
            case b"T":
                self._changes.extend(self._truncated(reader))
            case b"Y" | b"O" | b"M":
                pass  # types, origins and logical messages: nothing that a reader here needs
            case kind:
                raise ValueError(f"pgoutput message of unknown kind {kind!r}")
        return None

    def _is_full(self) -> bool:
        rows = self._part_rows is not None and len(self._changes) >= self._part_rows
        return rows or (self._part_bytes is not None and self._size >= self._part_bytes)

    def _completed(self, lsn: int, *, is_whole: bool) -> Transaction:
        _, microseconds, xid = self._begun
        changes, size = tuple(self._changes), self._size
        self._changes, self._size = [], 0
        return Transaction(xid, lsn, _seconds(microseconds), changes, size, is_whole)

    def _truncated(self, reader: _Reader) -> list[Change]:
        count, _ = reader.take("!IB")
        oids = (reader.take("!I")[0] for _ in range(count))
        return [Change("TRUNCATE", self._relation(oid)) for oid in oids]

    def _relation(self, oid: int) -> Relation:
        if oid not in self._relations:
            raise ValueError(f"pgoutput change of a table {oid} that it did not describe")
        return self._relations[oid]


def _row(kind: bytes, relation: Relation, reader: _Reader) -> Change:
    new: Row = {}
    old: Row = {}
    while not reader.at_end:
        match reader.take("!c")[0]:
            case b"N":
                new = reader.row(relation)
            case b"O":
                old = reader.row(relation)
            case _:  # K: the key, and nulls that stand for everything else
                row = reader.row(relation)
                keys = (column.name for column in relation.columns if column.is_key)
                old = {name: row[name] for name in keys}
    names: dict[bytes, Kind] = {b"I": "INSERT", b"U": "UPDATE", b"D": "DELETE"}
    return Change(names[kind], relation, new, old)


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
