"""Coming back after trouble, as data: how long to wait before each attempt."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

_LONGEST_RETRY_AFTER = 900.0


def pauses_between_attempts(first: float = 0.5, longest: float = 10.0) -> Iterator[float]:
    """Yield seconds to wait: doubling, up to a bound, with jitter so that crowds spread."""
    pause = first
    while True:
        yield pause * random.uniform(0.75, 1.25)
        pause = min(pause * 2, longest)


def asked_to_wait(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds that an answer asks to wait (`Retry-After`), None if it does not say.

    At most 15 minutes. A date counts by the server's own clock where it tells it: ours may be
    wrong. Names of `headers` are in lower case, or do not depend on it.
    """
    value = headers.get("retry-after", "").strip()
    if value.isdigit():
        return min(float(value), _LONGEST_RETRY_AFTER)
    try:
        at = parsedate_to_datetime(value)
        told = headers.get("date")
        then = parsedate_to_datetime(told) if told else now
        return min(max((at - then).total_seconds(), 0.0), _LONGEST_RETRY_AFTER)
    except (ValueError, TypeError):
        return None
