"""Coming back after trouble, as data: how long to wait before each attempt."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

_LONGEST_RETRY_AFTER = 900.0
_OVERLOAD = frozenset({1008, 1013})
_OVERLOADED = 20
_STEADY, _STEADY_AFTER_OVERLOAD = 10.0, 60.0


def pauses_between_attempts(first: float = 0.5, longest: float = 10.0) -> Iterator[float]:
    """Yield seconds to wait: doubling, up to a bound, with jitter so that crowds spread."""
    pause = first
    while True:
        yield pause * random.uniform(0.75, 1.25)
        pause = min(pause * 2, longest)


def pause_before(attempt: int, first: float, longest: float) -> float:
    """Return seconds to wait: doubling with each attempt from 0, spread so that crowds do."""
    return min(first * 2.0 ** min(attempt, 30), longest) * random.uniform(0.5, 1.0)


class Returns:
    """How long a client of `/ws` waits before it comes back, by how its connections ended.

    `viewer/pauses.js` has the same rules, and a test that compares the two:

    * Pauses double with each connection that came to nothing; one that was in use for ten seconds
      was no failure.
    * Who was sent away for being too much (1008, 1013) waits twenty times as long, and has to stay
      for a minute before that is forgotten: to be too slow takes some seconds each time.
    * A server that says when it is back is asked then: not before, and not by all at once.
    """

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._attempt = 0

    def after(self, code: int | None, lived: float, asked: float | None = None) -> float:
        """Return seconds to wait after a connection that ended.

        Args:
            code: with which it was closed; None if it was not.
            lived: seconds that it was in use; 0 if it never was.
            asked: seconds that the server asked for.
        """
        overloaded = code in _OVERLOAD
        if lived > (_STEADY_AFTER_OVERLOAD if overloaded else _STEADY):
            self._attempt = 0
        first = self._first * _OVERLOADED if overloaded else self._first
        pause = pause_before(self._attempt, first, self._longest)
        self._attempt += 1
        return pause if asked is None else min(asked, self._longest) * random.uniform(1.0, 1.5)


def asked_to_wait(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds that an answer asks to wait (`Retry-After`), None if it does not say.

    At most 15 minutes. A date counts by the server's own clock where it tells it: ours may be
    wrong. Names of `headers` are in lower case, or do not depend on it.
    """
    value = headers.get("retry-after", "").strip()
    if value.isdecimal():
        return min(float(value), _LONGEST_RETRY_AFTER)
    try:
        at = parsedate_to_datetime(value)
        told = headers.get("date")
        then = parsedate_to_datetime(told) if told else now
        return min(max((at - then).total_seconds(), 0.0), _LONGEST_RETRY_AFTER)
    except (ValueError, TypeError, OverflowError):
        return None
