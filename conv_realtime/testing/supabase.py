"""A Supabase for tests: one PostgreSQL a run, one project a test."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self
from uuid import UUID, uuid4

from conv_realtime.errors import ConfigError
from conv_realtime.local.hosting import ProjectHost
from conv_realtime.local.migrations import merged, read_migrations
from conv_realtime.local.project import LocalProject
from conv_realtime.sql import migrations as our_migrations
from conv_realtime.testing.faults import Faults
from conv_realtime.testing.faults.wiring import Wiring
from conv_realtime.testing.folders import roomy, server_folder
from conv_realtime.testing.threads import InThread, LoopThread


class SupabaseLocal:
    """A Supabase project that nobody else uses: its own database, URL and keys.

    Attributes:
        url: as supabase clients want it.
        publishable_key: a JWT of the role `anon`.
        secret_key: a JWT of the role `service_role`.
        jwt_secret: what signs the keys and every user's token (HS256).
        db_url: a connection as `postgres`, which applies migrations and bypasses row security.
        owner_id: a user who is in `auth.users`.
        faults: what goes wrong with it.
    """

    def __init__(self, thread: LoopThread, wiring: Wiring, project: LocalProject) -> None:
        self.url = project.url
        self.publishable_key = project.publishable_key
        self.secret_key = project.secret_key
        self.jwt_secret = project.jwt_secret
        self.db_url = project.db_url
        self.owner_id = project.owner_id
        self.faults = Faults(thread, wiring, project)
        self._issued = wiring.tokens.issued
        self._project = project

    def __repr__(self) -> str:
        """Names the address only: a secret has no place in a log."""
        return f"SupabaseLocal(url={self.url!r}, …)"

    def token(
        self,
        sub: UUID | str | None = None,
        role: str = "authenticated",
        expires_in: float = 3600.0,
        **claims: Any,
    ) -> str:
        """Gives a JWT for user `sub` (`owner_id` if None) that expires in so many seconds.

        No two are the same: each has a `session_id` of its own, as Supabase's have.
        """
        claims = {"session_id": str(uuid4()), **claims}
        return self._issued(self._project.token(sub, role, expires_in, **claims))


class SupabaseServer:
    """One PostgreSQL for many projects; a context manager for `with` and `async with`.

    It runs in a thread of its own, so the test's loop, if there is one, may do as it likes.

    Args:
        folder: where its data lie, in a folder that is removed in the end; default: in memory if
            there is a gigabyte to spare, else the system's folder for temporary files.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        self._folder = Path(folder) if folder is not None else None
        self._thread = LoopThread("supabase_local")
        self._stack = contextlib.ExitStack()
        self._host: ProjectHost | None = None

    def __enter__(self) -> Self:
        """Starts PostgreSQL; takes about a second.

        Raises:
            ConfigError: there is no PostgreSQL to run, or no place for it.
        """
        with contextlib.ExitStack() as stack:
            host = self._prepare(stack)
            self._host = stack.enter_context(InThread(self._thread, host))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stops it and removes its data."""
        self._host = None
        self._stack.close()

    async def __aenter__(self) -> Self:
        """Does as `with` does, without blocking the loop."""
        with contextlib.ExitStack() as stack:
            host = self._prepare(stack)
            hosted = InThread(self._thread, host)
            self._host = await hosted.__aenter__()
            stack.push(hosted.__exit__)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Does as `with` does; PostgreSQL without projects ends within some milliseconds."""
        self.__exit__(*exception)

    def project(
        self,
        *,
        migrations: Path | str | None = None,
        seed: Path | str | None = None,
        schema: bool | None = None,
        owner_id: UUID | str | None = None,
    ) -> InThread[SupabaseLocal]:
        """Gives a project as a context manager for `with` and `async with`.

        What it is made of becomes a database once a server; each project is a copy of it.

        Args:
            migrations: a folder of `<version>_<name>.sql`, such as `supabase/migrations`.
            seed: a file of SQL that is run after them, such as `supabase/seed.sql`.
            schema: with conv_realtime's own tables; default: only without `migrations`.
            owner_id: of the project, a UUID; default: the same for all projects of the server.

        Raises:
            ConfigError: on entering, a file is not there, or `owner_id` is no UUID.
            MigrationError: on entering, a migration failed, or the seed.
        """
        return InThread(self._thread, self._project(migrations, seed, schema, owner_id))

    @contextlib.asynccontextmanager
    async def _project(
        self,
        migrations: Path | str | None,
        seed: Path | str | None,
        schema: bool | None,
        owner_id: UUID | str | None,
    ) -> AsyncIterator[SupabaseLocal]:
        if self._host is None:
            raise RuntimeError("the server has not been started")
        wanted = merged(
            our_migrations() if schema or (schema is None and migrations is None) else [],
            read_migrations(Path(migrations)) if migrations is not None else [],
        )
        template = await self._host.template(wanted, _text(seed))
        wiring = Wiring(self._thread)
        async with self._host.project(template, wiring.seams, _uuid(owner_id)) as project:
            try:
                yield SupabaseLocal(self._thread, wiring, project)
            finally:
                wiring.clear()

    def _prepare(self, stack: contextlib.ExitStack) -> ProjectHost:
        folder = stack.enter_context(server_folder(self._folder or roomy()))
        stack.enter_context(self._thread)
        return ProjectHost(folder)


def _text(file: Path | str | None) -> str:
    if file is None:
        return ""
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError("seed", f"{file}: {error.strerror}") from error


def _uuid(owner_id: UUID | str | None) -> UUID | None:
    try:
        return UUID(str(owner_id)) if owner_id is not None else None
    except ValueError as error:
        raise ConfigError("owner_id", f"{owner_id} is not a UUID") from error


def supabase_local(
    *,
    migrations: Path | str | None = None,
    seed: Path | str | None = None,
    schema: bool | None = None,
    owner_id: UUID | str | None = None,
    folder: Path | str | None = None,
) -> OneProject:
    """Gives a server with one project: `with supabase_local() as supabase`, or `async with`.

    Args:
        migrations: as of `SupabaseServer.project`.
        seed: as there.
        schema: as there.
        owner_id: as there.
        folder: as of `SupabaseServer`.
    """
    server = SupabaseServer(folder)
    project = server.project(migrations=migrations, seed=seed, schema=schema, owner_id=owner_id)
    return OneProject(server, project)


class OneProject:
    """A server and a project in it, entered and left together."""

    def __init__(self, server: SupabaseServer, project: InThread[SupabaseLocal]) -> None:
        self._server = server
        self._project = project
        self._stack = contextlib.AsyncExitStack()

    def __enter__(self) -> SupabaseLocal:
        self._server.__enter__()
        try:
            return self._project.__enter__()
        except BaseException:
            self._server.__exit__()
            raise

    def __exit__(self, *exception: object) -> None:
        try:
            self._project.__exit__(*exception)
        finally:
            self._server.__exit__(*exception)

    async def __aenter__(self) -> SupabaseLocal:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._server)
            supabase = await stack.enter_async_context(self._project)
            self._stack = stack.pop_all()
        return supabase

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()
