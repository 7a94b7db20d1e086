"""The tables as types for supabase-js, in the form of `supabase gen types`.

    python -m tests.sql.typescript

writes them where the package has them, from the schema as PostgreSQL knows it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from conv_realtime.local.hosting import ProjectHost
from conv_realtime.sql import migrations

SHIPPED = Path(__file__).parent.parent.parent / "conv_realtime" / "viewer" / "database.d.ts"
_HEAD = """\
// The tables and functions as supabase-js wants to know them, made from the schema by
// `python -m tests.sql.typescript`:
//
//   import type { Database } from "./database.d.ts";
//   const supabase = createClient<Database>(url, key);
//
// It is what `supabase gen types` gives; where your project has tables of its own, run that.

export type Json = string | number | boolean | null | { [key: string]: Json | undefined } | Json[];
"""
_TAIL = """
type Public = Database["public"]["Tables"];

export type Tables<Name extends keyof Public> = Public[Name]["Row"];
export type TablesInsert<Name extends keyof Public> = Public[Name]["Insert"];
export type TablesUpdate<Name extends keyof Public> = Public[Name]["Update"];
"""
_NOTHING = "{ [_ in never]: never }"
_TYPES = {
    "uuid": "string", "text": "string", "timestamp with time zone": "string",
    "bigint": "number", "integer": "number", "boolean": "boolean", "jsonb": "Json",
    "uuid[]": "string[]",
}  # fmt: skip
_COLUMNS = """
select c.relname as "table", a.attname as name, format_type(a.atttypid, null) as kind,
  not a.attnotnull as "null", a.atthasdef as given
from pg_attribute a join pg_class c on c.oid = a.attrelid
where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and a.attnum > 0
  and not a.attisdropped and obj_description(c.oid, 'pg_class') like 'conv\\_realtime:%'
order by 1, 2
"""
_KEYS = """
select conrelid::regclass::text as "table", conname as name, confrelid::regclass::text as other,
  (select array_agg(attname::text order by place) from unnest(conkey) with ordinality k(n, place)
    join pg_attribute on attrelid = conrelid and attnum = n) as columns,
  (select array_agg(attname::text order by place) from unnest(confkey) with ordinality k(n, place)
    join pg_attribute on attrelid = confrelid and attnum = n) as others
from pg_constraint where contype = 'f' and connamespace = 'public'::regnamespace order by 1, 2
"""
_FUNCTIONS = """
select proname as name, proargnames as names, pronargdefaults as optional,
  (select array_agg(format_type(t, null) order by place)
    from unnest(proargtypes) with ordinality a(t, place)) as kinds,
  format_type(prorettype, null) as returns
from pg_proc where pronamespace = 'public'::regnamespace
  and obj_description(oid, 'pg_proc') like 'conv\\_realtime:%' order by 1
"""


def generate(db_url: str) -> str:
    """Return the declarations of what a database has of ours."""
    with psycopg.connect(db_url, row_factory=dict_row) as connection:
        columns = connection.execute(_COLUMNS.encode()).fetchall()
        keys = connection.execute(_KEYS.encode()).fetchall()
        functions = connection.execute(_FUNCTIONS.encode()).fetchall()
    tables = sorted({column["table"] for column in columns})
    lines = [_HEAD, "export type Database = {", "  public: {", "    Tables: {"]
    for table in tables:
        lines += _table(table, [c for c in columns if c["table"] == table], keys)
    lines += ["    };", f"    Views: {_NOTHING};", "    Functions: {"]
    lines += [f"      {_function(function)}" for function in functions]
    lines += ["    };", f"    Enums: {_NOTHING};", f"    CompositeTypes: {_NOTHING};", "  };", "};"]
    return "\n".join(lines) + "\n" + _TAIL


def _table(name: str, columns: list[dict[str, Any]], keys: list[dict[str, Any]]) -> list[str]:
    lines = [f"      {name}: {{"]
    for part in ("Row", "Insert", "Update"):
        lines.append(f"        {part}: {{")
        for column in columns:
            kind = _TYPES[column["kind"]] + (" | null" if column["null"] else "")
            if column["kind"] == "jsonb" and not column["null"]:
                kind = "NonNullable<Json>"
            optional = part == "Update" or (
                part == "Insert" and (column["null"] or column["given"])
            )
            lines.append(f"          {column['name']}{'?' * optional}: {kind};")
        lines.append("        };")
    lines.append("        Relationships: [")
    for key in keys:
        if key["table"] == name:
            lines += [
                "          {",
                f'            foreignKeyName: "{key["name"]}";',
                f"            columns: {_texts(key['columns'])};",
                "            isOneToOne: false;",
                f'            referencedRelation: "{key["other"]}";',
                f"            referencedColumns: {_texts(key['others'])};",
                "          },",
            ]
    return [*lines, "        ];", "      };"]


def _function(function: dict[str, Any]) -> str:
    names, kinds = function["names"] or [], function["kinds"] or []
    needed = len(names) - function["optional"]
    arguments = "; ".join(
        f"{name}{'?' * (place >= needed)}: {_TYPES[kind]}"
        for place, (name, kind) in enumerate(zip(names, kinds, strict=True))
    )
    given = f"{{ {arguments} }}" if arguments else "Record<PropertyKey, never>"
    return f"{function['name']}: {{ Args: {given}; Returns: {_TYPES[function['returns']]} }};"


def _texts(names: list[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


async def main() -> None:
    """Write the file from a database that is made for it."""
    from tests.local.own_postgres import open_folder

    with open_folder() as folder:
        async with ProjectHost(folder) as host:
            template = await host.template(migrations())
            async with host.project(template) as project:
                SHIPPED.write_text(generate(project.db_url), encoding="utf-8")


if __name__ == "__main__":
    import asyncio

    asyncio.run(main())
