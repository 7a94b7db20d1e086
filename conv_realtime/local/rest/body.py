"""Request bodies: JSON text for PostgreSQL to read, and the keys that its rows have."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.requests import Request

from conv_realtime.local.rest.errors import ApiError, bad_encoding, check_text

MAX_BODY_BYTES = 128 * 2**20
"""A longer body is refused while it comes in; the longest row that is taken fits twice."""


async def read_body(request: Request) -> bytes:
    """Gives the whole body.

    Raises:
        ApiError: 413, it is longer than `MAX_BODY_BYTES`.
    """
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise ApiError(413, "PGRST102", f"The body is longer than {MAX_BODY_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


class Payload:
    """A body as JSON text, and the columns that it writes.

    CSV and forms become JSON first. `columns` that the client names are taken as they are, and
    what the body holds is then PostgreSQL's to say; without them, all objects must have the same
    keys. With `one` the body must be an object.

    Raises:
        ApiError: `PGRST102`, another content type, no JSON, or objects with different keys.
    """

    def __init__(
        self,
        body: bytes,
        content_type: str | None,
        columns: Sequence[str] | None = None,
        *,
        one: bool = False,
    ) -> None:
        kind = (content_type or "application/json").split(";")[0].strip().lower()
        if kind == "text/csv":
            body = _from_csv(_text(body))
        elif kind == "application/x-www-form-urlencoded":
            body = orjson.dumps(dict(parse_qsl(_text(body), keep_blank_values=True)))
        elif kind != "application/json":
            raise ApiError(400, "PGRST102", f"Content-Type not acceptable: {kind}")
        self.columns = tuple(columns) if columns else columns_of(body, one=one)
        self.text = _text(body)


def _text(body: bytes) -> str:
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise bad_encoding(f"0x{body[error.start]:02x}") from None
    check_text(text)
    return text


def _from_csv(text: str) -> bytes:
    """The first line names the columns; the word NULL is null."""
    try:
        names, *rows = csv.reader(io.StringIO(text), strict=True)
    except (csv.Error, ValueError):
        raise _invalid() from None
    rows = [row for row in rows if row]
    if any(len(row) != len(names) for row in rows):
        raise ApiError(400, "PGRST102", "All lines must have same number of fields")
    values = ([None if value == "NULL" else value for value in row] for row in rows)
    return orjson.dumps([dict(zip(names, row, strict=True)) for row in values])


def columns_of(body: bytes, *, one: bool = False) -> tuple[str, ...]:
    """Gives the keys that all objects of the body share; none for an empty list or a scalar.

    Raises:
        ApiError: `PGRST102`, no JSON, or objects with different keys; with `one`, no object.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise _invalid() from None
    if isinstance(value, dict):
        return tuple(value)
    if one:
        raise _invalid()
    if not isinstance(value, list) or not value:
        return ()
    return _shared_keys(value)


def _shared_keys(rows: list[Any]) -> tuple[str, ...]:
    first = rows[0]
    if not all(isinstance(row, dict) for row in rows):
        raise ApiError(400, "PGRST102", "All object keys must match")
    keys = first.keys()
    if any(row.keys() != keys for row in rows):
        raise ApiError(400, "PGRST102", "All object keys must match")
    return tuple(first)


def _invalid() -> ApiError:
    return ApiError(400, "PGRST102", "Empty or invalid json")
