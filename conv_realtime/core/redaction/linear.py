"""RE2 as it is used here: on UTF-8, without a word on stderr, typed.

The standard library's `re` tries one way through a pattern after the other, so a hostile text
can stall it; RE2 follows all of them at once, and its time grows with the text alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import re2

Span = tuple[int, int]

_MEMORY = 64 * 2**20  # bytes of states kept; some hundred kB are used for ordinary text


class PatternError(ValueError):
    """A pattern that cannot be searched for; the message is RE2's, without the pattern."""


class Pattern:
    """A compiled expression over UTF-8.

    Attributes:
        replaced: which groups have no name, 0 (all of it) where there is no group at all.
        groups: all groups but the whole.
    """

    __slots__ = ("_compiled", "groups", "replaced")

    def __init__(self, source: str) -> None:
        try:
            self._compiled: Any = re2.compile(source.encode(), _options())
        except re2.error as error:
            raise PatternError(_said(error)) from None
        named = set(self._compiled.groupindex.values())
        self.groups = range(1, self._compiled.groups + 1)
        self.replaced: Sequence[int] = [n for n in self.groups if n not in named] or [0]

    def matches(self, text: bytes) -> Iterator[list[Span]]:
        """Yield each match: where all of it lies, then each group, (-1, -1) of those unused."""
        for found in self._compiled.finditer(text):
            yield [found.span(n) for n in (0, *self.groups)]


class Choice:
    """Tells which of several expressions are found in a text, in one pass.

    Raises:
        PatternError: together they are too large.
    """

    __slots__ = ("_set",)

    def __init__(self, sources: Sequence[str]) -> None:
        self._set: Any = re2.Set.SearchSet(_options())
        try:
            for source in sources:
                self._set.Add(source.encode())
            self._set.Compile()  # which also tries whether there is room to search
        except re2.error:  # it quotes the pattern
            raise PatternError("the patterns are too large to be searched for") from None

    def among(self, text: bytes) -> Sequence[int]:
        """Return the places of those that are."""
        return self._set.Match(text) or ()


def _options() -> Any:
    options = re2.Options()
    options.log_errors = False  # it would write the pattern to stderr
    options.max_mem = _MEMORY
    return options


def _said(error: Exception) -> str:
    said = error.args[0] if error.args else "is no regular expression"
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    return text.partition(": ")[0]  # what follows quotes the pattern
