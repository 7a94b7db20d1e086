"""Clauses of SQL that a query string asks for. Names are quoted, values are parameters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from conv_realtime.local.rest.catalog import SCHEMA
from conv_realtime.local.rest.errors import ApiError
from conv_realtime.local.rest.query import (
    OPERATORS,
    Condition,
    Field,
    Junction,
    Order,
    Query,
    Selected,
)

_INDEX = re.compile(r"-?[0-9]{1,9}")


@dataclass(slots=True)
class Statement:
    """SQL text with `$1`-style places, and what belongs there."""

    sql: str = ""
    parameters: list[object] = field(default_factory=list)

    def place(self, value: object) -> str:
        """Adds a parameter; gives its place."""
        self.parameters.append(value)
        return f"${len(self.parameters)}"


def quoted(name: str) -> str:
    """Quotes an identifier.

    Raises:
        ApiError: it holds a NUL, which no name can.
    """
    if "\0" in name:
        raise ApiError(400, "22021", 'invalid byte sequence for encoding "UTF8": 0x00')
    return '"' + name.replace('"', '""') + '"'


def qualified(name: str) -> str:
    """Gives the quoted name of a table or function of schema `public`."""
    return f"{quoted(SCHEMA)}.{quoted(name)}"


def projection(made: Statement, source: str, select: Sequence[Selected]) -> str:
    """What stands between `select` and `from`."""
    return ", ".join(_selected(made, source, item) for item in select)


def _selected(made: Statement, source: str, item: Selected) -> str:
    if item.field.name == "*" and not item.field.path:
        return f"{source}.*"
    shown = _reference(made, source, item.field)
    if item.cast:
        shown = f"cast({shown} as {item.cast})"
    name = item.alias or (item.field.path[-1][1] if item.field.path else item.field.name)
    return f"{shown} as {quoted(name)}"


def _reference(made: Statement, source: str, found: Field) -> str:
    column = f"{source}.{quoted(found.name)}"
    if not found.path:
        return column
    steps = (f" {arrow} {_step(made, key)}" for arrow, key in found.path)
    return f"(to_jsonb({column}){''.join(steps)})"


def _step(made: Statement, key: str) -> str:
    """An index into an array or a key of an object; both are parameters, `--1` is a comment."""
    if _INDEX.fullmatch(key):
        return f"{made.place(key)}::int"
    return f"{made.place(key)}::text"


def where(made: Statement, source: str, filters: Sequence[Condition | Junction]) -> str:
    """The `where` clause with its leading space, or nothing."""
    if not filters:
        return ""
    return " where " + " and ".join(_condition(made, source, one) for one in filters)


def _condition(made: Statement, source: str, one: Condition | Junction) -> str:
    if isinstance(one, Junction):
        joined = f" {one.kind} ".join(_condition(made, source, part) for part in one.parts)
        sql = f"({joined})"
    else:
        sql = _comparison(made, _reference(made, source, one.field), one)
    return f"(not {sql})" if one.negated else sql


def _comparison(made: Statement, left: str, one: Condition) -> str:
    if one.operator == "is":
        return f"{left} is {one.value}"
    if one.operator == "in":
        return f"{left} = any({made.place(_array(one.value))})"
    return f"{left} {OPERATORS[one.operator]} {made.place(one.value)}"


def _array(values: Sequence[str]) -> str:
    """The text of an array: one parameter, however many values, of whatever type the column is."""
    inner = ",".join(
        '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values
    )
    return "{" + inner + "}"


def order(made: Statement, source: str, order: Sequence[Order]) -> str:
    """The `order by` clause with its leading space, or nothing."""
    keys = [
        _reference(made, source, one.field)
        + (" desc" if one.descending else "")
        + (f" nulls {one.nulls}" if one.nulls else "")
        for one in order
    ]
    return f" order by {', '.join(keys)}" if keys else ""


def window(made: Statement, query: Query) -> str:
    """`limit` and `offset` with their leading space, or nothing."""
    limit = "" if query.limit is None else f" limit {int(query.limit)}"
    return limit + (f" offset {int(query.offset)}" if query.offset else "")
