"""The Data API's side of PostgreSQL: a pool as `authenticator`, and the schema as last read.

One connection listens for `notify pgrst, 'reload schema'` and tells when the database has gone.
While it is away requests are refused at once with 503, and a new pool is opened when it is back:
a pool that has seen an outage would keep its waiting times and its dead connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple, Self

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from conv_realtime.background import beside
from conv_realtime.local.rest.catalog import Catalog, read_catalog
from conv_realtime.local.rest.clauses import Statement
from conv_realtime.local.rest.errors import ApiError, unavailable

_log = logging.getLogger("conv_realtime.local.rest")

_POOL_MIN, _POOL_MAX = 2, 10
_POOL_SECONDS = 10.0
_RETRY_SECONDS = 0.1


class Result(NamedTuple):
    """What a statement of `rest.sql` answered."""

    total: int | None
    page: int
    body: str | None
    inserted: int | None
    location: str | None


class Database:
    """The database as the Data API sees it; an async context manager.

    Args:
        dsn: a connection as `authenticator`.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pool: AsyncConnectionPool[Any] | None = None
        self._catalog = Catalog()
        self._reading = asyncio.Lock()
        self._readings = 0
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Connects and reads the schema; waits for as long as there is no database."""
        first = asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            following = beside(self._follow(first), "conv_realtime.local.rest")
            await stack.enter_async_context(following)
            await first.wait()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Closes every connection."""
        await self._stack.aclose()

    @property
    def catalog(self) -> Catalog:
        """The schema as last read.

        Raises:
            ApiError: `PGRST002`, the database is away.
        """
        if self._pool is None:
            raise unavailable()
        return self._catalog

    async def reread(self) -> Catalog:
        """Reads the schema again; those who ask during a reading share the next one."""
        seen = self._readings
        async with self._reading:
            if self._readings > seen + 1 or self._pool is None:
                return self.catalog
            try:
                async with self._pool.connection() as connection, connection.transaction():
                    await connection.execute("set local search_path = ''")
                    self._catalog = await read_catalog(connection)
            except (psycopg.Error, PoolTimeout):
                _log.exception("schema_not_read")
                raise unavailable() from None
            self._readings += 1
            return self._catalog

    async def run(
        self,
        settings: Sequence[tuple[str, str]],
        statement: Statement,
        *,
        read_only: bool,
        check: Callable[[Result], None],
    ) -> Result:
        """Runs one statement in one transaction of its own, under `settings`.

        Args:
            settings: pairs of name and value that hold for the transaction; the role is one.
            statement: of `rest.sql`.
            read_only: whether PostgreSQL must refuse to write.
            check: sees the result before it is committed; what it raises rolls back.

        Raises:
            ApiError: the database is away, or no connection came free within 10 s.
            psycopg.Error: PostgreSQL refused.
        """
        if self._pool is None:
            raise unavailable()
        try:
            async with self._pool.connection() as connection:
                return await _transact(connection, settings, statement, read_only, check)
        except PoolTimeout:
            message = "Timed out acquiring connection from connection pool."
            raise ApiError(504, "PGRST003", message) from None

    async def _follow(self, first: asyncio.Event) -> None:
        """Keeps pool and schema fresh for as long as it takes; an outage is told once."""
        told_away = False
        while True:
            try:
                async with self._connected() as listener:
                    first.set()
                    told_away = False
                    async for notice in listener.notifies():
                        if notice.payload in ("", "reload schema"):
                            await self.reread()
            except (psycopg.Error, PoolTimeout, ApiError) as error:
                if not told_away:
                    _log.warning("database_away", extra={"reason": type(error).__name__})
                told_away = True
            except Exception:  # whatever it was, requests must not be refused for ever
                _log.exception("database_lost")
            await asyncio.sleep(_RETRY_SECONDS)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        async with (
            await psycopg.AsyncConnection.connect(self._dsn, autocommit=True) as listener,
            AsyncConnectionPool(
                self._dsn,
                min_size=_POOL_MIN,
                max_size=_POOL_MAX,
                timeout=_POOL_SECONDS,
                kwargs={"autocommit": True, "cursor_factory": psycopg.AsyncRawCursor},
                open=False,
            ) as pool,
        ):
            await listener.execute("listen pgrst")
            self._pool = pool
            try:
                await self.reread()
                yield listener
            finally:
                self._pool = None


async def _transact(
    connection: psycopg.AsyncConnection[Any],
    settings: Sequence[tuple[str, str]],
    statement: Statement,
    read_only: bool,
    check: Callable[[Result], None],
) -> Result:
    done = False
    try:
        await connection.execute(_opening(connection, settings, read_only))
        # Binary results come by the extended protocol alone, which takes one statement and no more.
        cursor = await connection.execute(statement.sql.encode(), statement.parameters, binary=True)
        row = await cursor.fetchone()
        assert row is not None
        result = Result(*row)
        check(result)
        await connection.execute(b"commit")
        done = True
        return result
    finally:
        if not done and not connection.closed:
            with contextlib.suppress(psycopg.OperationalError):
                await connection.execute(b"rollback")


def _opening(
    connection: psycopg.AsyncConnection[Any], settings: Sequence[tuple[str, str]], read_only: bool
) -> bytes:
    """Begins and sets in one trip, which only text without parameters can do.

    A function may have set something for the whole session; the next caller must not find it.
    """
    calls = sql.SQL(", ").join(
        sql.SQL("set_config({}, {}, true)").format(sql.Literal(name), sql.Literal(value))
        for name, value in settings
    )
    begin = f"reset all; begin{' read only' if read_only else ''}; select "
    return begin.encode() + calls.as_bytes(connection)
