"""The query string of a Data API request, read into plain values. No I/O.

Grammar (a part of PostgREST's): `select` is a list of `alias:column->path->>leaf::cast`; a filter
is `column=not.operator.value`; `and` and `or` hold lists of filters in parentheses, nested at will;
`order` is a list of `column.asc|desc.nullsfirst|nullslast`. Names and values may stand in `"`.
What belongs to embedding, full text search or aggregates is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from conv_realtime.local.rest.errors import ApiError, unparsable, unsupported
from conv_realtime.local.rest.text import split_top, unquote

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
    "isdistinct": "is distinct from",
}
_OTHER = ("fts", "plfts", "phfts", "wfts", "sl", "sr", "nxr", "nxl", "adj")
_IS = ("null", "not_null", "true", "false", "unknown")
_SELECTED = re.compile(
    r"""(?:(?P<alias>"[^"]+"|[^:"()]+):(?!:))?(?P<field>(?:"[^"]*"|[^":])+)(?:::(?P<cast>.+))?"""
)
_RESERVED = ("select", "order", "limit", "offset", "columns", "on_conflict")


@dataclass(frozen=True, slots=True)
class Field:
    """A column and the JSON path into it: pairs of arrow (`->` or `->>`) and key or index."""

    name: str
    path: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Selected:
    """One item of `select`; `field.name` is `*` for every column."""

    field: Field
    alias: str | None = None
    cast: str | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """`field operator value`; the value of `in` is a tuple, that of `is` one of its words."""

    field: Field
    operator: str
    value: str | tuple[str, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Junction:
    """Conditions joined by `and` or `or`."""

    kind: str
    parts: tuple[Condition | Junction, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """One key of the order; `nulls` is `first`, `last` or None."""

    field: Field
    descending: bool = False
    nulls: str | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """A whole query string; `columns` and `on_conflict` are None where they were not given."""

    select: tuple[Selected, ...] = (Selected(Field("*")),)
    filters: tuple[Condition | Junction, ...] = ()
    order: tuple[Order, ...] = ()
    limit: int | None = None
    offset: int = 0
    columns: tuple[str, ...] | None = None
    on_conflict: tuple[str, ...] | None = None

    def replaced(self, *, limit: int | None, offset: int) -> Query:
        """Gives the query with another window."""
        return replace(self, limit=limit, offset=offset)


def parse_query(pairs: Sequence[tuple[str, str]], arguments: frozenset[str] = frozenset()) -> Query:
    """Reads decoded pairs of a query string; those named in `arguments` are skipped.

    Raises:
        ApiError: `PGRST100` for what breaks the grammar, `PGRST127` for what is not supported.
    """
    given = {key: value for key, value in pairs if key in _RESERVED and key not in arguments}
    others = [(key, value) for key, value in pairs if key not in given and key not in arguments]
    return Query(
        select=parse_select(given.get("select", "*")),
        filters=tuple(_filter(key, value) for key, value in others),
        order=_order(given.get("order", "")),
        limit=_whole(given, "limit"),
        offset=_whole(given, "offset") or 0,
        columns=_names(given, "columns"),
        on_conflict=_names(given, "on_conflict"),
    )


def parse_select(text: str) -> tuple[Selected, ...]:
    """Reads the `select` parameter; empty means every column."""
    return tuple(_selected(part, text) for part in split_top(text)) or (Selected(Field("*")),)


def _selected(part: str, whole: str) -> Selected:
    matched = _SELECTED.fullmatch(part)
    if "(" in re.sub(r'"[^"]*"', "", part):
        kind = (
            "aggregate function"
            if re.search(r"\b(count|sum|avg|min|max)\(\)", part)
            else ("embedding of related tables")
        )
        raise unsupported(f"{kind} in select: {part}")
    if matched is None:
        raise unparsable("select parameter", whole, f"unexpected {part!r}")
    cast = matched["cast"]
    if cast and not re.fullmatch(r"[a-zA-Z_][\w ]*(\[\])?", cast):
        raise unparsable("select parameter", whole, f"unexpected cast {cast!r}")
    alias = unquote(matched["alias"]) if matched["alias"] else None
    return Selected(parse_field(matched["field"], whole), alias, cast)


def parse_field(text: str, whole: str) -> Field:
    """Reads `column->key->>leaf`."""
    name, *steps = re.split(r"(->>|->)", text.strip())
    keys = [unquote(step) for step in steps[1::2]]
    column = unquote(name)
    if not column or not all(keys):
        raise unparsable("field", whole, "expecting field name (* or [a..z0..9_$])")
    return Field(column, tuple(zip(steps[::2], keys, strict=True)))


def _filter(key: str, value: str) -> Condition | Junction:
    if key in ("and", "or", "not.and", "not.or"):
        return _junction(key, value)
    bare = re.sub(r'"[^"]*"', "", key.split("->")[0])
    if "." in bare:
        raise unsupported(f"filter on an embedded table: {key}")
    return _condition(parse_field(key, key), value, quoted=False)


def _junction(key: str, value: str) -> Junction:
    negated = key.startswith("not.")
    kind = key.removeprefix("not.")
    if not (value.startswith("(") and value.endswith(")")):
        raise unparsable("logic tree", f"{key}{value}", 'expecting "("')
    parts = tuple(_branch(part) for part in split_top(value[1:-1]))
    if not parts:
        raise unparsable("logic tree", f"{key}{value}", "expecting a filter")
    return Junction(kind, parts, negated)


def _branch(text: str) -> Condition | Junction:
    text = text.strip()
    if matched := re.match(r"(not\.)?(and|or)(?=\()", text):
        return _junction(matched[0], text[matched.end() :])
    matched = re.match(r'((?:"[^"]*"|[^."])+)\.', text)
    if matched is None:
        raise unparsable("logic tree", text, 'expecting "column.operator.value"')
    return _condition(parse_field(matched[1], text), text[matched.end() :], quoted=True)


def _condition(found: Field, text: str, *, quoted: bool) -> Condition:
    negated = text.startswith("not.")
    name, dot, value = text.removeprefix("not.").partition(".")
    if not dot or not re.fullmatch(r"[a-z]+(\(\w+\))?", name):
        raise unparsable("filter", text, 'expecting "not" or operator (eq, gt, ...)')
    if name in _OTHER or "(" in name:
        raise unsupported(f"filter operator {name}")
    if name == "in":
        return Condition(found, "in", _listed(value, text), negated)
    if name == "is":
        return _is(found, value, text, negated)
    if name not in OPERATORS:
        raise unparsable("filter", text, 'expecting "not" or operator (eq, gt, ...)')
    value = unquote(value) if quoted else value
    return Condition(
        found, name, value.replace("*", "%") if name in ("like", "ilike") else value, negated
    )


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
    if "(" in part:
        raise unsupported(f"order by an embedded table: {part}")
    matched = re.fullmatch(
        r'((?:"[^"]*"|[^."])+)(?:\.(asc|desc))?(?:\.nulls(first|last))?', part.strip()
    )
    if matched is None:
        raise unparsable("order", whole, f"unexpected {part!r}")
    return Order(parse_field(matched[1], whole), matched[2] == "desc", matched[3])


def _whole(given: dict[str, str], name: str) -> int | None:
    if name not in given:
        return None
    try:
        number = int(given[name])
    except ValueError:
        raise unparsable(f"{name} parameter", given[name], "expecting an integer") from None
    if number < 0:
        raise ApiError(
            416,
            "PGRST103",
            "Requested range not satisfiable",
            details=f"{name.capitalize()} should be greater than or equal to zero.",
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
