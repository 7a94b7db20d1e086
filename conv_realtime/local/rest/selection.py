"""The `select` parameter: which columns, and which rows of related tables. No I/O.

An item is `alias:column->path->>leaf::cast` or, for a related table,
`alias:table!hint!inner(items)` or `...table(items)`, nested at will. Names may stand in `"`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from conv_realtime.local.rest.errors import ApiError, unparsable
from conv_realtime.local.rest.text import split_top, unquote

MAX_NESTING = 32
"""Deeper nesting is refused: each level costs stack, here and in PostgreSQL."""

MAX_RELATED = 100
"""More related tables in one request are refused: PostgreSQL plans them for minutes."""

_NAME = r'(?:"(?:[^"\\]|\\.)*"|[^":!().,]+)'
_RELATED = re.compile(
    rf"(?P<spread>\.\.\.)?(?:(?P<alias>{_NAME}):(?!:))?(?P<name>{_NAME})"
    rf"(?P<parameters>(?:!{_NAME}){{0,2}})\((?P<items>.*)\)",
    re.DOTALL,
)
_COLUMN = re.compile(
    r"""(?:(?P<alias>"[^"]+"|[^:"()]+):(?!:))?(?P<field>(?:"[^"]*"|[^":])+)(?:::(?P<cast>.+))?"""
)
_AGGREGATE = re.compile(r"\b(count|sum|avg|min|max)\(\)")


@dataclass(frozen=True, slots=True)
class Field:
    """A column and the JSON path into it: pairs of arrow (`->` or `->>`) and key or index."""

    name: str
    path: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Selected:
    """A column in `select`; `field.name` is `*` for every column."""

    field: Field
    alias: str | None = None
    cast: str | None = None

    @property
    def shown(self) -> str:
        """The name under which it is answered."""
        return self.alias or (self.field.path[-1][1] if self.field.path else self.field.name)


@dataclass(frozen=True, slots=True)
class Related:
    """A related table in `select`.

    Attributes:
        name: of the table, or of a foreign key or its column.
        alias: the name under which it is answered, if not that one.
        hint: the foreign key, column or junction that is meant where several would do.
        inner: rows without related ones are left out.
        spread: its columns are answered as the parent's.
        items: its own `select`.
    """

    name: str
    alias: str | None = None
    hint: str | None = None
    inner: bool = False
    spread: bool = False
    items: tuple[Selected | Related, ...] = ()

    @property
    def shown(self) -> str:
        """The name under which it is answered."""
        return self.alias or self.name


EVERYTHING = Selected(Field("*"))


def parse_select(text: str) -> tuple[Selected | Related, ...]:
    """Reads the `select` parameter; empty means every column.

    Raises:
        ApiError: `PGRST100` for what breaks the grammar, `PGRST123` for aggregates.
    """
    items = _items(text, text, 0, 0)
    if _related(items) > MAX_RELATED:
        reason = f"more than {MAX_RELATED} related tables"
        raise unparsable("select parameter", text, reason)
    return items or (EVERYTHING,)


def _related(items: Iterable[Selected | Related]) -> int:
    return sum(1 + _related(one.items) for one in items if isinstance(one, Related))


def _items(text: str, whole: str, start: int, depth: int) -> tuple[Selected | Related, ...]:
    """Reads the items in `text`, which begins at `start` of `whole`."""
    if depth > MAX_NESTING:
        raise unparsable("select parameter", whole, "nested too deeply", start)
    found: list[Selected | Related] = []
    for part in split_top(text):
        found.append(_item(part, whole, start, depth))
        start += len(part) + 1
    return tuple(found)


def _item(part: str, whole: str, start: int, depth: int) -> Selected | Related:
    trimmed = part.strip()
    if "(" not in re.sub(r'"[^"]*"', "", trimmed):
        return _selected(trimmed, whole, start)
    if _AGGREGATE.search(trimmed) and not trimmed.endswith("))"):
        raise ApiError(400, "PGRST123", "Use of aggregate functions is not allowed")
    matched = _RELATED.fullmatch(trimmed)
    if matched is None or (matched["spread"] and matched["alias"]):
        reason = 'expecting "...", field name (* or [a..z0..9_$]), "*" or "count()"'
        raise unparsable("select parameter", whole, f'unexpected "{part[0]}" {reason}', start)
    words = [unquote(word) for word in re.findall(rf"!({_NAME})", matched["parameters"])]
    hints = [word for word in words if word not in ("inner", "left")]
    return Related(
        unquote(matched["name"]),
        unquote(matched["alias"]) if matched["alias"] else None,
        hints[0] if hints else None,
        "inner" in words,
        bool(matched["spread"]),
        _items(matched["items"], whole, start + part.index("(") + 1, depth + 1),
    )


def _selected(part: str, whole: str, start: int) -> Selected:
    matched = _COLUMN.fullmatch(part)
    if matched is None:
        raise unparsable("select parameter", whole, f"unexpected {part!r}", start)
    cast = matched["cast"]
    if cast and not re.fullmatch(r"[a-zA-Z_][\w ]*(\[\])?", cast):
        raise unparsable("select parameter", whole, f"unexpected cast {cast!r}", start)
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
