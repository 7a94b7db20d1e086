"""Questions to PostgREST that have longer answers than it gives at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from conv_realtime.edges.store.answers import mapped, stranger
from conv_realtime.models import Table

if TYPE_CHECKING:
    from supabase import AsyncClient

PAGE = 1000
"""Rows an answer; PostgREST cuts longer ones without a word."""

_IDS_A_REQUEST = 100  # ids travel in the URL, which httpx refuses above 64 KB and proxies before

Row = dict[str, Any]


async def call(
    client: AsyncClient, function: str, arguments: Mapping[str, Any] | None = None
) -> Any:
    """Return what a function of the database answers; by POST, so arguments may be long."""
    with mapped(function):
        return (await client.rpc(function, dict(arguments or {})).execute()).data


async def rows(
    client: AsyncClient,
    table: Table,
    columns: str,
    page: int = PAGE,
    *,
    equal: Mapping[str, str] | None = None,
    within: tuple[str, Collection[str]] | None = None,
) -> AsyncIterator[Row]:
    """Yield every row that matches, by ascending id, `page` of them a request.

    `within` is a column and the values that it may have: not more than one `chunks` gives.
    """
    last: str | None = None
    while True:
        # postgrest would ask again for seven seconds in silence, whatever Retry-After says.
        query = client.table(table).select(columns).retry(False)
        for name, value in (equal or {}).items():
            query = query.eq(name, value)
        if within is not None:
            query = query.in_(*within)
        if last is not None:
            query = query.gt("id", last)
        with mapped(table):
            found: Any = (await query.order("id").limit(page).execute()).data
        if not isinstance(found, list):
            raise stranger(table)
        for row in found:
            last = row["id"]
            yield row
        if len(found) < page:
            return


def chunks(ids: Collection[UUID]) -> Iterator[list[str]]:
    """Yield the ids in groups that fit into a URL."""
    ordered = sorted(str(id) for id in ids)
    for start in range(0, len(ordered), _IDS_A_REQUEST):
        yield ordered[start : start + _IDS_A_REQUEST]
