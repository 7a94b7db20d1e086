"""Where conversations lie on a line: those of a stretch are found without looking at all others."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from operator import itemgetter

_place = itemgetter(0)


class Places:
    """Conversations by a place of theirs, in the order of the places.

    A place is either behind all that are there, or negative and behind all that are negative.
    """

    __slots__ = ("_list", "_negative")

    def __init__(self) -> None:
        self._list: list[tuple[int, str | None]] = []
        self._negative = 0

    def __len__(self) -> int:
        """Return how many places there are."""
        return len(self._list)

    def put(self, place: int, thread: str | None) -> None:
        """Add a conversation; where it lay before it may be found as well."""
        if place < 0:
            self._list.insert(self._negative, (place, thread))
            self._negative += 1
        else:
            self._list.append((place, thread))

    def between(self, start: int, end: int) -> Iterator[tuple[int, str | None]]:
        """Yield the conversations from `start` on to before `end`, with their places."""
        at = bisect_left(self._list, start, key=_place)
        while at < len(self._list) and self._list[at][0] < end:
            yield self._list[at]
            at += 1

    def keep(self, wanted: Callable[[tuple[int, str | None]], bool]) -> None:
        """Forget all others."""
        self._list = [one for one in self._list if wanted(one)]
        self._negative = sum(place < 0 for place, _ in self._list)
