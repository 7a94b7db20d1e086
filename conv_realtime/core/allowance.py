"""How much a client may say: a bucket that fills with time and empties with each frame."""

from __future__ import annotations


class Allowance:
    """Lets `burst` frames pass at once, and `rate` a second in the long run.

    Time is a parameter, in seconds of any clock that only goes forward.
    """

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._at = now

    def spend(self, now: float) -> bool:
        """Take one frame's worth; False if none is left."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
