"""The whole local Supabase behind one `async with`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote
from uuid import UUID

from conv_realtime.local import provision
from conv_realtime.local.address import check_host, is_loopback, reached_at
from conv_realtime.local.gateway import Gateway
from conv_realtime.local.keys import Keys, load_keys
from conv_realtime.local.postgres.server import Postgres

_log = logging.getLogger("conv_realtime.local")

_MAINTENANCE_SECONDS = 600.0


class LocalSupabase:
    """A Supabase project on this machine, running between entering and leaving.

    Args:
        state_dir: its data and secrets live in `state_dir/supabase`.
        host: the address to listen on, loopback unless `allow_remote`.
        port: of the API; 0 picks a free one.
        owner_id: the user that owns the rows; default: the one kept, made at the first start.
        allow_remote: let `host` be an address that other machines reach; the keys are then all that
            stands between them and the rows, and PostgreSQL itself stays on loopback.
    """

    def __init__(
        self,
        state_dir: Path,
        host: str = "127.0.0.1",
        port: int = 54321,
        owner_id: UUID | str | None = None,
        *,
        allow_remote: bool = False,
    ) -> None:
        self._folder = Path(state_dir) / "supabase"
        self._host = host
        self._allow_remote = allow_remote
        self._port = port
        self._wanted_owner = owner_id
        self._keys: Keys | None = None
        self._postgres = Postgres(self._folder)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Starts everything; returns when requests are answered and our migrations applied.

        Raises:
            ConfigError: the folder or the port is in use, the address or the secret is not fit for
                it, or PostgreSQL cannot run here.
            MigrationError: a migration failed.
        """
        check_host(self._host, allow_remote=self._allow_remote)
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._postgres)
            self._keys = load_keys(self._folder / "keys.json", self._wanted_owner)
            if not is_loopback(self._host):
                self._keys.check_secret()
            await provision.bootstrap(self._postgres.dsn(), self._keys.db_password)
            await provision.migrate(self._postgres.dsn(user="postgres"))
            gateway = Gateway(self._postgres, self._keys, self._host, self._port)
            await stack.enter_async_context(gateway)
            self._port = gateway.port
            await stack.enter_async_context(self._maintained())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Stops everything, the replication streams before PostgreSQL."""
        await self._stack.aclose()

    @property
    def keys(self) -> Keys:
        """The project's secrets."""
        if self._keys is None:
            raise RuntimeError("the local Supabase has not been started")
        return self._keys

    @property
    def postgres(self) -> Postgres:
        """The database below."""
        return self._postgres

    @property
    def url(self) -> str:
        """The project's URL, as supabase clients want it."""
        return f"http://{reached_at(self._host, self._port)}"

    @property
    def db_url(self) -> str:
        """A connection as `postgres` over TCP on loopback."""
        password = quote(self.keys.db_password)
        return f"postgresql://postgres:{password}@127.0.0.1:{self._postgres.port}/postgres"

    @property
    def publishable_key(self) -> str:
        """A JWT of the role `anon`."""
        return self.keys.publishable_key

    @property
    def secret_key(self) -> str:
        """A JWT of the role `service_role`."""
        return self.keys.secret_key

    @property
    def jwt_secret(self) -> str:
        """What signs the keys and every user's token (HS256)."""
        return self.keys.jwt_secret

    @property
    def owner_id(self) -> str:
        """The user that owns the rows."""
        return self.keys.owner_id

    def token(
        self,
        sub: UUID | str | None = None,
        role: str = "authenticated",
        expires_in: float = 3600.0,
        **claims: Any,
    ) -> str:
        """Gives a JWT for user `sub` (the owner if None) that expires in so many seconds."""
        return self.keys.token(sub, role, expires_in, **claims)

    @contextlib.asynccontextmanager
    async def _maintained(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._maintain(), name="conv_realtime.local.maintenance")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _maintain(self) -> None:
        while True:
            await asyncio.sleep(_MAINTENANCE_SECONDS)
            try:
                await provision.maintain(self._postgres.dsn())
            except Exception:
                _log.exception("maintenance_failed")
