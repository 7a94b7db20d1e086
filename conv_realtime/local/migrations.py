"""Migrations as the Supabase CLI keeps them: a folder of `<version>_<name>.sql`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from conv_realtime.errors import ConfigError
from conv_realtime.sql import Migration

_NAME = re.compile(r"(\d+)_(.*)\.sql")


def read_migrations(folder: Path) -> list[Migration]:
    """Reads a folder's migrations, oldest first; files of other names are none.

    Raises:
        ConfigError: there is no such folder.
    """
    try:
        files = sorted(folder.iterdir())
    except OSError as error:
        raise ConfigError("migrations", f"{folder}: {error.strerror}") from error
    named = ((file, _NAME.fullmatch(file.name)) for file in files)
    return [
        Migration(match[1], match[2], file.read_text(encoding="utf-8"))
        for file, match in named
        if match
    ]


def merged(*several: Iterable[Migration]) -> list[Migration]:
    """Gives all of them in the order of their versions; of the same version, the last one's."""
    by_version = {migration.version: migration for some in several for migration in some}
    return [by_version[version] for version in sorted(by_version)]
