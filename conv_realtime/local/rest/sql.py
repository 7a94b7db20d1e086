"""SQL for Data API requests. Names are quoted, values are parameters, bodies are one parameter.

Each statement gives one row: `total` (all rows that match, or null where nobody asked), `page`
(the rows of this answer), `body` (JSON text), `inserted` (rows that were not there before an
upsert, or null) and `location` (the key of the first row as JSON, or null). Types are left to
PostgreSQL, which reads the body against the columns' types just as it would for PostgREST.
"""

from __future__ import annotations

from collections.abc import Sequence

from conv_realtime.local.rest.catalog import Catalog, Column, Function, Table
from conv_realtime.local.rest.clauses import (
    Source,
    Statement,
    order,
    projection,
    qualified,
    quoted,
    where,
    window,
)
from conv_realtime.local.rest.embedding import embed, needed
from conv_realtime.local.rest.prefer import ARRAY, Media
from conv_realtime.local.rest.query import Query

_CONFLICTS = "local_supabase.conflicts"
"""A setting of the transaction in which an upsert counts the rows that were there already."""


def read(
    catalog: Catalog, table: Table, query: Query, media: Media, *, counted: bool, body: bool
) -> Statement:
    """`GET` and `HEAD`: a page of a table, ordered, perhaps with the count of all that match."""
    made = Statement()
    origin = Source(qualified(table.name), table.name, table)
    related = embed(made, catalog, origin, query)
    source = related.source
    filtered = where(made, source, query.filters)
    shown = ", ".join([*projection(made, source, query.select), *related.columns])
    page = (
        f"select {shown} from {source.sql}{related.joins}{filtered}"
        f"{order(made, source, query.order)}{window(query)}"
    )
    total = f"(select count(*) from {source.sql}{related.counting}{filtered})"
    rows = _body(media) if body else "null::text"
    made.sql = _answer(f"with page as ({page})", total if counted else "null::bigint", rows)
    return made


def insert(
    catalog: Catalog,
    table: Table,
    columns: Sequence[str],
    body: str,
    query: Query,
    *,
    defaults: bool = False,
    resolution: str | None = None,
    returning: str | None = None,
    media: Media = ARRAY,
    only: bool = False,
) -> Statement:
    """`POST`: inserts the object or objects of `body`, or merges them by key.

    With `only` the rows that do not pass the query's filters are left out, as `PUT` wants it.
    """
    made = Statement()
    into = f"insert into {qualified(table.name)}"
    clause = _conflict(table, columns, query, resolution)
    if not columns:
        sql = f"{into} {_empty_rows(body)}{clause}"
        return _written(made, catalog, table, sql, query, returning, media)
    rows = _payload(made, [table.column(name) for name in columns], body, defaults=defaults)
    names = ", ".join(quoted(name) for name in columns)
    given = Source("body", table.name, table)
    wanted = where(made, given, query.filters if only else ())
    sql = f"{into} ({names}) select {names} from {rows}{wanted}{clause}"
    inserted = _inserted(body, clause, defaults=defaults)
    return _written(made, catalog, table, sql, query, returning, media, inserted)


def update(
    catalog: Catalog,
    table: Table,
    columns: Sequence[str],
    body: str,
    query: Query,
    returning: str | None,
    media: Media,
) -> Statement:
    """`PATCH`: writes the values of `body` into the rows that match."""
    made = Statement()
    if not columns:
        made.sql = _answer("with page as (select where false)", "null::bigint", "'[]'::text")
        return made
    target = qualified(table.name)
    rows = _payload(made, [table.column(name) for name in columns], body, defaults=False)
    assigned = ", ".join(f"{quoted(name)} = body.{quoted(name)}" for name in columns)
    filtered = where(made, Source(target, table.name, table), query.filters)
    sql = f"update {target} set {assigned} from {rows}{filtered}"
    return _written(made, catalog, table, sql, query, returning, media)


def delete(
    catalog: Catalog, table: Table, query: Query, returning: str | None, media: Media
) -> Statement:
    """`DELETE`: removes the rows that match."""
    made = Statement()
    target = qualified(table.name)
    filtered = where(made, Source(target, table.name, table), query.filters)
    sql = f"delete from {target}{filtered}"
    return _written(made, catalog, table, sql, query, returning, media)


def call(
    catalog: Catalog,
    function: Function,
    body: str,
    names: frozenset[str],
    query: Query,
    media: Media,
    *,
    counted: bool,
) -> Statement:
    """`/rpc`: calls a function with the named arguments of the object `body`."""
    made = Statement()
    used = [Column(one.name, one.type, None) for one in function.arguments if one.name in names]
    given = ", ".join(f"{quoted(one.name)} => body.{quoted(one.name)}" for one in used)
    call = f"{qualified(function.name)}({given})"
    source = f"{_payload(made, used, body, defaults=False)}, " if used else ""
    if function.returns_rows:
        called = f"called as materialized (select result.* from {source}lateral {call} as result)"
    else:
        called = f"called as materialized (select {call} as scalar"
        called += f" from {source.removesuffix(', ')})" if source else ")"
    name = function.table or function.name
    origin = Source("called", name, catalog.tables.get(name))
    related = embed(made, catalog, origin, query)
    filtered = where(made, related.source, query.filters)
    shown = ", ".join([*projection(made, origin, query.select), *related.columns])
    page = (
        f"page as (select {shown} from called{related.joins}{filtered}"
        f"{order(made, related.source, query.order)}{window(query)})"
    )
    total = f"(select count(*) from called{related.counting}{filtered})"
    if not function.returns_rows and not media.csv:
        rows = _scalar_body(function)
    else:
        rows = _body(media, one=not function.returns_set)
    made.sql = _answer(f"with {called}, {page}", total if counted else "null::bigint", rows)
    return made


def _answer(
    source: str, total: str, body: str, inserted: str = "null::bigint", location: str = "null::text"
) -> str:
    return (
        f"{source} select {total} as total, count(*) as page, {body} as body,"
        f" {inserted} as inserted, {location} as location from page"
    )


def _body(media: Media, *, one: bool = False) -> str:
    if media.csv:
        return _CSV
    rows = "json_agg(page)"
    if media.stripped:
        rows = f"json_strip_nulls({rows})"
    return f"({rows} -> 0)::text" if media.single or one else f"coalesce({rows}, '[]')::text"


_CSV = """\
(select coalesce(string_agg(name, ','), '') from (select json_object_keys(shown) as name
  from (select row_to_json(first) as shown from page as first limit 1) as one) as header)
|| chr(10)
|| coalesce(string_agg(substring(page::text, 2, length(page::text) - 2), chr(10)), '')"""
"""Names, then rows: PostgreSQL writes a row as text just as CSV wants it, but for parentheses."""


def _scalar_body(function: Function) -> str:
    if function.returns_set:
        return "coalesce(json_agg(page.scalar), '[]')::text"
    return "(json_agg(page.scalar) -> 0)::text"


def _written(
    made: Statement,
    catalog: Catalog,
    table: Table,
    sql: str,
    query: Query,
    returning: str | None,
    media: Media,
    inserted: str = "null::bigint",
) -> Statement:
    """Finishes a write: what it returns, projected and ordered as the client asked."""
    location = "null::text"
    if returning == "representation":
        returned, body = _returned(catalog, table, query), _body(media)
        related = embed(made, catalog, Source("written", table.name, table), query)
        columns = [*projection(made, related.source, query.select), *related.columns]
        shown = (
            f"page as (select {', '.join(columns)} from written{related.joins}"
            f"{order(made, related.source, query.order)})"
        )
    else:
        returned, body, shown = "1", "''::text", "page as (select * from written)"
    if returning == "headers-only" and table.key:
        returned = ", ".join(f"{qualified(table.name)}.{quoted(name)}" for name in table.key)
        location = "(json_agg(page) -> 0)::text"
    source = f"with written as ({sql} returning {returned}), {shown}"
    made.sql = _answer(source, "null::bigint", body, inserted, location)
    return made


def _returned(catalog: Catalog, table: Table, query: Query) -> str:
    """Only the columns that are shown or lead to what is: reading others may be forbidden."""
    target = qualified(table.name)
    names = dict.fromkeys(item.field.name for item in query.select)
    if "*" in names:
        return f"{target}.*"
    names |= dict.fromkeys(needed(catalog, table.name, query))
    return ", ".join(f"{target}.{quoted(name)}" for name in names) or "1"


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
    # A scalar is an error, which the reading of its rows has the right words for.
    array = f"case {kind}_typeof($1::{kind}) when 'array' then {kind}_array_length($1::{kind}) end"
    given = "1" if _is_object(body) else array
    return f"{given} - {_conflicts()}"
