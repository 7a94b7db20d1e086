"""One Supabase project: a database, its keys, and a port of its own."""

from __future__ import annotations

import contextlib
from typing import Any, Self
from urllib.parse import quote
from uuid import UUID

from conv_realtime.core.addresses import reached_at
from conv_realtime.local.gateway import Gateway
from conv_realtime.local.keys import Keys
from conv_realtime.local.postgres.server import Postgres
from conv_realtime.local.realtime.server import RealtimeServer
from conv_realtime.local.seams import NO_SEAMS, Seams


class LocalProject:
    """A project on a database that is there, served between entering and leaving.

    Args:
        postgres: a running PostgreSQL.
        keys: the project's secrets.
        database: the name of a provisioned database in it.
        host: the address to listen on.
        port: of the API; 0 picks a free one.
        seams: where a test takes a hand.
    """

    def __init__(
        self,
        postgres: Postgres,
        keys: Keys | None = None,
        database: str = "postgres",
        host: str = "127.0.0.1",
        port: int = 0,
        seams: Seams = NO_SEAMS,
    ) -> None:
        self._postgres = postgres
        self._keys = keys
        self._database = database
        self._host = host
        self._port = port
        self._seams = seams
        self._gateway: Gateway | None = None
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Starts answering requests.

        Raises:
            ConfigError: the port is in use.
        """
        async with contextlib.AsyncExitStack() as stack:
            await self._serve(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Stops, the replication stream before all that stands behind it."""
        await self._stack.aclose()

    async def _serve(self, stack: contextlib.AsyncExitStack) -> None:
        gateway = Gateway(
            self._postgres, self._database, self.keys, self._host, self._port, self._seams
        )
        self._gateway = await stack.enter_async_context(gateway)
        self._port = gateway.port

    @property
    def keys(self) -> Keys:
        """The project's secrets."""
        if self._keys is None:
            raise RuntimeError("the local Supabase has not been started")
        return self._keys

    @property
    def postgres(self) -> Postgres:
        """The PostgreSQL below."""
        return self._postgres

    @property
    def database(self) -> str:
        """The name of its database."""
        return self._database

    @property
    def realtime(self) -> RealtimeServer:
        """The Realtime server that its sockets talk to."""
        return self._served.realtime

    async def ended(self) -> None:
        """Returns when requests are answered no more, though nobody has left it."""
        await self._served.ended()

    @property
    def _served(self) -> Gateway:
        if self._gateway is None:
            raise RuntimeError("the local Supabase has not been started")
        return self._gateway

    @property
    def url(self) -> str:
        """The project's URL, as supabase clients want it."""
        return f"http://{reached_at(self._host, self._port)}"

    @property
    def db_url(self) -> str:
        """A connection as `postgres` over TCP on loopback."""
        password = quote(self.keys.db_password)
        host = f"127.0.0.1:{self._postgres.port}"
        return f"postgresql://postgres:{password}@{host}/{quote(self._database)}"

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
