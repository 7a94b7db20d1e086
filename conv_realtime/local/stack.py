"""The whole local Supabase behind one `async with`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Self
from uuid import UUID

from conv_realtime.background import beside
from conv_realtime.core.addresses import is_loopback
from conv_realtime.local import provision
from conv_realtime.local.address import check_host
from conv_realtime.local.keys import load_keys
from conv_realtime.local.postgres.placement import usable
from conv_realtime.local.postgres.server import Postgres
from conv_realtime.local.project import LocalProject

_log = logging.getLogger("conv_realtime.local")

_MAINTENANCE_SECONDS = 600.0


class LocalSupabase(LocalProject):
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
        self._allow_remote = allow_remote
        self._wanted_owner = owner_id
        super().__init__(Postgres(self._folder), host=host, port=port)

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
            with usable(self._folder):
                self._keys = load_keys(self._folder / "keys.json", self._wanted_owner)
            if not is_loopback(self._host):
                self._keys.check_secret()
            await provision.bootstrap(self._postgres.dsn(), self._keys.db_password)
            await provision.migrate(self._postgres.dsn(user="postgres"))
            await self._serve(stack)
            maintenance = beside(self._maintain(), "conv_realtime.local.maintenance")
            await stack.enter_async_context(maintenance)
            self._stack = stack.pop_all()
        return self

    async def _maintain(self) -> None:
        while True:
            await asyncio.sleep(_MAINTENANCE_SECONDS)
            try:
                await provision.maintain(self._postgres.dsn())
            except Exception:
                _log.exception("maintenance_failed")
