"""Comparing a database with the released migrations (needs psycopg, of the extra `local`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
from psycopg.conninfo import conninfo_to_dict

from conv_realtime.errors import ConfigError, MigrationError
from conv_realtime.sql import migrations


@dataclass(frozen=True)
class Difference:
    """File names: `applied` as released, `missing` not applied, `changed` with another text."""

    applied: list[str]
    missing: list[str]
    changed: list[str]

    @property
    def current(self) -> bool:
        return not self.missing and not self.changed

    def lists(self) -> dict[str, list[str]]:
        return {"applied": self.applied, "missing": self.missing, "changed": self.changed}


def compare(db_url: str) -> Difference:
    """Return how the database differs from the migrations of this version.

    Raises:
        ConfigError: `db_url` is none, or the database cannot be reached with it.
        MigrationError: the history of migrations cannot be read.
    """
    try:
        conninfo_to_dict(db_url)
    except psycopg.ProgrammingError as error:
        raise ConfigError("--db-url", "is no postgresql://user:password@host/name") from error
    try:
        with psycopg.connect(db_url, connect_timeout=10) as connection:
            return difference(_recorded(connection))
    except psycopg.OperationalError as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError("--db-url", f"cannot connect: {reason}") from error
    except psycopg.ProgrammingError as error:
        raise MigrationError("supabase_migrations", str(error).splitlines()[0]) from error


def difference(recorded: Mapping[str, str | None]) -> Difference:
    """Return the difference; `recorded` maps versions to the text that was applied, if known."""
    applied, missing, changed = [], [], []
    for migration in migrations():
        if migration.version not in recorded:
            missing.append(migration.filename)
        elif _same(recorded[migration.version], migration.sql):
            applied.append(migration.filename)
        else:
            changed.append(migration.filename)
    return Difference(applied, missing, changed)


def _recorded(connection: psycopg.Connection) -> dict[str, str | None]:
    """Return version -> text of what was applied, as far as the text is known.

    The Supabase CLI keeps texts. Files that were applied in another way, such as in the
    dashboard's SQL Editor, have entered their versions themselves.
    """
    known: dict[str, str | None] = {}
    if _there(connection, "conv_realtime.versions"):
        rows = connection.execute("select version, null from conv_realtime.versions")
        known |= {str(version): text for version, text in rows}
    if _there(connection, "supabase_migrations.schema_migrations"):
        rows = connection.execute(
            "select version, array_to_string(statements, ';')"
            " from supabase_migrations.schema_migrations"
        )
        known |= {str(version): text for version, text in rows}
    return known


def _there(connection: psycopg.Connection, table: str) -> bool:
    found = connection.execute("select to_regclass(%s) is not null", (table,)).fetchone()
    return bool(found and found[0])


def _same(recorded: str | None, released: str) -> bool:
    """Compare without what splitting a file into statements changes: white space and `;`.

    A history without texts, as some tools write it, is taken at its word.
    """
    return not recorded or _bare(recorded) == _bare(released)


def _bare(text: str) -> str:
    return "".join(text.split()).replace(";", "")
