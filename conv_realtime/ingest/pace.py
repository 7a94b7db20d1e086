"""How often: attempts after a failure, and rows that Realtime carries one by one."""

from __future__ import annotations

from collections.abc import Iterator

from conv_realtime.core.pauses import pauses_between_attempts

FIRST_DELAY = 0.1
LONGEST_DELAY = 10.0
FIRST_ANSWER = 30.0
"""For how many seconds what is meant to end waits for a store that has never answered."""


def waits() -> Iterator[float]:
    """Yield the seconds to wait before each further attempt."""
    return pauses_between_attempts(FIRST_DELAY, LONGEST_DELAY)


def long_waits() -> Iterator[float]:
    """Yield the seconds to wait where somebody has to help first."""
    return pauses_between_attempts(LONGEST_DELAY, LONGEST_DELAY)


class Pace:
    """Realtime units that may be spent: `rate` a second, saved up for a minute.

    Supabase averages over a minute, and drops what is above in silence.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._saved = self._most = rate * 60
        self._at: float | None = None

    def spend(self, units: int, now: float) -> bool:
        """Spend `units` at a time in seconds; return whether there were as many."""
        if self._at is not None:
            self._saved = min(self._most, self._saved + (now - self._at) * self._rate)
        self._at = now
        if units > self._saved:
            return False
        self._saved -= units
        return True
