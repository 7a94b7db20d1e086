"""SQL for Data API requests. Names are quoted, values are parameters, bodies are one parameter.

Each statement gives one row: `total` (all rows that match, or null where nobody asked), `page`
(the rows of this answer), `body` (JSON text), `inserted` (rows that were not there before an
upsert, or null) and `location` (the key of the first row as JSON, or null). Types are left to
PostgreSQL, which reads the body against the columns' types just as it would for PostgREST.
"""

from __future__ import annotations

from collections.abc import Sequence

from conv_realtime.local.rest.catalog import Column, Function, Table
from conv_realtime.local.rest.clauses import (
    Statement,
    order,
    projection,
    qualified,
    quoted,
    where,
    window,
)
from conv_realtime.local.rest.query import Query, Selected

_CONFLICTS = "local_supabase.conflicts"
"""A setting of the transaction in which an upsert counts the rows that were there already."""


def read(table: Table, query: Query, *, counted: bool, single: bool, body: bool) -> Statement:
    """`GET` and `HEAD`: a page of a table, ordered, perhaps with the count of all that match."""
    made = Statement()
    source = qualified(table.name)
    filtered = where(made, source, query.filters)
    page = (
        f"select {projection(made, source, query.select)} from {source}{filtered}"
        f"{order(made, source, query.order)}{window(made, query)}"
    )
    total = f"(select count(*) from {source}{filtered})" if counted else "null::bigint"
    made.sql = _answer(f"with page as ({page})", total, _body(single, wanted=body))
    return made


def insert(
    table: Table,
    columns: Sequence[str],
    body: str,
    query: Query,
    *,
    defaults: bool,
    resolution: str | None,
    returning: str | None,
    single: bool,
) -> Statement:
    """`POST`: inserts the object or objects of `body`, or merges them by key."""
    made = Statement()
    into = f"insert into {qualified(table.name)}"
    clause = _conflict(table, columns, query, resolution)
    if not columns:
        sql = f"{into} {_empty_rows(body)}{clause}"
        return _written(made, table, sql, query, returning, single)
    rows = _payload(made, [table.column(name) for name in columns], body, defaults=defaults)
    names = ", ".join(quoted(name) for name in columns)
    sql = f"{into} ({names}) select {names} from {rows}{clause}"
    inserted = _inserted(body, clause, defaults=defaults)
    return _written(made, table, sql, query, returning, single, inserted)


def update(
    table: Table,
    columns: Sequence[str],
    body: str,
    query: Query,
    *,
    returning: str | None,
    single: bool,
) -> Statement:
    """`PATCH`: writes the values of `body` into the rows that match."""
    made = Statement()
    if not columns:
        made.sql = _answer("with page as (select where false)", "null::bigint", "'[]'::text")
        return made
    target = qualified(table.name)
    rows = _payload(made, [table.column(name) for name in columns], body, defaults=False)
    assigned = ", ".join(f"{quoted(name)} = body.{quoted(name)}" for name in columns)
    filtered = where(made, target, query.filters)
    sql = f"update {target} set {assigned} from {rows}{filtered}"
    return _written(made, table, sql, query, returning, single)


def delete(table: Table, query: Query, returning: str | None, single: bool) -> Statement:
    """`DELETE`: removes the rows that match."""
    made = Statement()
    target = qualified(table.name)
    sql = f"delete from {target}{where(made, target, query.filters)}"
    return _written(made, table, sql, query, returning, single)


def call(
    function: Function,
    body: str,
    names: frozenset[str],
    query: Query,
    *,
    counted: bool,
    single: bool,
) -> Statement:
    """`/rpc`: calls a function with the named arguments of the object `body`."""
    made = Statement()
    used = [Column(one.name, one.type, None) for one in function.arguments if one.name in names]
    given = ", ".join(f"{quoted(one.name)} => body.{quoted(one.name)}" for one in used)
    call = f"{qualified(function.name)}({given})"
    source = f"{_payload(made, used, body, defaults=False)}, " if used else ""
    if function.returns_rows:
        called = f"called as materialized (select result.* from {source}lateral {call} as result)"
        rows = single or not function.returns_set
    else:
        called = f"called as materialized (select {call} as scalar"
        called += f" from {source.removesuffix(', ')})" if source else ")"
        rows = False
    page = (
        f"page as (select {projection(made, 'called', query.select)} from called"
        f"{where(made, 'called', query.filters)}{order(made, 'called', query.order)}"
        f"{window(made, query)})"
    )
    total = "(select count(*) from called)" if counted else "null::bigint"
    body_sql = _body(rows) if function.returns_rows else _scalar_body(function)
    made.sql = _answer(f"with {called}, {page}", total, body_sql)
    return made


def _answer(
    source: str, total: str, body: str, inserted: str = "null::bigint", location: str = "null::text"
) -> str:
    return (
        f"{source} select {total} as total, count(*) as page, {body} as body,"
        f" {inserted} as inserted, {location} as location from page"
    )


def _body(single: bool, *, wanted: bool = True) -> str:
    if not wanted:
        return "null::text"
    return "(json_agg(page) -> 0)::text" if single else "coalesce(json_agg(page), '[]')::text"


def _scalar_body(function: Function) -> str:
    if function.returns_set:
        return "coalesce(json_agg(page.scalar), '[]')::text"
    return "(json_agg(page.scalar) -> 0)::text"


def _written(
    made: Statement,
    table: Table,
    sql: str,
    query: Query,
    returning: str | None,
    single: bool,
    inserted: str = "null::bigint",
) -> Statement:
    """Finishes a write: what it returns, projected, ordered and cut as the client asked."""
    location = "null::text"
    if returning == "representation":
        returned, body = _returned(table, query.select), _body(single)
        shown = (
            f"page as (select {projection(made, 'written', query.select)} from written"
            f"{order(made, 'written', query.order)})"
        )
    else:
        returned, body, shown = "1", "''::text", "page as (select * from written)"
    if returning == "headers-only" and table.key:
        returned = ", ".join(f"{qualified(table.name)}.{quoted(name)}" for name in table.key)
        location = "(json_agg(page) -> 0)::text"
    source = f"with written as ({sql} returning {returned}), {shown}"
    made.sql = _answer(source, "null::bigint", body, inserted, location)
    return made


def _returned(table: Table, select: Sequence[Selected]) -> str:
    """Only the columns that are shown: reading others may be forbidden."""
    target = qualified(table.name)
    names = dict.fromkeys(item.field.name for item in select)
    if "*" in names:
        return f"{target}.*"
    return ", ".join(f"{target}.{quoted(name)}" for name in names)


def _payload(made: Statement, columns: Sequence[Column], body: str, *, defaults: bool) -> str:
    """Gives a from-item `body` with one row per object and one typed column per name."""
    if not columns:
        return "(select) as body"
    typed = ", ".join(f"{quoted(column.name)} {column.type}" for column in columns)
    one = _is_object(body)
    place = f"{made.place(body)}::{'jsonb' if defaults else 'json'}"
    if not defaults:
        return f"json_to_record{'' if one else 'set'}({place}) as body({typed})"
    filled = "".join(
        f"jsonb_build_object({made.place(column.name)}::text, {column.default}) || "
        for column in columns
        if column.default
    )
    items = f"jsonb_build_array({place})" if one else place
    return (
        f"(select item.* from jsonb_array_elements({items}) as element,"
        f" lateral jsonb_to_record({filled}element) as item({typed})) as body"
    )


def _empty_rows(body: str) -> str:
    """The source of an insert that names no column: `{}` is a row of defaults, `[]` is none."""
    return "default values" if _is_object(body) else "select where false"


def _is_object(body: str) -> bool:
    return body.lstrip()[:1] == "{"


def _conflict(table: Table, columns: Sequence[str], query: Query, resolution: str | None) -> str:
    target = query.on_conflict or table.key
    if resolution is None or not target:
        return ""
    names = ", ".join(quoted(name) for name in target)
    if resolution == "ignore-duplicates" or not columns:
        return f" on conflict ({names}) do nothing"
    assigned = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in columns)
    return (
        f" on conflict ({names}) do update set {assigned} where set_config('{_CONFLICTS}',"
        f" ({_conflicts()} + 1)::text, true) is not null"
    )


def _conflicts() -> str:
    return f"coalesce(nullif(current_setting('{_CONFLICTS}', true), ''), '0')::bigint"


def _inserted(body: str, clause: str, *, defaults: bool) -> str:
    # Counted without reading a column of the table, for which the role may have no right.
    if "do update" not in clause:
        return "null::bigint"
    kind = "jsonb" if defaults else "json"
    given = "1" if _is_object(body) else f"{kind}_array_length($1::{kind})"
    return f"{given} - {_conflicts()}"
