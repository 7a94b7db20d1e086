"""What the Data API knows of schema `public`: tables, their columns and keys, and functions."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Any

import psycopg

from conv_realtime.local.rest import relations
from conv_realtime.local.rest.errors import ApiError
from conv_realtime.local.rest.relations import Relation, Relations

SCHEMA = "public"


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its type as SQL text and its default, an SQL expression or None."""

    name: str
    type: str
    default: str | None


@dataclass(frozen=True, slots=True)
class Table:
    """A table or view; `key` is the primary key's columns, in their order, empty without one."""

    name: str
    columns: dict[str, Column]
    key: tuple[str, ...]

    def column(self, name: str) -> Column:
        """Gives a column.

        Raises:
            ApiError: `PGRST204`, the table has none of that name.
        """
        if name not in self.columns:
            raise ApiError(
                400,
                "PGRST204",
                f"Could not find the '{name}' column of '{self.name}' in the schema cache",
            )
        return self.columns[name]


@dataclass(frozen=True, slots=True)
class Argument:
    """An input argument of a function."""

    name: str
    type: str
    required: bool


@dataclass(frozen=True, slots=True)
class Function:
    """A function that can be called by named arguments.

    Attributes:
        returns_set: it gives any number of rows.
        returns_rows: each row is a composite value, with columns to select from.
        returns_void: it gives nothing.
        table: the table whose rows it gives, None if its rows are no table's.
    """

    name: str
    arguments: tuple[Argument, ...]
    returns_set: bool
    returns_rows: bool
    returns_void: bool
    table: str | None = None

    def takes(self, names: frozenset[str]) -> bool:
        """Says whether it can be called with exactly these arguments."""
        known = {argument.name for argument in self.arguments}
        needed = {argument.name for argument in self.arguments if argument.required}
        return needed <= names <= known


@dataclass(frozen=True, slots=True)
class Catalog:
    """One reading of the schema.

    Attributes:
        tables: by name.
        functions: all overloads by name.
        relations: between tables, by the one that they go out from.
        role_settings: what `alter role … set` says, by role: pairs of name and value.
    """

    tables: dict[str, Table] = field(default_factory=dict)
    functions: dict[str, tuple[Function, ...]] = field(default_factory=dict)
    relations: Relations = field(default_factory=dict)
    role_settings: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)

    def table(self, name: str) -> Table:
        """Gives a table or view.

        Raises:
            ApiError: `PGRST205`, there is none of that name; the hint names a similar one.
        """
        if name in self.tables:
            return self.tables[name]
        near = difflib.get_close_matches(name, self.tables, 1, 0.7)
        raise ApiError(
            404,
            "PGRST205",
            f"Could not find the table '{SCHEMA}.{name}' in the schema cache",
            hint=f"Perhaps you meant the table '{SCHEMA}.{near[0]}'" if near else None,
        )

    def relation(self, table: str, name: str, hint: str | None) -> Relation:
        """Gives the way from a table to a related one.

        Raises:
            ApiError: `PGRST200`, there is none; `PGRST201`, there are several.
        """
        return relations.find(self.relations, table, name, hint)

    def function(self, name: str, names: frozenset[str]) -> Function:
        """Gives the overload that takes the named arguments.

        Raises:
            ApiError: `PGRST202`, none does; `PGRST203`, several do.
        """
        overloads = self.functions.get(name, ())
        fitting = [one for one in overloads if one.takes(names)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise ApiError(
                300,
                "PGRST203",
                f"Could not choose the best candidate function between: {_told(fitting)}",
                hint="Try renaming the parameters or the function itself in the database",
            )
        raise _no_function(name, names, overloads)


def _no_function(name: str, names: frozenset[str], overloads: tuple[Function, ...]) -> ApiError:
    listed = ", ".join(sorted(names))
    plural = "parameters" if len(names) > 1 else "parameter"
    called = f"{SCHEMA}.{name}({listed})" if names else f"{SCHEMA}.{name} without parameters"
    searched = f"with {plural} {listed}" if names else "without parameters"
    return ApiError(
        404,
        "PGRST202",
        f"Could not find the function {called} in the schema cache",
        details=f"Searched for the function {SCHEMA}.{name} {searched} or with a single unnamed "
        "json/jsonb parameter, but no matches were found in the schema cache.",
        hint=f"Perhaps you meant to call the function {_told(overloads[:1])}"
        if overloads
        else None,
    )


def _told(functions: list[Function] | tuple[Function, ...]) -> str:
    return ", ".join(
        f"{SCHEMA}.{one.name}({', '.join(argument.name for argument in one.arguments)})"
        for one in functions
    )


_TABLES = """
select c.relname,
  (select json_agg(json_build_array(
      a.attname,
      format_type(a.atttypid, -1),
      case
        when a.attidentity <> '' then format(
          'nextval(%L)', (
            select s.objid::regclass::text from pg_depend s
            where s.refobjid = c.oid and s.refobjsubid = a.attnum and s.deptype = 'i'
              and s.classid = 'pg_class'::regclass and s.refclassid = 'pg_class'::regclass))
        when a.attgenerated = '' then pg_get_expr(d.adbin, d.adrelid)
      end) order by a.attnum)
    from pg_attribute a
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns,
  (select json_agg(a.attname order by place)
    from pg_index i
    cross join unnest(i.indkey::int2[]) with ordinality as k(attnum, place)
    join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
    where i.indrelid = c.oid and i.indisprimary) as key
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'public' and c.relkind in ('r', 'v', 'm', 'f', 'p')
"""

_FUNCTIONS = """
select p.proname, p.proretset,
  p.prorettype = 'void'::regtype as returns_void,
  t.typtype = 'c' or p.prorettype = 'record'::regtype
    or coalesce(p.proargmodes && '{t,b,o}'::"char"[], false) as returns_rows,
  coalesce((
    select json_agg(json_build_array(
      coalesce(p.proargnames[place], ''), format_type(argument, -1),
      place <= p.pronargs - p.pronargdefaults) order by place)
    from unnest(p.proargtypes::oid[]) with ordinality as listed(argument, place)
  ), '[]') as arguments,
  (select r.relname from pg_class r
    where r.oid = t.typrelid and r.relnamespace = 'public'::regnamespace
      and r.relkind in ('r', 'v', 'm', 'f', 'p')) as of_table
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
join pg_type t on t.oid = p.prorettype
where n.nspname = 'public' and p.prokind = 'f' and p.provariadic = 0
  and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
"""

_ROLES = """
select r.rolname, split_part(setting, '=', 1), substr(setting, strpos(setting, '=') + 1)
from pg_roles r, unnest(r.rolconfig) as setting
where pg_has_role('authenticator', r.oid, 'member') and r.rolname <> 'authenticator'
"""


async def read_catalog(connection: psycopg.AsyncConnection[Any]) -> Catalog:
    """Reads the schema; the connection's search path must be empty, so that types are qualified."""
    tables = await (await connection.execute(_TABLES)).fetchall()
    functions = await (await connection.execute(_FUNCTIONS)).fetchall()
    foreign_keys = await (await connection.execute(relations.FOREIGN_KEYS)).fetchall()
    roles = await (await connection.execute(_ROLES)).fetchall()
    overloads: dict[str, tuple[Function, ...]] = {}
    for name, *described in functions:
        overloads[name] = (*overloads.get(name, ()), _function(name, *described))
    settings: dict[str, tuple[tuple[str, str], ...]] = {}
    for role, name, value in roles:
        settings[role] = (*settings.get(role, ()), (name, value))
    found = {row[0]: _table(*row) for row in tables}
    keys = [relations.foreign_key(*row) for row in foreign_keys]
    ways = relations.related(keys, {table.name: table.key for table in found.values()})
    return Catalog(found, overloads, ways, settings)


def _table(name: str, columns: list[Any] | None, key: list[str] | None) -> Table:
    return Table(name, {one[0]: Column(*one) for one in columns or ()}, tuple(key or ()))


def _function(
    name: str,
    returns_set: bool,
    returns_void: bool,
    returns_rows: bool,
    arguments: list[Any],
    table: str | None,
) -> Function:
    inputs = tuple(Argument(*one) for one in arguments)
    return Function(name, inputs, returns_set, returns_rows, returns_void, table)
