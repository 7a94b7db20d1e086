"""What a client wants to hear of: one entry of ``config.postgres_changes``. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from conv_realtime.local.realtime.changes import elixir
from conv_realtime.local.realtime.changes.filters import Filter, FilterRefused, parse_filters

MAX_PATTERN_CHARACTERS = 1_000
"""Of a schema or a table; names in PostgreSQL have 63 bytes at most."""

_KINDS = frozenset({"INSERT", "UPDATE", "DELETE"})
_BAD_SELECT = (
    "Error parsing `select` params: expected a list of column name strings, "
    'e.g. select: ["col1", "col2"]'
)
_SELECT_ON_WILDCARD = (
    "Column selection is not supported for wildcard subscriptions. "
    "Provide an explicit schema and table name."
)
_TOO_LONG = f"`schema` and `table` may have {MAX_PATTERN_CHARACTERS} characters at most"
_NOTHING_ASKED = (
    "No subscription params provided. "
    "Please provide at least a `schema` or `table` to subscribe to: "
)


class BindingRefused(Exception):
    """A binding that is not taken; its text is the ``system`` frame's message."""


@dataclass(frozen=True, slots=True)
class Binding:
    """A wish that can be understood.

    Attributes:
        id: what the client knows it by.
        event: a kind of change, or ``*``.
        schema: a LIKE pattern without an escape, or ``*``: on real servers it is one.
        table: another.
        filters: conditions that must all hold.
        select: the columns besides the key that are wanted, sorted; None for all.
    """

    id: int
    event: str
    schema: str
    table: str
    filters: tuple[Filter, ...] = ()
    select: tuple[str, ...] | None = None

    def wants(self, schema: str, table: str) -> bool:
        """Whether it is about this table."""
        return bool(_pattern(self.schema).match(schema) and _pattern(self.table).match(table))

    def __str__(self) -> str:
        """Names it as real servers do in their messages."""
        filters = ", ".join(map(str, self.filters))
        select = "nil" if self.select is None else elixir.strings(self.select)
        return (
            f"[event: {self.event}, schema: {self.schema}, table: {self.table}, "
            f"filters: [{filters}], select: {select}]"
        )


def read_binding(asked: Mapping[str, Any]) -> Binding:
    """Reads a binding that has got its ``id``.

    Raises:
        BindingRefused: it cannot be understood.
    """
    select = _select(asked.get("select"))
    wanted = {key: asked[key] for key in ("schema", "table", "filter") if key in asked}
    texts = all(isinstance(value, str) for value in wanted.values())
    alone = len(wanted) == 1 and "filter" not in wanted
    if not texts or not (alone or {"schema", "table"} <= set(wanted)):
        shown = {key: value for key, value in asked.items() if key != "id"}
        raise BindingRefused(_NOTHING_ASKED + elixir.value(shown))
    schema, table = wanted.get("schema", "public"), wanted.get("table", "*")
    if max(len(schema), len(table)) > MAX_PATTERN_CHARACTERS:
        raise BindingRefused(_TOO_LONG)
    try:
        filters = parse_filters(wanted.get("filter", ""))
    except FilterRefused as refusal:
        raise BindingRefused(f"Error parsing `filter` params: {refusal}") from refusal
    if select is not None and "*" in (schema, table):
        raise BindingRefused(_SELECT_ON_WILDCARD)
    return Binding(asked["id"], _event(asked.get("event")), schema, table, filters, select)


def _event(asked: object) -> str:
    kind = asked.upper() if isinstance(asked, str) else "*"
    return kind if kind in _KINDS else "*"


def _select(asked: object) -> tuple[str, ...] | None:
    if isinstance(asked, str):
        raise BindingRefused(_BAD_SELECT)
    names = [name for name in asked if isinstance(name, str)] if isinstance(asked, list) else []
    return tuple(sorted(set(names))) or None


@lru_cache(maxsize=1024)
def _pattern(like: str) -> re.Pattern[str]:
    """Finds each part between wildcards where it first comes, and never tries another place.

    That is enough for LIKE, and does not take for ever: clients choose what is matched.
    """
    first, *others = ("%" if like == "*" else like).split("%")
    found = _exactly(first)
    if others:
        found += "".join(f"(?>.*?{_exactly(part)})" for part in others[:-1] if part)
        found += f".*{_exactly(others[-1])}"
    return re.compile(found + r"\Z", re.S)


def _exactly(part: str) -> str:
    return "".join("." if char == "_" else re.escape(char) for char in part)
