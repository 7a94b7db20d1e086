"""The schema, as Supabase migrations to be applied in the order of their names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True, slots=True)
class Migration:
    """One file; `version` is the 14 digits before the name, as the Supabase CLI has it."""

    version: str
    name: str
    sql: str

    @property
    def filename(self) -> str:
        """The name under which the Supabase CLI expects it."""
        return f"{self.version}_{self.name}.sql"


@cache
def _read() -> tuple[Migration, ...]:
    files = (file for file in resources.files(__name__).iterdir() if file.name.endswith(".sql"))
    found = []
    for file in sorted(files, key=lambda file: file.name):
        version, _, name = file.name.removesuffix(".sql").partition("_")
        found.append(Migration(version, name, file.read_text("utf-8")))
    return tuple(found)


def migrations() -> list[Migration]:
    """Return all migrations, oldest first."""
    return list(_read())


def latest_version() -> str:
    """Return what `schema_version()` answers in a database that has all of them."""
    return _read()[-1].version
