"""Makes an empty database a Supabase project: roles, auth, Realtime, then the migrations.

The bootstrap runs as superuser, once per content; the migrations run as `postgres`, which is none,
and are recorded where and how the Supabase CLI records them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from importlib.resources.abc import Traversable

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from conv_realtime.errors import ConfigError, MigrationError
from conv_realtime.sql import Migration, migrations

_LEDGER = """
create schema if not exists local_supabase;
create table if not exists local_supabase.bootstrap (
  digest text primary key, applied_at timestamptz not null default now()
);
"""

_HISTORY = """
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.schema_migrations (
  version text primary key, statements text[], name text
);
"""


async def bootstrap(dsn: str, password: str) -> None:
    """Runs the scripts of `local/bootstrap` unless the database has them; sets the password.

    Args:
        dsn: a superuser's connection.
        password: of the role `postgres`, for connections over TCP.

    Raises:
        ConfigError: PostgreSQL did not take them; it is as it was before.
    """
    with _preparing():
        await _bootstrap(dsn, password)


@contextmanager
def _preparing() -> Iterator[None]:
    """Tell what PostgreSQL refuses; it may also have gone since it was started."""
    try:
        yield
    except psycopg.Error as error:
        told = str(error).splitlines()[0]
        raise ConfigError(
            "local Supabase",
            f"its database cannot be prepared: {told}; put that right and start again",
        ) from error


async def _bootstrap(dsn: str, password: str) -> None:
    scripts = _bootstrap_scripts()
    digest = hashlib.sha256("\0".join([password, *scripts]).encode()).hexdigest()
    async with await psycopg.AsyncConnection.connect(dsn, row_factory=tuple_row) as connection:
        await connection.execute(_LEDGER)
        query = "select from local_supabase.bootstrap where digest = %s"
        if (await connection.execute(query, (digest,))).rowcount:
            await connection.execute("select realtime.maintain_partitions()")
            return
        for script in scripts:
            await connection.execute(script.encode())
        await connection.execute(
            sql.SQL("alter role postgres password {}").format(sql.Literal(password))
        )
        await connection.execute("insert into local_supabase.bootstrap values (%s)", (digest,))


async def maintain(dsn: str) -> None:
    """Makes the partitions of the coming days and drops those that Realtime no longer replays."""
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.execute("select realtime.maintain_partitions()")


async def migrate(dsn: str, wanted: Sequence[Migration] | None = None) -> list[str]:
    """Applies the migrations that the database does not have; gives their file names.

    Each runs in a transaction of its own together with its record.

    Args:
        dsn: a connection as `postgres`.
        wanted: in their order; default: ours.

    Raises:
        ConfigError: the database cannot be asked what it has.
        MigrationError: one failed; it and what follows it were not applied.
    """
    applied = []
    with _preparing():
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await connection.execute(_HISTORY)
            rows = await connection.execute(
                "select version from supabase_migrations.schema_migrations"
            )
            known = {row[0] for row in await rows.fetchall()}
            for migration in migrations() if wanted is None else wanted:
                if migration.version not in known:
                    await _apply(connection, migration)
                    applied.append(migration.filename)
    return applied


async def _apply(
    connection: psycopg.AsyncConnection[tuple[object, ...]], migration: Migration
) -> None:
    try:
        async with connection.transaction():
            await connection.execute(migration.sql.encode())
            await connection.execute(
                "insert into supabase_migrations.schema_migrations (version, statements, name)"
                " values (%s, %s, %s)",
                (migration.version, [migration.sql], migration.name),
            )
    except psycopg.Error as error:
        raise MigrationError(f"{migration.version}_{migration.name}", str(error)) from error


def _bootstrap_scripts() -> list[str]:
    folder = resources.files("conv_realtime.local") / "bootstrap"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=_name)
    return [file.read_text(encoding="utf-8") for file in files]


def _name(file: Traversable) -> str:
    return file.name
