"""A column's text as JSON, exactly as ``to_jsonb`` writes it after wal2json has seen it.

The common types are written here, because a trip to the database for every row would cost more
than all the rest; a test compares each with PostgreSQL. Arrays, json, composites, domains and the
types of extensions are left to PostgreSQL itself: see `by_database`.

Where wal2json is odd, so is this: NaN and the infinities of numbers are null, bytea is bare hex.
The text must come from a session with ISO dates in UTC (`wal.source` sees to it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

import orjson
import psycopg
from psycopg import sql

from conv_realtime.local.realtime.changes.quoting import quoted
from conv_realtime.local.realtime.changes.tables import TableColumn
from conv_realtime.local.realtime.connections import Connection
from conv_realtime.local.wal.pgoutput import Change

NULL = "null"


def _text(text: str) -> str:
    return orjson.dumps(text).decode()


def _number(text: str) -> str:
    if text[-1] in "Ny":  # NaN, Infinity
        return NULL
    if "e" in text:
        return format(Decimal(text), "f")
    return "0" if text == "-0" else text


def _bytea(text: str) -> str:
    return f'"{text.removeprefix(chr(92) + "x")}"'


def _timestamp(text: str) -> str:
    return f'"{text.replace(" ", "T", 1)}"' if text[-1] != "y" else f'"{text}"'


def _timestamptz(text: str) -> str:
    day, gap, rest = text.partition(" ")
    return f'"{day}T{rest.replace("+00", "+00:00", 1)}"' if gap else f'"{text}"'


def _same(text: str) -> str:
    return text


def _quoted(text: str) -> str:
    return f'"{text}"'


_BUILT_IN: dict[int, Callable[[str], str]] = {
    16: lambda text: "true" if text == "t" else "false",
    17: _bytea,
    1114: _timestamp,
    1184: _timestamptz,
    3802: _same,  # jsonb
    **dict.fromkeys((20, 21, 23), _same),  # int8, int2, int4
    **dict.fromkeys((700, 701, 1700), _number),  # float4, float8, numeric
    **dict.fromkeys((26, 1082, 1083, 1266, 1186, 2950), _quoted),  # oid, date and times, uuid
    **dict.fromkeys((18, 19, 25, 1042, 1043), _text),  # "char", name, text, bpchar, varchar
    **dict.fromkeys((650, 774, 829, 869, 790, 1560, 1562), _text),  # addresses, money, bits
}


def converter(column: TableColumn) -> Callable[[str], str] | None:
    """Gives what writes a column's values, or None for what only PostgreSQL can."""
    if column.kind == "e":
        return _text
    return _BUILT_IN.get(column.type_oid)


async def by_database(
    connection: Connection, columns: Sequence[TableColumn], rows: Iterable[Sequence[str | None]]
) -> list[tuple[str, ...]]:
    """Lets PostgreSQL write the values of some columns.

    Raises:
        psycopg.Error: a value does not fit its type, which must have changed meanwhile.
    """
    names = [sql.Identifier(f"c{at}") for at in range(len(columns))]
    written = [
        sql.SQL("coalesce(pg_catalog.to_jsonb({}::{})::text, 'null')").format(
            name, quoted(column.type_name)
        )
        for name, column in zip(names, columns, strict=True)
    ]
    query = sql.SQL("select {} from unnest({}) with ordinality as r({}, n) order by n").format(
        sql.SQL(", ").join(written),
        sql.SQL(", ").join(sql.SQL("%s::text[]") for _ in columns),
        sql.SQL(", ").join(names),
    )
    cursor = await connection.execute(query, [list(values) for values in zip(*rows, strict=True)])
    return await cursor.fetchall()


async def write_rows(
    connection: Connection, columns: Sequence[TableColumn], changes: Sequence[Change]
) -> list[dict[tuple[bool, str], str]]:
    """Gives, for each change, the values that only PostgreSQL can write: by old or new, and name.

    A value that no longer fits the type of its column is left out.
    """
    written: list[dict[tuple[bool, str], str]] = [{} for _ in changes]
    special = [column for column in columns if converter(column) is None]
    if not special:
        return written
    rows = [
        (into, is_old, row)
        for into, change in zip(written, changes, strict=True)
        for is_old, row in ((False, change.new), (True, change.old))
        if row
    ]
    texts = [[row.get(column.name) for column in special] for _, _, row in rows]
    try:
        answers = await by_database(connection, special, texts) if rows else []
    except psycopg.DataError:
        return written
    for (into, is_old, row), values in zip(rows, answers, strict=True):
        for column, value in zip(special, values, strict=True):
            if column.name in row:
                into[is_old, column.name] = value
    return written
