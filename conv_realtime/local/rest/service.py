"""`/rest/v1`: the part of Supabase's Data API that this library and its frontends use.

Each request is one statement in one transaction under the role and the claims of its token, so that
row level security decides as it does on the hosted platform. What PostgREST can and this cannot do
(embedding, full text search, aggregates, CSV, PUT) is refused by name with `PGRST127`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Self

import orjson
import psycopg
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from conv_realtime.local.keys import TokenError
from conv_realtime.local.rest import sql as rest_sql
from conv_realtime.local.rest.answer import (
    page_answer,
    refusal,
    write_answer,
)
from conv_realtime.local.rest.asked import PREFIX, Asked
from conv_realtime.local.rest.body import columns_of, read_body, text_of
from conv_realtime.local.rest.caller import identify
from conv_realtime.local.rest.database import Database
from conv_realtime.local.rest.errors import ApiError, from_database, from_token, unsupported
from conv_realtime.local.rest.prefer import (
    parse_range,
)
from conv_realtime.local.rest.query import Query

_log = logging.getLogger("conv_realtime.local.rest")

MAX_ROWS = 1000
"""A response never holds more rows of a table or a set than so many, as on the hosted platform."""

_METHODS = ["OPTIONS", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]

Verify = Callable[[str], dict[str, Any]]


class DataApi:
    """The Data API as an async context manager; its `routes` work while it is entered.

    Args:
        dsn: a connection as `authenticator`.
        verify: gives the claims of a JWT or raises `TokenError`.
    """

    def __init__(self, dsn: str, verify: Verify) -> None:
        self._database = Database(dsn)
        self._verify = verify
        self.routes: list[BaseRoute] = [
            Route(PREFIX, self._root, methods=["GET", "HEAD"]),
            Route(f"{PREFIX}/", self._root, methods=["GET", "HEAD"]),
            Route(f"{PREFIX}/rpc/{{name}}", self._rpc, methods=_METHODS),
            Route(f"{PREFIX}/{{name}}", self._table, methods=_METHODS),
            Route(f"{PREFIX}/{{path:path}}", _no_such_path, methods=_METHODS),
        ]

    async def __aenter__(self) -> Self:
        """Connects to the database and reads the schema."""
        await self._database.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Closes the connections."""
        await self._database.__aexit__(*exception)

    async def _root(self, request: Request) -> Response:
        return await self._guarded(request, self._list_tables)

    async def _table(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(headers={"Allow": ",".join(_METHODS)})
        return await self._guarded(request, _TABLE_METHODS[request.method])

    async def _rpc(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(headers={"Allow": "OPTIONS,GET,HEAD,POST"})
        return await self._guarded(request, _call)

    async def _list_tables(self, asked: Asked) -> Response:
        """A small answer where PostgREST describes the schema: clients only look for a 200."""
        names = sorted(asked.catalog.tables)
        return Response(
            orjson.dumps({"swagger": "2.0", "paths": {f"/{name}": {} for name in names}}),
            media_type="application/openapi+json; charset=utf-8",
        )

    async def _guarded(self, request: Request, answer: Answerer) -> Response:
        """Answers, or refuses in PostgREST's shape; a miss in the schema is looked up afresh."""
        caller = None
        try:
            caller = identify(request, self._verify)
            asked = Asked(request, caller, self._database, await read_body(request))
            try:
                return await answer(asked)
            except ApiError as error:
                if error.code not in ("PGRST202", "PGRST204", "PGRST205"):
                    raise
            await self._database.reread()
            return await answer(asked)
        except TokenError as error:
            return refusal(from_token(error))
        except ApiError as error:
            return refusal(error)
        except psycopg.Error as error:
            anonymous = caller is None or caller.anonymous
            return refusal(from_database(error, anonymous=anonymous))
        except ClientDisconnect:  # nobody is there to read this
            return refusal(ApiError(400, "PGRST102", "The request ended early"))
        except Exception:
            _log.exception("request_failed", extra={"method": request.method})
            return refusal(ApiError(500, "PGRSTX00", "Internal server error"))


Answerer = Callable[[Asked], Awaitable[Response]]


async def _no_such_path(_: Request) -> Response:
    return refusal(ApiError(404, "PGRST125", "Invalid path specified in request URL"))


async def _read(asked: Asked) -> Response:
    query = _windowed(asked, asked.query())
    statement = rest_sql.read(
        asked.table,
        query,
        counted=asked.prefer.count is not None,
        single=asked.single,
        body=asked.method == "GET",
    )
    result = await asked.run(statement, read_only=True)
    return page_answer(asked, query, result)


def _windowed(asked: Asked, query: Query) -> Query:
    """The page that is read: the narrower of query string and `Range`, never above the maximum."""
    offset, rows = parse_range(asked.range)
    limits = [limit for limit in (query.limit, rows, MAX_ROWS) if limit is not None]
    return query.replaced(limit=min(limits), offset=max(query.offset, offset))


async def _insert(asked: Asked) -> Response:
    table, query = asked.table, asked.query()
    body = text_of(asked.body, asked.content_type)
    columns = query.columns or columns_of(asked.body)
    resolution = asked.prefer.resolution if query.on_conflict or table.key else None
    statement = rest_sql.insert(
        table,
        columns,
        body,
        query,
        defaults=asked.prefer.missing == "default",
        resolution=resolution,
        returning=asked.prefer.returning,
        single=asked.single,
    )
    result = await asked.run(statement)
    merged = resolution == "merge-duplicates" and (result.inserted or 0) == 0
    return write_answer(asked, result, 200 if merged else 201, upsert=resolution is not None)


async def _update(asked: Asked) -> Response:
    query = _unlimited(asked.query())
    body = text_of(asked.body, asked.content_type)
    columns = query.columns or columns_of(asked.body)
    statement = rest_sql.update(
        asked.table, columns, body, query, returning=asked.prefer.returning, single=asked.single
    )
    return write_answer(asked, await asked.run(statement), _changed_status(asked))


async def _delete(asked: Asked) -> Response:
    statement = rest_sql.delete(
        asked.table, _unlimited(asked.query()), asked.prefer.returning, asked.single
    )
    return write_answer(asked, await asked.run(statement), _changed_status(asked))


def _changed_status(asked: Asked) -> int:
    return 200 if asked.prefer.returning == "representation" else 204


def _unlimited(query: Query) -> Query:
    if query.limit is not None or query.offset:
        raise unsupported("limit on a change")
    return query


async def _put(_: Asked) -> Response:
    raise unsupported("PUT; use POST with Prefer: resolution=merge-duplicates")


async def _call(asked: Asked) -> Response:
    if asked.method not in ("GET", "HEAD", "POST"):
        raise ApiError(405, "PGRST101", "Cannot use the " + asked.method + " method on RPC")
    body, names = _arguments(asked)
    function = asked.catalog.function(asked.name, names)
    query = _windowed(asked, asked.query(names if asked.method != "POST" else frozenset()))
    if not function.returns_set:
        query = query.replaced(limit=None, offset=0)
    statement = rest_sql.call(
        function, body, names, query, counted=asked.prefer.count is not None, single=asked.single
    )
    result = await asked.run(statement, read_only=asked.method != "POST")
    if function.returns_void:
        return Response(status_code=204)
    return page_answer(asked, query, result)


def _arguments(asked: Asked) -> tuple[str, frozenset[str]]:
    """Gives the named arguments as a JSON object, and their names."""
    if asked.method == "POST":
        body = text_of(asked.body or b"{}", asked.content_type)
        return body, frozenset(columns_of(asked.body or b"{}", one=True))
    known = {
        argument.name
        for function in asked.catalog.functions.get(asked.name, ())
        for argument in function.arguments
    }
    given = {key: value for key, value in asked.pairs if key in known or not known}
    return orjson.dumps(given).decode(), frozenset(given)


_TABLE_METHODS: dict[str, Answerer] = {
    "GET": _read,
    "HEAD": _read,
    "POST": _insert,
    "PATCH": _update,
    "DELETE": _delete,
    "PUT": _put,
}
