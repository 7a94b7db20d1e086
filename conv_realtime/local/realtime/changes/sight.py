"""Which changed rows a user may see: the policies, and the conditions of the user's bindings.

Asked under the user's role and claims, in a transaction that cannot write, with one query for all
rows of a table at once. Like a real server it looks for the row as it is now, not as it was: a row
that is gone, or hidden by now, is not seen. Filters are evaluated in the same query, so they can
do nothing that their user could not do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from conv_realtime.local.realtime.changes.filters import COMPARISONS, KEYWORDS, Filter
from conv_realtime.local.realtime.changes.quoting import name, quoted
from conv_realtime.local.realtime.changes.tables import Table, TableColumn
from conv_realtime.local.realtime.connections import Connection

Row = Mapping[str, str | None]

_IMPERSONATE = """
    select pg_catalog.set_config('role', %(role)s, true),
           pg_catalog.set_config('request.jwt.claims', %(claims)s, true)
"""


@dataclass(frozen=True, slots=True)
class User:
    """Whose rights count: a role and the claims that policies read, as JSON."""

    role: str
    claims: str


@dataclass(frozen=True, slots=True)
class Question:
    """What a user asks about the rows of a table.

    Attributes:
        table: the table.
        rows: their values as text; a column may be missing.
        seen: for each row, whether its being seen depends on the policies.
        conditions: to be evaluated on every row.
    """

    table: Table
    rows: Sequence[Row]
    seen: Sequence[bool]
    conditions: Sequence[Filter]


@dataclass(frozen=True, slots=True)
class Answer:
    """For each row, whether the policies let it be seen, and which conditions hold."""

    visible: bool
    holds: tuple[bool, ...]


async def ask(connection: Connection, user: User, question: Question) -> list[Answer]:
    """Asks one question.

    Args:
        connection: of a role that may become the user's.
        user: who asks.
        question: about at least one row.

    Raises:
        psycopg.Error: the policies, or a condition, failed or took too long.
    """
    query, values = _query(question)
    async with connection.pipeline(), connection.transaction():
        await connection.execute("set transaction read only")
        await connection.execute(_IMPERSONATE, {"role": user.role, "claims": user.claims})
        cursor = await connection.execute(query, values)
        answers = await cursor.fetchall()
    return [Answer(visible, tuple(holds)) for visible, holds in answers]


def _query(question: Question) -> tuple[sql.Composed, list[Any]]:
    table = question.table
    names = {condition.column for condition in question.conditions}
    used = [column for column in table.columns if column.is_key or column.name in names]
    aliases = {column.name: sql.Identifier(f"c{at}") for at, column in enumerate(used)}
    fields = {
        column.name: sql.SQL("r.{}::{}").format(aliases[column.name], quoted(column.type_name))
        for column in used
    }
    conditions = [
        _condition(one, table.by_name[one.column], fields[one.column])
        for one in question.conditions
    ]
    query = sql.SQL(
        "select not r.asked or {}, array[{}]::bool[]"
        " from unnest(%s::bool[], {}) with ordinality as r(asked, {}, n) order by r.n"
    ).format(
        _visible(table, fields) if table.secured else sql.SQL("true"),
        sql.SQL(", ").join(conditions),
        sql.SQL(", ").join(sql.SQL("%s::text[]") for _ in used),
        sql.SQL(", ").join(aliases.values()),
    )
    given = [one.value for one in question.conditions if one.operator != "is"]
    values = [[row.get(column.name) for row in question.rows] for column in used]
    return query, [*given, list(question.seen), *values]


def _visible(table: Table, fields: Mapping[str, sql.Composed]) -> sql.Composed:
    # `offset 0` keeps the planner from turning the look-ups into one scan of the whole table,
    # which would run the policies on every row of it.
    return sql.SQL("exists (select from {} as t where {} offset 0)").format(
        name(table.relation.schema, table.relation.name),
        sql.SQL(" and ").join(
            sql.SQL("t.{} = {}").format(name(column.name), fields[column.name])
            for column in table.key
        ),
    )


def _condition(condition: Filter, column: TableColumn, field: sql.Composed) -> sql.Composed:
    """Builds a condition that is true or false, never null; its value is a parameter."""
    negation = sql.SQL("not " if condition.negated else "")
    if condition.operator == "is":
        keyword = condition.value if condition.value in KEYWORDS else "unknown"
        return sql.SQL("({} is {}{})").format(field, negation, sql.SQL(keyword))
    array = sql.SQL("[]" if condition.operator == "in" else "")
    value = sql.SQL("%s::text::{}{}").format(quoted(column.type_name), array)
    if condition.operator == "isdistinct":
        return sql.SQL("({} is {}distinct from {})").format(field, negation, value)
    symbol = sql.SQL(COMPARISONS[condition.operator])
    return sql.SQL("coalesce({}({} {} ({})), false)").format(negation, field, symbol, value)
