"""Coming back after trouble, as data: how long to wait before each attempt."""

from __future__ import annotations

import random
from collections.abc import Iterator


def pauses_between_attempts(first: float = 0.5, longest: float = 10.0) -> Iterator[float]:
    """Yield seconds to wait: doubling, up to a bound, with jitter so that crowds spread."""
    pause = first
    while True:
        yield pause * random.uniform(0.75, 1.25)
        pause = min(pause * 2, longest)
