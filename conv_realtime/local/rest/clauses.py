"""Clauses of SQL that a query string asks for. Names are quoted, values are parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from conv_realtime.local.rest.catalog import SCHEMA, Table
from conv_realtime.local.rest.errors import ApiError, check_text, not_embedded
from conv_realtime.local.rest.query import (
    OPERATORS,
    SEARCHES,
    Condition,
    Junction,
    Order,
    Query,
)
from conv_realtime.local.rest.selection import Field, Selected

_INDEX = re.compile(r"-?[0-9]{1,9}")


@dataclass(slots=True)
class Statement:
    """SQL text with `$1`-style places, and what belongs there."""

    sql: str = ""
    parameters: list[object] = field(default_factory=list)

    def place(self, value: str | None) -> str:
        """Adds a parameter; gives its place.

        Raises:
            ApiError: it holds a NUL, which no text of PostgreSQL can.
        """
        if value is not None:
            check_text(value)
        self.parameters.append(value)
        return f"${len(self.parameters)}"


@dataclass(frozen=True, slots=True)
class Joined:
    """Related rows that stand beside a table: their quoted alias, and whether it is one row."""

    sql: str
    to_one: bool


@dataclass(frozen=True, slots=True)
class Source:
    """What columns are taken from.

    Attributes:
        sql: how it is called in the statement.
        name: of the table that its rows are of.
        table: that table, None if the rows are of none.
        embedded: the related rows beside it, by the names under which they are answered.
    """

    sql: str
    name: str
    table: Table | None = None
    embedded: Mapping[str, Joined] = field(default_factory=dict)

    def holds(self, column: str, type: str) -> bool:
        """Says whether a column is known to be of a type."""
        known = self.table.columns.get(column) if self.table else None
        return known is not None and known.type == type


def quoted(name: str) -> str:
    """Quotes an identifier.

    Raises:
        ApiError: it holds a NUL, which no name can.
    """
    check_text(name)
    return '"' + name.replace('"', '""') + '"'


def qualified(name: str) -> str:
    """Gives the quoted name of a table or function of schema `public`."""
    return f"{quoted(SCHEMA)}.{quoted(name)}"


def projection(made: Statement, source: Source, select: Sequence[Selected]) -> list[str]:
    """What stands between `select` and `from`."""
    return [_selected(made, source, item) for item in select]


def _selected(made: Statement, source: Source, item: Selected) -> str:
    if item.field.name == "*" and not item.field.path:
        return f"{source.sql}.*"
    shown = _reference(made, source, item.field)
    if item.cast:
        shown = f"cast({shown} as {item.cast})"
    return f"{shown} as {quoted(item.shown)}"


def _reference(made: Statement, source: Source, found: Field) -> str:
    column = f"{source.sql}.{quoted(found.name)}"
    if not found.path:
        return column
    steps = (f" {arrow} {_step(made, key)}" for arrow, key in found.path)
    return f"(to_jsonb({column}){''.join(steps)})"


def _step(made: Statement, key: str) -> str:
    """An index into an array or a key of an object; both are parameters, `--1` is a comment."""
    if _INDEX.fullmatch(key):
        return f"{made.place(key)}::int"
    return f"{made.place(key)}::text"


def where(
    made: Statement, source: Source, filters: Sequence[Condition | Junction], *further: str
) -> str:
    """The `where` clause with its leading space, or nothing; `further` conditions are SQL."""
    conditions = [*further, *(condition(made, source, one) for one in filters)]
    return f" where {' and '.join(conditions)}" if conditions else ""


def condition(made: Statement, source: Source, one: Condition | Junction) -> str:
    """One condition, or several in parentheses."""
    if isinstance(one, Junction):
        joined = f" {one.kind} ".join(condition(made, source, part) for part in one.parts)
        sql = f"({joined})"
    elif one.absence and one.field.name in source.embedded:
        sql = f"{source.embedded[one.field.name].sql} is not distinct from null"
    else:
        sql = _comparison(made, source, one)
    return f"(not {sql})" if one.negated else sql


def _comparison(made: Statement, source: Source, one: Condition) -> str:
    left = _reference(made, source, one.field)
    if isinstance(one.value, tuple):
        return f"{left} = any({made.place(_array(one.value))})"
    if one.operator == "is":
        return f"{left} is {one.value}"
    if one.operator in SEARCHES:
        return _search(made, source, left, one, one.value)
    operator = OPERATORS[one.operator]
    if one.modifier is None:
        return f"{left} {operator} {made.place(one.value)}"
    texts = "::text[]" if one.operator in ("like", "ilike", "match", "imatch") else ""
    return f"{left} {operator} {one.modifier}({made.place(one.value)}{texts})"


def _search(made: Statement, source: Source, left: str, one: Condition, words: str) -> str:
    """Full text search; what is no `tsvector` is made one."""
    language = f"{made.place(one.modifier)}::regconfig, " if one.modifier else ""
    if one.field.path or not source.holds(one.field.name, "tsvector"):
        left = f"to_tsvector({language}{left})"
    return f"{left} @@ {SEARCHES[one.operator]}({language}{made.place(words)}::text)"


def _array(values: Sequence[str]) -> str:
    """The text of an array: one parameter, however many values, of whatever type the column is."""
    inner = ",".join(
        '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values
    )
    return "{" + inner + "}"


def order(made: Statement, source: Source, order: Sequence[Order]) -> str:
    """The `order by` clause with its leading space, or nothing."""
    keys = [
        _ordered(made, source, one)
        + (" desc" if one.descending else "")
        + (f" nulls {one.nulls}" if one.nulls else "")
        for one in order
    ]
    return f" order by {', '.join(keys)}" if keys else ""


def _ordered(made: Statement, source: Source, one: Order) -> str:
    if one.relation is None:
        return _reference(made, source, one.field)
    joined = source.embedded.get(one.relation)
    if joined is None:
        raise not_embedded(one.relation)
    if not joined.to_one:
        raise ApiError(
            400,
            "PGRST118",
            f"A related order on '{one.relation}' is not possible",
            details=f"'{source.name}' and '{one.relation}' do not form a many-to-one or "
            "one-to-one relationship",
        )
    return _reference(made, Source(joined.sql, one.relation), one.field)


def window(query: Query) -> str:
    """`limit` and `offset` with their leading space, or nothing."""
    limit = "" if query.limit is None else f" limit {int(query.limit)}"
    return limit + (f" offset {int(query.offset)}" if query.offset else "")
