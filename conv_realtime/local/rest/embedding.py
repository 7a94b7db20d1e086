"""SQL for rows of related tables within the rows of a table, level by level."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from conv_realtime.local.rest.catalog import Catalog
from conv_realtime.local.rest.clauses import (
    Joined,
    Source,
    Statement,
    order,
    projection,
    qualified,
    quoted,
    where,
    window,
)
from conv_realtime.local.rest.errors import unsupported
from conv_realtime.local.rest.query import MAX_ROWS, Embedded, Query, null_filtered
from conv_realtime.local.rest.relations import Relation
from conv_realtime.local.rest.selection import EVERYTHING

_NAME_BYTES = 63


@dataclass(frozen=True, slots=True)
class Embedding:
    """What related tables add to a `select`.

    Attributes:
        columns: what comes behind the table's own columns.
        joins: what comes behind `from`, with its leading space.
        counting: those of the joins that decide which rows of the table there are.
        source: the table, which now also knows the related ones.
    """

    columns: Sequence[str]
    joins: str
    counting: str
    source: Source


def embed(
    made: Statement, catalog: Catalog, source: Source, query: Query, depth: int = 1
) -> Embedding:
    """Joins what `query` embeds to `source`.

    Raises:
        ApiError: `PGRST200` or `PGRST201`, a relation is not there or not clear.
    """
    columns: list[str] = []
    joins: dict[str, str] = {}
    known: dict[str, Joined] = {}
    deciding = null_filtered(query.filters)
    counting = ""
    for child in query.embeds:
        asked = child.asked
        relation = catalog.relation(source.name, asked.name, asked.hint)
        joined = Joined(_alias(f"{source.name}_{asked.shown}_{depth}"), relation.to_one)
        join = _join(made, catalog, source, relation, child, joined, depth)
        known[asked.shown] = joined
        joins[asked.shown] = join
        columns += _columns(joined, child)
        if asked.inner or asked.shown in deciding:
            counting += join
    return Embedding(columns, "".join(joins.values()), counting, replace(source, embedded=known))


def needed(catalog: Catalog, table: str, query: Query) -> list[str]:
    """Gives the table's columns that the relations of `query` go out from."""
    ways = (catalog.relation(table, one.asked.name, one.asked.hint) for one in query.embeds)
    return [ours for way in ways for ours, _ in way.columns]


def _alias(name: str) -> str:
    """Quotes a name of rows; of one that PostgreSQL would cut, and so confuse, a digest instead."""
    if len(name.encode()) > _NAME_BYTES:
        name = hashlib.sha256(name.encode()).hexdigest()[:_NAME_BYTES]
    return quoted(name)


def _columns(joined: Joined, child: Embedded) -> list[str]:
    row = joined.sql
    if child.asked.spread:
        if not joined.to_one:
            raise unsupported("spread of related tables with many rows")
        return [
            f"{row}.*" if name == "*" else f"{row}.{quoted(name)} as {quoted(name)}"
            for name in _names(child.query)
        ]
    if not child.query.select and not child.query.embeds:
        return []
    name = quoted(child.asked.shown)
    if joined.to_one:
        return [f"row_to_json({row}.*)::jsonb as {name}"]
    return [f"coalesce({row}.{row}, '[]') as {name}"]


def _names(query: Query) -> list[str]:
    names = [item.shown for item in query.select]
    for child in query.embeds:
        names += _names(child.query) if child.asked.spread else [child.asked.shown]
    return names


def _join(
    made: Statement,
    catalog: Catalog,
    source: Source,
    relation: Relation,
    child: Embedded,
    joined: Joined,
    depth: int,
) -> str:
    rows = _rows(made, catalog, source, relation, child.query, depth)
    kind, row = "inner" if child.asked.inner else "left", joined.sql
    if joined.to_one:
        return f" {kind} join lateral ({rows}) as {row} on true"
    found = f"{row} is not null" if child.asked.inner else "true"
    return (
        f" {kind} join lateral (select json_agg({row})::jsonb as {row} from ({rows}) as {row})"
        f" as {row} on {found}"
    )


def _rows(
    made: Statement, catalog: Catalog, source: Source, relation: Relation, query: Query, depth: int
) -> str:
    """The rows of the related table that belong to a row of `source`."""
    alias = _alias(f"{relation.target}_{depth}")
    own = Source(alias, relation.target, catalog.tables.get(relation.target))
    inner = embed(made, catalog, own, query, depth + 1)
    origin = f"{qualified(relation.target)} as {alias}"
    near = alias
    belonging: list[str] = []
    if relation.junction:
        near = _alias(f"{relation.junction}_{depth}_junction")
        origin += f" cross join {qualified(relation.junction)} as {near}"
        belonging += [
            f"{near}.{quoted(ours)} = {alias}.{quoted(theirs)}" for ours, theirs in relation.onward
        ]
    belonging += [
        f"{near}.{quoted(theirs)} = {source.sql}.{quoted(ours)}"
        for ours, theirs in relation.columns
    ]
    select = query.select or (() if query.embeds else (EVERYTHING,))
    shown = [*projection(made, own, select), *inner.columns]
    limit = MAX_ROWS if query.limit is None else min(query.limit, MAX_ROWS)
    query = query.replaced(limit=limit, offset=query.offset)
    return (
        f"select {', '.join(shown)} from {origin}{inner.joins}"
        f"{where(made, inner.source, query.filters, *belonging)}"
        f"{order(made, inner.source, query.order)}{window(query)}"
    )
