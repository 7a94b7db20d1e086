"""What a published table looks like at this moment, as its changes are told.

Types are named in full (``pg_catalog.int4``, ``public.mood``, never with a length), so that a cast
to them means the same under every search path.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from conv_realtime.local.realtime.connections import Connection
from conv_realtime.local.wal.pgoutput import Relation

_DESCRIBE = """
    select c.relrowsecurity, a.attname::text, t.typname::text, t.typtype::text, t.oid::int8,
      format('%%I.%%I', tn.nspname, t.typname),
      coalesce(a.attnum = any (k.conkey), false),
      array(
        select r.rolname::text from pg_catalog.pg_roles as r
        where r.rolname = any (%(roles)s)
          and pg_catalog.has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT')
      )
    from pg_catalog.pg_class as c
    join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    join pg_catalog.pg_type as t on t.oid = a.atttypid
    join pg_catalog.pg_namespace as tn on tn.oid = t.typnamespace
    left join pg_catalog.pg_constraint as k on k.conrelid = c.oid and k.contype = 'p'
    where c.oid = %(oid)s
    order by a.attnum
"""


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column.

    Attributes:
        name: unquoted.
        shown_type: as clients are told, such as ``int4`` or ``_text``.
        kind: ``pg_type.typtype``.
        type_oid: of its type.
        type_name: the type in full, quoted for SQL.
        is_key: whether it belongs to the primary key.
        readers: the roles among those asked for that may select it.
    """

    name: str
    shown_type: str
    kind: str
    type_oid: int
    type_name: str
    is_key: bool
    readers: Sequence[str]


@dataclass(frozen=True, slots=True)
class View:
    """The columns that one role sees through one choice of columns.

    Attributes:
        columns: the ``columns`` of a payload, as JSON.
        names: of the columns, each with its JSON key, in the order in which jsonb keeps them.
    """

    columns: str
    names: tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class Table:
    """A table; see `TableColumn`.

    Attributes:
        relation: as the stream describes it.
        secured: whether row level security is on.
        columns: in their order.
    """

    relation: Relation
    secured: bool
    columns: tuple[TableColumn, ...]
    _views: dict[tuple[str, tuple[str, ...] | None], View] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name without the schema."""
        return self.relation.name

    @cached_property
    def by_name(self) -> dict[str, TableColumn]:
        """The columns by name."""
        return {column.name: column for column in self.columns}

    @cached_property
    def key(self) -> tuple[TableColumn, ...]:
        """The primary key; empty if there is none."""
        return tuple(column for column in self.columns if column.is_key)

    def may_read_key(self, role: str) -> bool:
        """Whether a role may select every column of the key."""
        return all(role in column.readers for column in self.key)

    def may_read(self, role: str, column: str) -> bool:
        """Whether a role may select a column that is there."""
        return column in self.by_name and role in self.by_name[column].readers

    def view(self, role: str, select: tuple[str, ...] | None) -> View:
        """Gives what a role sees: what it may select of the chosen columns and the key."""
        made = self._views.get((role, select))
        if made is None:
            shown = [
                column
                for column in self.columns
                if role in column.readers
                and (select is None or column.name in select or column.is_key)
            ]
            made = self._views[role, select] = _view(shown)
        return made


def _view(shown: Sequence[TableColumn]) -> View:
    columns = ", ".join(
        f'{{"name": {_text(column.name)}, "type": {_text(column.shown_type)}}}' for column in shown
    )
    names = sorted((column.name for column in shown), key=_jsonb_order)
    return View(f"[{columns}]", tuple((name, f"{_text(name)}: ") for name in names))


def _jsonb_order(name: str) -> tuple[int, bytes]:
    data = name.encode()
    return len(data), data


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


async def describe(
    connection: Connection, relation: Relation, roles: Iterable[str]
) -> Table | None:
    """Looks a table up, or gives None if it has been dropped.

    Args:
        connection: of any role.
        relation: the table.
        roles: whose rights are wanted.
    """
    cursor = await connection.execute(_DESCRIBE, {"oid": relation.oid, "roles": sorted(roles)})
    rows = await cursor.fetchall()
    if not rows:
        return None
    columns = tuple(TableColumn(*row[1:]) for row in rows)
    return Table(relation, rows[0][0], columns)
