"""The types that supabase-js gets say what the database has."""

from __future__ import annotations

from tests.project import SupabaseProject
from tests.sql.typescript import SHIPPED, generate


def test_the_shipped_types_are_those_of_the_schema(supabase: SupabaseProject) -> None:
    """If not: `python -m tests.sql.typescript` makes them anew.

    Compared with `supabase gen types` of CLI 3.1.0 by the compiler: every row, insert, update,
    relationship and function is of the same type.
    """
    assert SHIPPED.read_text(encoding="utf-8") == generate(supabase.db_url)


def test_nobody_has_to_fill_what_the_database_fills(supabase: SupabaseProject) -> None:
    """A column that a trigger writes is no field that a program must give."""
    insert = generate(supabase.db_url).split("Insert: {")[1:]
    needed = {
        line.split(":")[0].strip()
        for part in insert
        for line in part.split("};")[0].splitlines()
        if ":" in line and "?:" not in line
    }
    assert not {name for name in needed if name.startswith("change_")}
    assert "owner_id" not in needed
