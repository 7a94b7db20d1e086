"""Whether a role may subscribe to what it asks for, in the words of a real server."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg import sql

from conv_realtime.local.realtime.changes.bindings import Binding, BindingRefused
from conv_realtime.local.realtime.changes.filters import KEYWORDS, MAX_IN_VALUES, Filter
from conv_realtime.local.realtime.changes.quoting import quoted
from conv_realtime.local.realtime.connections import Connection, condition

PUBLICATION = "supabase_realtime"

_CANNOT = "Unable to subscribe to changes with given parameters. "
_NOT_PUBLISHED = f"{_CANNOT}Please check Realtime is enabled for the given connect parameters: "
_FAILED = f"{_CANNOT}An exception happened so please check your connect parameters: "

_PUBLISHED = """
    select p.schemaname::text, p.tablename::text, c.oid::int8
    from pg_catalog.pg_publication_tables as p
    join pg_catalog.pg_namespace as n on n.nspname = p.schemaname
    join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relname = p.tablename
    where p.pubname = %s
    order by 1, 2
"""
_COLUMNS = """
    select a.attname::text, format('%%I.%%I', n.nspname, t.typname),
      pg_catalog.has_column_privilege(%(role)s::name, a.attrelid, a.attnum, 'SELECT'),
      pg_catalog.format_type(t.oid, null),
      array(
        select o.oprname::text from pg_catalog.pg_operator as o
        where o.oprleft = t.oid and (o.oprname = '~~' or o.oprright = t.oid)
          and o.oprname in ('~~', '~', '~*') and o.oprresult = 'boolean'::regtype
      )
    from pg_catalog.pg_attribute as a
    join pg_catalog.pg_type as t on t.oid = a.atttypid
    join pg_catalog.pg_namespace as n on n.oid = t.typnamespace
    where a.attrelid = %(oid)s and a.attnum > 0 and not a.attisdropped
"""

Published = dict[tuple[str, str], int]


async def published(connection: Connection) -> Published:
    """Gives the oid of every published table by schema and name."""
    rows = await (await connection.execute(_PUBLISHED, (PUBLICATION,))).fetchall()
    return {(schema, table): oid for schema, table, oid in rows}


async def admit(connection: Connection, role: str, bindings: Sequence[Binding]) -> Published:
    """Checks bindings one after the other; gives what is published.

    Args:
        connection: in autocommit mode; types that only some roles may use must be open to it.
        role: whose rights count.
        bindings: what it asks for.

    Raises:
        BindingRefused: the first that cannot be had, and why.
        Away: the database cannot be asked.
    """
    tables = await published(connection)
    for binding in bindings:
        wanted = [oid for (schema, table), oid in tables.items() if binding.wants(schema, table)]
        if not wanted:
            raise not_published(binding)
        try:
            for oid in wanted:
                await _check(connection, oid, role, binding)
        except psycopg.Error as error:
            if connection.closed:
                raise
            raise BindingRefused(f"{_FAILED}{binding}. Exception: {_told(error)}") from error
        except _Raised as error:
            message = f"ERROR P0001 (raise_exception) {error}"
            raise BindingRefused(f"{_FAILED}{binding}. Exception: {message}") from error
    return tables


def not_published(binding: Binding) -> BindingRefused:
    """Says that no published table is like what a binding asks for."""
    return BindingRefused(f"{_NOT_PUBLISHED}{binding}")


class _Raised(Exception):
    """What a real server's own SQL raises; a code of its own would look like PostgreSQL's."""


async def _check(connection: Connection, oid: int, role: str, binding: Binding) -> None:
    cursor = await connection.execute(_COLUMNS, {"oid": oid, "role": role})
    columns = {row[0]: row[1:] for row in await cursor.fetchall() if row[2]}
    for one in binding.filters:
        if one.column not in columns:
            raise _Raised(f"invalid column for filter {one.column}")
        type_name, _, shown, operators = columns[one.column]
        await _check_value(connection, one, type_name, shown, operators)
    for name in binding.select or ():
        if name not in columns:
            raise _Raised(f"invalid column for select {name}")


async def _check_value(
    connection: Connection, one: Filter, type_name: str, shown: str, operators: Sequence[str]
) -> None:
    match one.operator:
        case "in":
            query = sql.SQL("select coalesce(pg_catalog.array_length(%s::text::{}[], 1), 0)")
            cursor = await connection.execute(query.format(quoted(type_name)), (one.value,))
            row = await cursor.fetchone()
            if row is not None and row[0] > MAX_IN_VALUES:
                raise _Raised(f"too many values for `in` filter. Maximum {MAX_IN_VALUES}")
        case "is":
            if one.value not in KEYWORDS:
                reason = "must be null, true, false, or unknown"
                raise _Raised(f"invalid value for is filter: {reason}")
            if one.value != "null" and shown != "boolean":
                raise _Raised(f"is {one.value} filter requires a boolean column, got {shown}")
        case "like" | "ilike" | "match" | "imatch":
            symbol = {"match": "~", "imatch": "~*"}.get(one.operator, "~~")
            if symbol not in operators:
                needs = "requires a text-compatible column type"
                raise _Raised(f"operator {one.operator} {needs}, got {shown}")
            if symbol != "~~":
                await _check_pattern(connection, one)
        case _:
            cast = sql.SQL("select %s::text::{}").format(quoted(type_name))
            await connection.execute(cast, (one.value,))


async def _check_pattern(connection: Connection, one: Filter) -> None:
    try:
        await connection.execute("select '' ~ %s::text", (one.value,))
    except psycopg.DataError as error:
        reason = error.diag.message_primary
        raise _Raised(f"invalid regular expression for {one.operator} filter: {reason}") from error


def _told(error: psycopg.Error) -> str:
    """Tells an error of PostgreSQL as Postgrex, the Elixir client, does."""
    diag = error.diag
    about = {
        "table": diag.table_name,
        "column": diag.column_name,
        "constraint": diag.constraint_name,
        "hint": diag.message_hint,
    }
    metadata = "".join(f"\n    {key}: {told}" for key, told in about.items() if told)
    detail = f"\n\n{diag.message_detail}" if diag.message_detail else ""
    words = f"{diag.severity} {condition(error)} {diag.message_primary}"
    return words + (f"\n{metadata}" if metadata else "") + detail
