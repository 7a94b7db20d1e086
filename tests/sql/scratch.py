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
    """Makes databases in the cluster of a local Supabase and drops them at the end.

    Args:
        default_grants: whether new tables and functions in `public` are granted to the API's
            roles, as in older Supabase projects.
    """

    def __init__(self, local: LocalSupabase, *, default_grants: bool = True) -> None:
        self.local = local
        self._default_grants = default_grants
        self._names: list[str] = []

    def empty(self) -> str:
        """A Supabase project without our migrations; gives its name."""
        name = self._create("template0")
        asyncio.run(provision.bootstrap(self.boss(name), self.local.keys.db_password))
        if not self._default_grants:
            self.grant_by_default(name, False)
        return name

    def grant_by_default(self, name: str, granting: bool) -> None:
        """Grants what `postgres` makes in `public` to the API's roles from now on, or to nobody."""
        verb, word = ("grant", "to") if granting else ("revoke", "from")
        role = "alter default privileges for role postgres"
        self.run(
            self.boss(name),
            *(
                f"{role} in schema public"
                f" {verb} all on {kind} {word} anon, authenticated, service_role"
                for kind in ("tables", "sequences", "functions")
            ),
            # What PostgreSQL itself grants to everybody is a default of the role, not of a schema.
            f"{role} {verb} execute on functions {word} public",
        )

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
def scratch_databases(local: LocalSupabase, *, default_grants: bool = True) -> Iterator[Scratch]:
    """A maker of databases that leaves none behind."""
    scratch = Scratch(local, default_grants=default_grants)
    try:
        yield scratch
    finally:
        scratch.drop()
