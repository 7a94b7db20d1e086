"""One PostgreSQL for many short-lived projects, each with its own database, keys and port."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Self
from uuid import UUID, uuid4

import psycopg

from conv_realtime.background import whole
from conv_realtime.errors import MigrationError
from conv_realtime.local import provision
from conv_realtime.local.databases import Databases
from conv_realtime.local.keys import make_keys
from conv_realtime.local.postgres.server import Postgres
from conv_realtime.local.project import LocalProject
from conv_realtime.local.seams import NO_SEAMS, Seams
from conv_realtime.sql import Migration

_BASE = "supabase_base"


class ProjectHost:
    """A throwaway PostgreSQL, as an async context manager, and projects on copies of its templates.

    Args:
        folder: where it lives; whoever made it removes it.

    Attributes:
        postgres: the PostgreSQL.
        owner_id: the user that owns the rows of every project, and is in each `auth.users`.
    """

    def __init__(self, folder: Path) -> None:
        self.postgres = Postgres(folder, throwaway=True)
        self.owner_id = str(uuid4())
        self._password = make_keys().db_password
        self._databases = Databases(self.postgres)
        self._templates: dict[str, str | MigrationError] = {}
        self._making: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._numbers = itertools.count(1)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Starts PostgreSQL and makes the first template.

        Raises:
            ConfigError: PostgreSQL cannot run here.
        """
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.postgres)
            stack.push_async_callback(self._databases.close)
            await self._databases.create(_BASE, "template0")
            await provision.bootstrap(self.postgres.dsn(_BASE), self._password)
            await self._add_owner(_BASE, self.owner_id)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Stops PostgreSQL; every project must have ended."""
        await self._stack.aclose()

    async def template(self, migrations: Sequence[Migration], seed: str = "") -> str:
        """Gives the name of a database to copy, made when the same content is first asked for.

        Args:
            migrations: to apply, in their order.
            seed: SQL that follows them, as `postgres` like them.

        Raises:
            MigrationError: one failed, or the seed did; every time that it is asked for.
        """
        parts = [part for one in migrations for part in (one.version, one.name, one.sql)]
        digest = hashlib.sha256("\0".join([*parts, seed]).encode()).hexdigest()[:16]
        async with self._making[digest]:
            if digest not in self._templates:
                self._templates[digest] = await self._made(f"template_{digest}", migrations, seed)
        made = self._templates[digest]
        if isinstance(made, MigrationError):
            raise MigrationError(made.name, made.advice) from made
        return made

    @contextlib.asynccontextmanager
    async def project(
        self, template: str, seams: Seams = NO_SEAMS, owner_id: UUID | str | None = None
    ) -> AsyncIterator[LocalProject]:
        """Runs a project on a copy of a template, which is dropped in the end.

        Args:
            template: see `template`.
            seams: where a test takes a hand.
            owner_id: of the project, a UUID; added to its `auth.users`. Default: the host's.
        """
        database = f"project_{next(self._numbers)}"
        try:
            await self._databases.create(database, template, owner="postgres")
            keys = make_keys(owner_id or self.owner_id, self._password)
            if keys.owner_id != self.owner_id:
                await self._add_owner(database, keys.owner_id)
            async with LocalProject(self.postgres, keys, database, seams=seams) as project:
                yield project
        finally:
            await whole(self._databases.drop(database))

    async def _made(
        self, name: str, migrations: Sequence[Migration], seed: str
    ) -> str | MigrationError:
        dsn = self.postgres.dsn(name, "postgres")
        try:
            await self._databases.create(name, _BASE, owner="postgres")
            await provision.migrate(dsn, migrations)
            if seed:
                await _run(dsn, seed)
        except BaseException as error:
            await whole(self._databases.drop(name))
            if isinstance(error, MigrationError):
                return error
            raise
        return name

    async def _add_owner(self, database: str, owner_id: str) -> None:
        async with await psycopg.AsyncConnection.connect(self.postgres.dsn(database)) as connection:
            await connection.execute(
                "insert into auth.users (id, email) values (%s, %s) on conflict (id) do nothing",
                (owner_id, f"{owner_id}@example.com"),
            )


async def _run(dsn: str, seed: str) -> None:
    try:
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await connection.execute(seed.encode())
    except psycopg.Error as error:
        raise MigrationError("seed", str(error)) from error
