"""What a request may fail with, in the shape and with the statuses that PostgREST uses.

Body: `{"code", "details", "hint", "message"}`. `code` is PostgREST's own (`PGRST…`) or PostgreSQL's
SQLSTATE. Statuses by SQLSTATE were read off a real PostgREST 14.
"""

from __future__ import annotations

from typing import Any

import psycopg

from conv_realtime.local.keys import TokenError


class ApiError(Exception):
    """A refused request: `status` and the four fields of the body."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: object = None,
        hint: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        self.hint = hint
        self.headers = headers or {}
        super().__init__(f"{code}: {message}")

    def body(self) -> dict[str, Any]:
        """Gives the JSON body, its keys in PostgREST's order."""
        return {
            "code": self.code,
            "details": self.details,
            "hint": self.hint,
            "message": self.message,
        }


def unparsable(parameter: str, text: str, reason: str, offset: int = 0) -> ApiError:
    """A query parameter that breaks the grammar, at `offset` of its text."""
    shown = text if len(text) <= 200 else text[:200] + "…"
    message = f'"failed to parse {parameter} ({shown})" (line 1, column {offset + 1})'
    return ApiError(400, "PGRST100", message, details=reason)


def bad_encoding(at: str) -> ApiError:
    """Bytes that are no text; `at` is the first of them."""
    return ApiError(400, "22021", f'invalid byte sequence for encoding "UTF8": {at}')


def check_text(text: str) -> None:
    """Refuses a NUL, which psycopg would not even send.

    Raises:
        ApiError: `22021`, there is one.
    """
    if "\0" in text:
        raise bad_encoding("0x00")


def not_embedded(name: str) -> ApiError:
    """A filter, an order or a limit for a related table that `select` does not name."""
    return ApiError(
        400,
        "PGRST108",
        f"'{name}' is not an embedded resource in this request",
        hint=f"Verify that '{name}' is included in the 'select' query parameter.",
    )


def unsupported(what: str) -> ApiError:
    """Something that PostgREST can and this server cannot."""
    return ApiError(
        400, "PGRST127", "Feature not implemented", details=f"The local Supabase has no {what}"
    )


def unavailable(code: str = "PGRST002", message: str | None = None) -> ApiError:
    """The database cannot be reached just now; the same request may succeed soon."""
    message = message or "Could not query the database for the schema cache. Retrying."
    return ApiError(503, code, message, headers={"Retry-After": "0"})


def from_token(error: TokenError) -> ApiError:
    """A JWT that is not accepted."""
    challenge = f'Bearer error="invalid_token", error_description="{error.message}"'
    return ApiError(
        401,
        error.code,
        error.message,
        details=error.details,
        headers={"WWW-Authenticate": challenge},
    )


def from_database(error: psycopg.Error, *, anonymous: bool) -> ApiError:
    """What PostgreSQL refused, or a connection that broke (then the code is 57P01 or PGRST001)."""
    code = error.sqlstate
    if code is None:
        return unavailable("PGRST001", "Database client error. Retrying the connection.")
    told = error.diag
    message = told.message_primary or str(error)
    status = _status(code, message, anonymous=anonymous)
    headers = {}
    if status == 503:
        headers["Retry-After"] = "0"
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return ApiError(
        status,
        code,
        message,
        details=told.message_detail,
        hint=told.message_hint,
        headers=headers,
    )


_BY_CODE = {
    "21000": 500,
    "23503": 409,
    "23505": 409,
    "25006": 405,
    "42883": 404,
    "42P01": 404,
    "42P17": 500,
    "53400": 500,
    "57P01": 503,
    "57P02": 503,
    "57P03": 503,
    "P0001": 400,
}

_BY_CLASS = {
    "08": 503,
    "09": 500,
    "0L": 403,
    "0P": 403,
    "25": 500,
    "28": 403,
    "2D": 500,
    "38": 500,
    "39": 500,
    "3B": 500,
    "40": 500,
    "53": 503,
    "54": 500,
    "55": 500,
    "57": 500,
    "58": 500,
    "F0": 500,
    "HV": 500,
    "P0": 500,
    "XX": 500,
}


def _status(code: str, message: str, *, anonymous: bool) -> int:
    if code == "42501":
        return 401 if anonymous else 403
    if code == "22023" and message.startswith("role ") and message.endswith("does not exist"):
        return 401
    if code.startswith("PT") and code[2:].isdigit():  # raised by a function to choose the status
        return int(code[2:])
    return _BY_CODE.get(code) or _BY_CLASS.get(code[:2], 400)
