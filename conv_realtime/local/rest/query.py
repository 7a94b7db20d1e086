"""The query string of a Data API request, read into plain values. No I/O.

Grammar (PostgREST's): `select` as in `selection.py`; a filter is `column=not.operator.value`; `and`
and `or` hold lists of filters in parentheses, nested at will; `order` is a list of
`column.asc|desc.nullsfirst|nullslast`; `limit` and `offset`. With the name of a related table and a
dot before it, each of them is about that table's rows. Names and values may stand in `"`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from conv_realtime.local.rest.errors import ApiError, not_embedded, unparsable
from conv_realtime.local.rest.selection import (
    EVERYTHING,
    MAX_NESTING,
    Field,
    Related,
    Selected,
    parse_field,
    parse_select,
)
from conv_realtime.local.rest.text import split_top, unquote

MAX_ROWS = 1000
"""A response never holds more rows of a table or a set than so many, as on the hosted platform."""

OPERATORS = {
    "eq": "=",
    "neq": "<>",
    "gt": ">",
    "gte": ">=",
    "lt": "<",
    "lte": "<=",
    "like": "like",
    "ilike": "ilike",
    "match": "~",
    "imatch": "~*",
    "cs": "@>",
    "cd": "<@",
    "ov": "&&",
    "sl": "<<",
    "sr": ">>",
    "nxr": "&<",
    "nxl": "&>",
    "adj": "-|-",
    "isdistinct": "is distinct from",
}
SEARCHES = {
    "fts": "to_tsquery",
    "plfts": "plainto_tsquery",
    "phfts": "phraseto_tsquery",
    "wfts": "websearch_to_tsquery",
}
_QUANTIFIED = ("eq", "gt", "gte", "lt", "lte", "like", "ilike", "match", "imatch")
_IS = ("null", "not_null", "true", "false", "unknown")
_RESERVED = ("select", "columns", "on_conflict")
_OPERATION = re.compile(r"([a-z]+)(?:\((\w+)\))?\.(.*)", re.DOTALL)
_ORDER = re.compile(
    r'((?:"[^"]*"|[^.()"])+)(?:\(([^()]+)\))?(?:\.(asc|desc))?(?:\.nulls(first|last))?'
)


@dataclass(frozen=True, slots=True)
class Condition:
    """`field operator value`.

    The value of `in` is a tuple, that of `is` one of its words. `modifier` is the language of a
    search, and else `any` or `all`, and the value the text of an array.
    """

    field: Field
    operator: str
    value: str | tuple[str, ...]
    negated: bool = False
    modifier: str | None = None

    @property
    def absence(self) -> bool:
        """Whether it is `is.null` of a whole column, or of a related table."""
        return self.operator == "is" and self.value == "null" and not self.field.path


@dataclass(frozen=True, slots=True)
class Junction:
    """Conditions joined by `and` or `or`."""

    kind: str
    parts: tuple[Condition | Junction, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """One key of the order; `nulls` is `first`, `last` or None; `relation` owns the column."""

    field: Field
    descending: bool = False
    nulls: str | None = None
    relation: str | None = None


@dataclass(frozen=True, slots=True)
class Embedded:
    """A related table and what is wanted of its rows."""

    asked: Related
    query: Query


@dataclass(frozen=True, slots=True)
class Query:
    """A whole query string, or the part of it that is about the rows of one related table.

    `columns` and `on_conflict` are None where they were not given.
    """

    select: tuple[Selected, ...] = (EVERYTHING,)
    filters: tuple[Condition | Junction, ...] = ()
    order: tuple[Order, ...] = ()
    limit: int | None = None
    offset: int = 0
    embeds: tuple[Embedded, ...] = ()
    columns: tuple[str, ...] | None = None
    on_conflict: tuple[str, ...] | None = None

    def replaced(self, *, limit: int | None, offset: int) -> Query:
        """Gives the query with another window."""
        return replace(self, limit=limit, offset=offset)


def parse_query(pairs: Sequence[tuple[str, str]], arguments: frozenset[str] = frozenset()) -> Query:
    """Reads decoded pairs of a query string; those named in `arguments` are skipped.

    Raises:
        ApiError: `PGRST100` for what breaks the grammar, `PGRST108` for a part about a table that
            `select` does not name, `PGRST123` for aggregates.
    """
    given = {key: value for key, value in pairs if key in _RESERVED and key not in arguments}
    root = _Level(parse_select(given.get("select", "*")))
    for key, value in pairs:
        if key not in arguments and key not in _RESERVED:
            *path, name = _split_path(key)
            negated = bool(path) and path[-1] == "not" and name in ("and", "or")
            level = root.below(path[:-1] if negated else path)
            level.take(f"not.{name}" if negated else name, value)
    columns, on_conflict = _names(given, "columns"), _names(given, "on_conflict")
    return replace(root.query(), columns=columns, on_conflict=on_conflict)


def is_clause(key: str, value: str) -> bool:
    """Says whether a pair is a part of the grammar, and no argument of a function."""
    last = _split_path(key)[-1]
    if key in _RESERVED or last in ("and", "or", "order", "limit", "offset"):
        return True
    matched = _OPERATION.fullmatch(value.removeprefix("not."))
    return matched is not None and matched[1] in (*OPERATORS, *SEARCHES, "in", "is")


def _split_path(key: str) -> list[str]:
    """Splits at the dots outside of quotes and before a JSON path: tables, then the field."""
    matched = re.match(r'(?:"[^"]*"|(?!->)[^"])*', key)
    end = matched.end() if matched else 0
    parts = re.findall(r'(?:"[^"]*"|[^."])+', key[:end])
    if not parts:
        return [key]
    return [*parts[:-1], parts[-1] + key[end:]]


class _Level:
    """What a query string says of one table while it is read."""

    def __init__(self, items: Iterable[Selected | Related]) -> None:
        items = tuple(items)
        self._select = tuple(item for item in items if isinstance(item, Selected))
        self._embeds = [(one, _Level(one.items)) for one in items if isinstance(one, Related)]
        self._filters: list[Condition | Junction] = []
        self._order: tuple[Order, ...] = ()
        self._limit: int | None = None
        self._offset = 0

    def below(self, path: Sequence[str]) -> _Level:
        """Gives the level of the related table at `path`."""
        if not path:
            return self
        name = unquote(path[0])
        for asked, level in self._embeds:
            if name in (asked.name, asked.alias):
                return level.below(path[1:])
        raise not_embedded(name)

    def take(self, name: str, value: str) -> None:
        """Reads one parameter."""
        if name == "order":
            self._order = _order(value)
        elif name == "limit":
            self._limit = _whole(value, "Limit")
        elif name == "offset":
            self._offset = _whole(value, "Offset") or 0
        elif name in ("and", "or", "not.and", "not.or"):
            self._filters.append(_junction(name, value, 0))
        else:
            self._filters.append(_condition(parse_field(name, name), value, quoted=False))

    def query(self) -> Query:
        """Gives what was read."""
        return Query(
            self._select,
            tuple(self._filters),
            self._order,
            self._limit,
            self._offset,
            tuple(Embedded(asked, level.query()) for asked, level in self._embeds),
        )


def null_filtered(filters: Iterable[Condition | Junction]) -> set[str]:
    """Gives the names of which filters ask whether they are null: some may be related tables."""
    return {one.field.name for one in _conditions(filters) if one.absence}


def _conditions(filters: Iterable[Condition | Junction]) -> Iterator[Condition]:
    for one in filters:
        if isinstance(one, Junction):
            yield from _conditions(one.parts)
        else:
            yield one


def _junction(key: str, value: str, depth: int) -> Junction:
    negated = key.startswith("not.")
    kind = key.removeprefix("not.")
    if depth > MAX_NESTING:
        raise unparsable("logic tree", f"{key}{value}", "nested too deeply")
    if not (value.startswith("(") and value.endswith(")")):
        raise unparsable("logic tree", f"{key}{value}", 'expecting "("')
    parts = tuple(_branch(part, depth + 1) for part in split_top(value[1:-1]))
    if not parts:
        raise unparsable("logic tree", f"{key}{value}", "expecting a filter")
    return Junction(kind, parts, negated)


def _branch(text: str, depth: int) -> Condition | Junction:
    text = text.strip()
    if matched := re.match(r"(not\.)?(and|or)(?=\()", text):
        return _junction(matched[0], text[matched.end() :], depth)
    matched = re.match(r'((?:"[^"]*"|[^."])+)\.', text)
    if matched is None:
        raise unparsable("logic tree", text, 'expecting "column.operator.value"')
    return _condition(parse_field(matched[1], text), text[matched.end() :], quoted=True)


def _condition(found: Field, text: str, *, quoted: bool) -> Condition:
    negated = text.startswith("not.")
    matched = _OPERATION.fullmatch(text.removeprefix("not."))
    name, modifier, value = matched.groups() if matched else ("", None, "")
    if name == "in" and modifier is None:
        return Condition(found, "in", _listed(value, text), negated)
    if name == "is" and modifier is None:
        return _is(found, value, text, negated)
    fits = modifier is None or name in SEARCHES
    if not fits and name in _QUANTIFIED:
        fits = modifier in ("any", "all")
    if not fits or (name not in OPERATORS and name not in SEARCHES):
        at = f'unexpected "{text[0]}" ' if text else "unexpected end of input "
        raise unparsable("filter", text, f'{at}expecting "not" or operator (eq, gt, ...)')
    value = unquote(value) if quoted else value
    value = value.replace("*", "%") if name in ("like", "ilike") else value
    return Condition(found, name, value, negated, modifier)


def _is(found: Field, value: str, text: str, negated: bool) -> Condition:
    word = value.lower()
    if word not in _IS:
        raise unparsable("filter", text, "expecting null, not_null, true, false or unknown")
    if word == "not_null":
        return Condition(found, "is", "null", not negated)
    return Condition(found, "is", word, negated)


def _listed(value: str, text: str) -> tuple[str, ...]:
    if not (value.startswith("(") and value.endswith(")")):
        raise unparsable("filter", text, 'expecting "("')
    return tuple(unquote(part) for part in split_top(value[1:-1]))


def _order(text: str) -> tuple[Order, ...]:
    return tuple(_order_key(part, text) for part in split_top(text))


def _order_key(part: str, whole: str) -> Order:
    matched = _ORDER.fullmatch(part.strip())
    if matched is None:
        raise unparsable("order", whole, f"unexpected {part!r}")
    outer, inner, direction, nulls = matched.groups()
    relation = None if inner is None else unquote(outer)
    found = parse_field(outer if inner is None else inner, whole)
    return Order(found, direction == "desc", nulls, relation)


def _whole(text: str, name: str) -> int | None:
    """Reads a number of rows; what is none is no limit, as with PostgREST."""
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        return None
    number = int(text)
    if number < 0:
        raise ApiError(
            416,
            "PGRST103",
            "Requested range not satisfiable",
            details=f"{name} should be greater than or equal to zero.",
        )
    return number


def _names(given: dict[str, str], name: str) -> tuple[str, ...] | None:
    if name not in given:
        return None
    names = tuple(unquote(part) for part in split_top(given[name]))
    if not names:
        reason = "unexpected end of input expecting field name (* or [a..z0..9_$])"
        raise unparsable(f"{name} parameter", given[name], reason)
    return names
