"""Responses of the Data API: statuses, headers and bodies as PostgREST gives them."""

from __future__ import annotations

from urllib.parse import quote

import orjson
from starlette.responses import Response

from conv_realtime.local.rest.asked import Asked
from conv_realtime.local.rest.database import Result
from conv_realtime.local.rest.errors import ApiError
from conv_realtime.local.rest.prefer import JSON, applied
from conv_realtime.local.rest.query import Query

_CHARSET = "; charset=utf-8"


def refusal(error: ApiError) -> Response:
    """Gives an error as a response."""
    headers = {"Proxy-Status": f"PostgREST; error={error.code}", **error.headers}
    return Response(orjson.dumps(error.body()), error.status, headers, JSON + _CHARSET)


def page_answer(asked: Asked, query: Query, result: Result) -> Response:
    """Answers a reading: 200, 206 where more rows match than are shown, 416 past the end."""
    total, first = result.total, query.offset
    partial = total is not None and result.page < total
    shown = f"{first}-{first + result.page - 1}" if result.page else "*"
    headers = {"Content-Range": f"{shown}/{'*' if total is None else total}"}
    if asked.method in ("GET", "HEAD"):
        headers["Content-Location"] = _location(asked)
    _tell(headers, asked, "count", "handling", "timezone")
    if total is not None and first > total:
        body = orjson.dumps(_past_the_end(first, total).body()).decode()
        return _response(asked, result._replace(body=body), 416, headers)
    return _response(asked, result, 206 if partial else 200, headers)


def _past_the_end(first: int, total: int) -> ApiError:
    return ApiError(
        416,
        "PGRST103",
        "Requested range not satisfiable",
        details=f"An offset of {first} was requested, but there are only {total} rows.",
    )


def write_answer(asked: Asked, result: Result, status: int, *, upsert: bool = False) -> Response:
    """Answers a change: with the rows if the client wanted them, else with headers alone."""
    if asked.method == "PATCH" and result.page:
        shown = f"0-{result.page - 1}"
    else:
        shown = "*"
    total = str(result.page) if asked.prefer.count else "*"
    headers = {"Content-Range": f"{shown}/{total}"}
    if result.location and asked.method == "POST":
        key = orjson.loads(result.location)
        pairs = "&".join(f"{name}=eq.{quote(str(value), safe='')}" for name, value in key.items())
        headers["Location"] = f"/{asked.name}?{pairs}"
    names = ["missing", "return", "count", "handling", "timezone"]
    if asked.method in ("PATCH", "DELETE"):
        names.append("max-affected")
    _tell(headers, asked, *names, *(["resolution"] if upsert else []))
    if asked.prefer.returning != "representation":
        return Response(status_code=status, headers=headers)
    return _response(asked, result, status, headers)


def put_answer(asked: Asked, result: Result) -> Response:
    """Answers a `PUT`: 201 where its row is new."""
    headers: dict[str, str] = {}
    _tell(headers, asked, "return", "count", "handling", "timezone")
    if asked.prefer.returning != "representation":
        return Response(status_code=204, headers=headers)
    return _response(asked, result, 201 if result.inserted else 200, headers)


def _response(asked: Asked, result: Result, status: int, headers: dict[str, str]) -> Response:
    if asked.profile:
        headers["Content-Profile"] = asked.profile
    body = (result.body if result.body is not None else "null").encode()
    kind = asked.media.kind + _CHARSET
    return Response(b"" if asked.method == "HEAD" else body, status, headers, kind)


def _tell(headers: dict[str, str], asked: Asked, *names: str) -> None:
    if told := applied(asked.prefer, *names):
        headers["Preference-Applied"] = told


def _location(asked: Asked) -> str:
    merged: dict[str, list[str]] = {}
    for key, value in asked.pairs:
        merged.setdefault(key, []).append(quote(value, safe=""))
    pairs = "&".join(f"{quote(key, safe='')}={','.join(merged[key])}" for key in sorted(merged))
    return asked.path + (f"?{pairs}" if pairs else "")
