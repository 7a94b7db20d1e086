"""Databases of one test, beside that of the local Supabase: to migrate, spoil and copy."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from conv_realtime.local import LocalSupabase, provision
from tests.sql.database import Database


class Scratch:
    """Makes databases in the cluster of a local Supabase and drops them at the end."""

    def __init__(self, local: LocalSupabase) -> None:
        self.local = local
        self._names: list[str] = []

    def empty(self) -> str:
        """A Supabase project without our migrations; gives its name."""
        name = self._create("template0")
        asyncio.run(provision.bootstrap(self.boss(name), self.local.keys.db_password))
        return name

    def migrated(self) -> str:
        """A Supabase project with our migrations; gives its name."""
        name = self.empty()
        asyncio.run(provision.migrate(self.postgres(name)))
        return name

    def copy(self, name: str) -> str:
        """The same database once more, as a restore or a branch makes it; gives its name."""
        return self._create(name)

    def boss(self, name: str) -> str:
        """A superuser's connection."""
        return self.local.postgres.dsn(name)

    def postgres(self, name: str) -> str:
        """A connection as `postgres`, which is no superuser."""
        return self.local.postgres.dsn(name, "postgres")

    def database(self, name: str) -> Database:
        """The requests of users at it."""
        return Database(self.postgres(name))

    def run(self, dsn: str, *statements: str) -> None:
        """Runs statements in one transaction."""
        with psycopg.connect(dsn) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def _create(self, template: str) -> str:
        name = f"scratch_{uuid.uuid4().hex[:12]}"
        statement = "create database {} template {}"
        with psycopg.connect(self.local.postgres.dsn(), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, (name, template))))
        self._names.append(name)
        return name

    def drop(self) -> None:
        """Drops all of them."""
        with psycopg.connect(self.local.postgres.dsn(), autocommit=True) as connection:
            for name in self._names:
                connection.execute(
                    sql.SQL("drop database {} with (force)").format(sql.Identifier(name))
                )


@contextmanager
def scratch_databases(local: LocalSupabase) -> Iterator[Scratch]:
    """A maker of databases that leaves none behind."""
    scratch = Scratch(local)
    try:
        yield scratch
    finally:
        scratch.drop()
