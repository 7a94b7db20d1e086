"""`/rest/v1`: the part of Supabase's Data API that this library and its frontends use.

Each request is one statement in one transaction under the role and the claims of its token, so that
row level security decides as it does on the hosted platform. What PostgREST can and this cannot do
is refused by name with `PGRST127`; the README of `conv_realtime/local` lists it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Self

import orjson
import psycopg
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from conv_realtime.local.keys import TokenError, Verify
from conv_realtime.local.rest import sql as rest_sql
from conv_realtime.local.rest.answer import page_answer, put_answer, refusal, write_answer
from conv_realtime.local.rest.asked import PREFIX, Asked
from conv_realtime.local.rest.body import Payload, read_body
from conv_realtime.local.rest.caller import identify
from conv_realtime.local.rest.database import Database
from conv_realtime.local.rest.errors import ApiError, from_database, from_token, unsupported
from conv_realtime.local.rest.prefer import parse_range
from conv_realtime.local.rest.query import MAX_ROWS, Condition, Query, is_clause

_log = logging.getLogger("conv_realtime.local.rest")

_METHODS = ["OPTIONS", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


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
                if error.code not in ("PGRST200", "PGRST202", "PGRST204", "PGRST205"):
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
        asked.catalog,
        asked.table,
        query,
        asked.media,
        counted=asked.prefer.count is not None,
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
    payload = Payload(asked.body, asked.content_type, query.columns)
    resolution = asked.prefer.resolution if query.on_conflict or table.key else None
    statement = rest_sql.insert(
        asked.catalog,
        table,
        payload.columns,
        payload.text,
        query,
        defaults=asked.prefer.missing == "default",
        resolution=resolution,
        returning=asked.prefer.returning,
        media=asked.media,
    )
    result = await asked.run(statement)
    merged = resolution == "merge-duplicates" and (result.inserted or 0) == 0
    return write_answer(asked, result, 200 if merged else 201, upsert=resolution is not None)


async def _put(asked: Asked) -> Response:
    """Inserts or replaces the one row that the address names by its primary key."""
    table, query = asked.table, asked.query()
    if query.limit is not None or query.offset:
        message = "limit/offset querystring parameters are not allowed for PUT"
        raise ApiError(400, "PGRST114", message)
    if not _names_one_row(query, table.key):
        message = "Filters must include all and only primary key columns with 'eq' operators"
        raise ApiError(405, "PGRST105", message)
    payload = Payload(asked.body, asked.content_type, query.columns)
    statement = rest_sql.insert(
        asked.catalog,
        table,
        payload.columns,
        payload.text,
        query,
        resolution="merge-duplicates",
        returning=asked.prefer.returning,
        media=asked.media,
        only=True,
    )
    return put_answer(asked, await asked.run(statement))


def _names_one_row(query: Query, key: tuple[str, ...]) -> bool:
    """Whether the filters say which row it is: `column=eq.value` for each column of the key."""
    named = [
        one.field.name
        for one in query.filters
        if isinstance(one, Condition)
        and (one.operator, one.negated, one.modifier, one.field.path) == ("eq", False, None, ())
    ]
    return bool(key) and len(named) == len(query.filters) and sorted(named) == sorted(key)


async def _update(asked: Asked) -> Response:
    query = _unlimited(asked.query())
    payload = Payload(asked.body, asked.content_type, query.columns)
    statement = rest_sql.update(
        asked.catalog,
        asked.table,
        payload.columns,
        payload.text,
        query,
        asked.prefer.returning,
        asked.media,
    )
    return write_answer(asked, await asked.run(statement), _changed_status(asked))


async def _delete(asked: Asked) -> Response:
    query = _unlimited(asked.query())
    statement = rest_sql.delete(
        asked.catalog, asked.table, query, asked.prefer.returning, asked.media
    )
    return write_answer(asked, await asked.run(statement), _changed_status(asked))


def _changed_status(asked: Asked) -> int:
    return 200 if asked.prefer.returning == "representation" else 204


def _unlimited(query: Query) -> Query:
    """Refuses a limit, which PostgREST ignores: more would be changed than somebody meant."""
    if query.limit is not None or query.offset:
        raise unsupported("limit on a change")
    return query


async def _call(asked: Asked) -> Response:
    if asked.method not in ("GET", "HEAD", "POST"):
        raise ApiError(405, "PGRST101", "Cannot use the " + asked.method + " method on RPC")
    body, names = _arguments(asked)
    function = asked.catalog.function(asked.name, names)
    query = _windowed(asked, asked.query(names if asked.method != "POST" else frozenset()))
    if not function.returns_set:
        query = query.replaced(limit=None, offset=0)
    statement = rest_sql.call(
        asked.catalog,
        function,
        body,
        names,
        query,
        asked.media,
        counted=asked.prefer.count is not None,
    )
    result = await asked.run(statement, read_only=asked.method != "POST")
    if function.returns_void:
        return Response(status_code=204)
    return page_answer(asked, query, result)


def _arguments(asked: Asked) -> tuple[str, frozenset[str]]:
    """Gives the named arguments as a JSON object, and their names."""
    if asked.method == "POST":
        payload = Payload(asked.body or b"{}", asked.content_type, one=True)
        return payload.text, frozenset(payload.columns)
    known = {
        argument.name
        for function in asked.catalog.functions.get(asked.name, ())
        for argument in function.arguments
    }
    given = {key: value for key, value in asked.pairs if key in known or not is_clause(key, value)}
    return orjson.dumps(given).decode(), frozenset(given)


_TABLE_METHODS: dict[str, Answerer] = {
    "GET": _read,
    "HEAD": _read,
    "POST": _insert,
    "PATCH": _update,
    "DELETE": _delete,
    "PUT": _put,
}
