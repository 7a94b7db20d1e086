"""Fields of records that nobody promised: a missing or odd one reads as absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

_FIRST_YEAR, _LAST_YEAR = 2, 9998  # the database refuses times at the edges of the calendar
_MAX_COUNT = 10**12  # nobody's response has more tokens; it keeps sums within a bigint


def text(value: Any) -> str | None:
    """Return a non-empty string, or None."""
    return value if value and isinstance(value, str) else None


def mapping(value: Any) -> Mapping[str, Any]:
    """Return an object, or an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> Sequence[Any]:
    """Return a list, or an empty one."""
    return value if isinstance(value, list) else ()


def count(value: Any) -> int | None:
    """Return a number of tokens, None where it cannot be one."""
    return value if type(value) is int and 0 <= value <= _MAX_COUNT else None  # True is none


def amount(value: Any) -> float | None:
    """Return an amount of money, None where it cannot be one or there is none."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _MAX_COUNT:
        return float(value)
    return None


def time(stated: Any) -> datetime | None:
    """Return a time in UTC, stated as RFC 3339 or in (milli)seconds, None where it is neither."""
    try:
        if isinstance(stated, str):
            moment = datetime.fromisoformat(stated.upper())  # RFC 3339 allows "z"
        elif isinstance(stated, datetime):
            moment = stated
        elif isinstance(stated, int | float) and not isinstance(stated, bool):
            moment = datetime.fromtimestamp(stated / 1000 if stated > 1e11 else stated, UTC)
        else:
            return None
        if moment.tzinfo is not UTC:
            moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment if _FIRST_YEAR <= moment.year <= _LAST_YEAR else None
