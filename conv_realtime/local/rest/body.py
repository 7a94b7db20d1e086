"""Request bodies: JSON text for PostgreSQL to read, and the keys that its rows have."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.requests import Request

from conv_realtime.local.rest.errors import ApiError, unsupported

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


def text_of(body: bytes, content_type: str | None) -> str:
    """Gives the body as text.

    Raises:
        ApiError: another content type than JSON, or bytes that are no text.
    """
    kind = (content_type or "application/json").split(";")[0].strip().lower()
    if kind == "text/csv" or kind == "application/x-www-form-urlencoded":
        raise unsupported(f"bodies of type {kind}")
    if kind != "application/json":
        raise ApiError(400, "PGRST102", f"Content-Type not acceptable: {kind}")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        at = f"0x{body[error.start]:02x}"
        raise _encoding(at) from None
    if "\0" in text:
        raise _encoding("0x00")
    return text


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


def _encoding(at: str) -> ApiError:
    return ApiError(400, "22021", f'invalid byte sequence for encoding "UTF8": {at}')
