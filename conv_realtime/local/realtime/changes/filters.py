"""The filters of a binding, as clients write them: ``status=eq.open,amount=not.lt.10``. No I/O.

Filters are joined by commas and all must hold. A value may stand in double quotes, in which a
backslash escapes; only there, and within parentheses, a comma is part of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from conv_realtime.local.realtime.changes import elixir

COMPARISONS = {
    "eq": "=",
    "neq": "!=",
    "lt": "<",
    "lte": "<=",
    "gt": ">",
    "gte": ">=",
    "in": "= any",
    "like": "like",
    "ilike": "ilike",
    "match": "~",
    "imatch": "~*",
}
PATTERNS = frozenset({"like", "ilike", "match", "imatch"})
KEYWORDS = frozenset({"null", "true", "false", "unknown"})
MAX_IN_VALUES = 100

_OPERATORS = frozenset(COMPARISONS) | {"is", "isdistinct"}
_NEGATION = "not."


class FilterRefused(Exception):
    """A filter that cannot be read; its text is what a real server says of it."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition on a column of the changed row.

    Attributes:
        column: its name.
        operator: a key of `COMPARISONS`, or ``is`` or ``isdistinct``.
        value: text that PostgreSQL reads as the column's type; of ``in``, an array of it.
        negated: whether the condition must not hold.
    """

    column: str
    operator: str
    value: str
    negated: bool

    @property
    def is_pattern(self) -> bool:
        """Whether its owner decides how long it takes to evaluate."""
        return self.operator in PATTERNS

    def __str__(self) -> str:
        texts = (self.column, self.operator, self.value)
        shown = ", ".join(elixir.string(text) for text in texts)
        return f"{{{shown}, {'true' if self.negated else 'false'}}}"


def parse_filters(text: str) -> tuple[Filter, ...]:
    """Reads the filters of a binding; blank means none.

    Raises:
        FilterRefused: one of them cannot be read.
    """
    text = text.strip()
    return tuple(_parse(part) for part in _split(text)) if text else ()


def _split(text: str) -> list[str]:
    """Splits at the commas that are outside of parentheses and quotes."""
    parts: list[str] = []
    start = depth = 0
    quoted = escaped = False
    before = ""
    for at, char in enumerate(text):
        if quoted:
            quoted = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            quoted = before in (".", "(", ",")
        elif char in "()":
            depth = depth + 1 if char == "(" else max(0, depth - 1)
        elif char == "," and not depth:
            parts.append(text[start:at])
            start = at + 1
            before = ""
            continue
        before = char
    return [*parts, text[start:]]


def _parse(part: str) -> Filter:
    part = part.strip()
    if not part:
        raise FilterRefused("filter must not contain empty segments (check for extra commas)")
    column, equals, condition = part.partition("=")
    if not equals:
        raise FilterRefused(elixir.strings([column]))
    negated = condition.startswith(_NEGATION)
    operator, dot, value = condition.removeprefix(_NEGATION).partition(".")
    if not dot:
        raise FilterRefused(elixir.strings([operator]))
    if operator not in _OPERATORS:
        raise FilterRefused(elixir.strings([operator, value]))
    return Filter(column, operator, _value(operator, value), negated)


def _value(operator: str, value: str) -> str:
    if operator != "in":
        return _unquoted(value)
    if len(value) < 2 or (value[0], value[-1]) != ("(", ")"):
        raise FilterRefused("`in` filter value must be wrapped by parentheses")
    return "{" + value[1:-1] + "}"


def _unquoted(value: str) -> str:
    """Takes a value out of its quotes; what is not wholly quoted stays as it is."""
    if not value.startswith('"'):
        return value
    taken = ""
    escaped = False
    for at, char in enumerate(value[1:], start=1):
        if escaped or char not in '\\"':
            taken += char
            escaped = False
        elif char == "\\":
            escaped = True
        else:
            return taken if at == len(value) - 1 else value
    return value
