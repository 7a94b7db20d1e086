"""Text in, text without secrets out, and what was found.

One pass over a text tells that there is no secret in it, which is true of nearly every one. Only
where that finds something is it asked which kind it is, and what of it goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from conv_realtime.core.redaction.kinds import DEFAULT, Kind
from conv_realtime.core.redaction.linear import Choice, Pattern, PatternError
from conv_realtime.core.redaction.strict import STRICT

SHORTEST = 10
"""Characters below which nothing is a secret of a known form."""

_UNREADY = r"\x00|(?m:^)data:"
"""What has to go from a text before it is searched: NUL, and what is in a data URL."""

OWN = "custom"
"""The kind of what a user's own patterns find."""

_MOST = 100_000
_TOO_MANY = "the rest, too much in it"
"""Of matches of a kind in one text, above which the rest of it goes: minutes would pass."""


class Found(NamedTuple):
    """A secret that was replaced; `hash` tells it from others, in this process alone."""

    kind: str
    hash: int


class _Secret(NamedTuple):
    """Bytes `start` to `end` of a text; kinds are tried by `rank`."""

    start: int
    rank: int
    end: int
    kind: str


class Redactor:
    """Replaces secrets of `kinds`, named by the first that fits where several do.

    Attributes:
        shortest: characters below which nothing is a secret.
    """

    __slots__ = ("_anchors", "_kinds", "_patterns", "shortest")

    def __init__(self, kinds: Sequence[Kind], *, shortest: int = SHORTEST) -> None:
        self.shortest = shortest
        self._kinds = kinds
        self._anchors = Choice([*(kind.anchor for kind in kinds), _UNREADY])
        self._patterns: dict[int, Pattern] = {}

    def notices(self, data: bytes) -> bool:
        """Return whether lines of text, in UTF-8, may hold a secret, a NUL or a data URL."""
        return bool(self._anchors.among(data))

    def suspects(self, data: bytes) -> bool:
        """Return whether a text, in UTF-8 and without NUL, may hold a secret."""
        return bool(self._ranks(data))

    def redact(self, text: str) -> tuple[str, list[Found]]:
        """Return `text` with each secret replaced by `[redacted:kind]`, and the secrets.

        `text` can be encoded as UTF-8.
        """
        data = text.encode()
        ranks = self._ranks(data)
        if not ranks:
            return text, []
        parts: list[bytes] = []
        found: list[Found] = []
        done = 0
        for kind, start, end in self._places(data, ranks):
            parts += (data[done:start], f"[redacted:{kind}]".encode())
            found.append(Found(kind, hash(data[start:end])))
            done = end
        parts.append(data[done:])
        return b"".join(parts).decode(errors="replace"), found  # a pattern may split a letter

    def _ranks(self, data: bytes) -> Sequence[int]:
        """Return which kinds a text may hold secrets of."""
        if len(data) < self.shortest:
            return ()
        return [rank for rank in self._anchors.among(data) if rank < len(self._kinds)]

    def _places(self, data: bytes, ranks: Sequence[int]) -> Iterator[tuple[str, int, int]]:
        """Yield the kind and the place of each secret in order, those that overlap as one."""
        secrets = sorted(secret for rank in ranks for secret in self._of_kind(rank, data))
        at = 0
        while at < len(secrets):
            start, rank, end, kind = secrets[at]
            at += 1
            while at < len(secrets) and secrets[at].start < end:
                end = max(end, secrets[at].end)
                rank, kind = min((rank, kind), (secrets[at].rank, secrets[at].kind))
                at += 1
            yield kind, start, end

    def _of_kind(self, rank: int, data: bytes) -> Iterator[_Secret]:
        kind, pattern = self._kinds[rank], self._pattern(rank)
        for count, spans in enumerate(pattern.matches(data)):
            if count >= _MOST:
                yield _Secret(spans[0][0], rank, len(data), _TOO_MANY)
                return
            texts = (
                data[start:end].decode(errors="replace") for start, end in spans[1:] if start >= 0
            )
            if kind.doubtful is not None and kind.doubtful(list(texts)):
                continue
            for group in pattern.replaced:
                start, end = spans[group]
                if start < end:
                    yield _Secret(start, rank, end, kind.name)

    def _pattern(self, rank: int) -> Pattern:
        """Return what finds a kind; most are never wanted."""
        if rank not in self._patterns:
            self._patterns[rank] = Pattern(self._kinds[rank].pattern)
        return self._patterns[rank]


Level = Literal["off", "default", "strict"]


@lru_cache(maxsize=8)
def redactor(level: Level = "default", patterns: tuple[str, ...] = ()) -> Redactor:
    """Return what replaces secrets of a level and of a user's own patterns.

    Raises:
        PatternError: one of the patterns cannot be used; it says which, and not how it reads.
    """
    own = [own_kind(pattern, number) for number, pattern in enumerate(patterns, 1)]
    known = {"off": (), "default": DEFAULT, "strict": (*DEFAULT, *STRICT)}[level]
    return Redactor((*own, *known), shortest=1 if own else SHORTEST)


def own_kind(pattern: str, number: int = 1) -> Kind:
    """Return the kind that a user's pattern is.

    Raises:
        PatternError: it cannot be used.
    """
    try:
        compiled = Pattern(pattern)
    except PatternError as error:
        raise PatternError(f"pattern {number}: {error}") from None
    if any(compiled.matches(b"")):
        raise PatternError(f"pattern {number}: matches nothing at all")
    return Kind(OWN, pattern, pattern)
