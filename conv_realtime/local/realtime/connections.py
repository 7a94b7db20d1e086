"""A few connections that are taken in turn, and forget an outage as soon as it is over.

Not a pool of psycopg_pool: that one keeps dead connections and growing delays for a while after
PostgreSQL has restarted.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

CONNECT_SECONDS = 5
RETRY_SECONDS = 0.2
"""How long those who cannot do without wait after `Away`."""

Connection = psycopg.AsyncConnection[tuple[Any, ...]]


class Away(Exception):
    """The database cannot be asked right now; nothing is known about what was asked."""


class Connections:
    """At most `limit` connections as one role, opened when they are needed.

    Args:
        dsn: of a role that may log in.
        user: the role instead of the one that `dsn` names; None for that one.
        limit: how many at once; who comes later waits, however many wait.
        statement_seconds: after which PostgreSQL ends a statement.
        search_path: schemas whose names need not be qualified, without blanks.
        name: what PostgreSQL shows them as.
    """

    def __init__(
        self,
        dsn: str,
        user: str | None,
        *,
        limit: int,
        statement_seconds: float,
        search_path: str = "",
        name: str = "conv_realtime_changes",
    ) -> None:
        self._conninfo = make_conninfo(
            dsn,
            user=user,
            application_name=name,
            connect_timeout=CONNECT_SECONDS,
            options=f"-c statement_timeout={int(statement_seconds * 1000)}"
            f" -c search_path={search_path}",
        )
        self._turns = asyncio.Semaphore(limit)
        self._idle: list[Connection] = []

    @asynccontextmanager
    async def take(self) -> AsyncIterator[Connection]:
        """Lends a connection in autocommit mode; one that was left in any other state is closed.

        Raises:
            Away: there is no database, or it went away meanwhile. Any other `psycopg.Error` is
                the fault of what was asked.
        """
        async with self._turns:
            connection = None
            try:
                connection = self._usable() or await self._connect()
                yield connection
            except (psycopg.Error, OSError) as error:
                if connection is None or connection.closed:
                    raise Away(str(error)) from error
                raise
            finally:
                await self._give_back(connection)

    async def close(self) -> None:
        """Closes what nobody has borrowed."""
        while self._idle:
            await self._idle.pop().close()

    def _usable(self) -> Connection | None:
        """Takes the newest idle connection that PostgreSQL has not ended meanwhile."""
        while self._idle:
            connection = self._idle.pop()
            with suppress(psycopg.OperationalError):
                connection.pgconn.consume_input()
                return connection
            connection.pgconn.finish()
        return None

    async def _connect(self) -> Connection:
        return await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)

    async def _give_back(self, connection: Connection | None) -> None:
        if connection is None:
            return
        idle = psycopg.pq.TransactionStatus.IDLE
        if not connection.closed and connection.info.transaction_status == idle:
            self._idle.append(connection)
        else:
            await connection.close()


@asynccontextmanager
async def asking(connections: Connections) -> AsyncIterator[Connection]:
    """Lends a connection to who asks what is no fault of theirs: any error counts as `Away`."""
    try:
        async with connections.take() as connection:
            yield connection
    except psycopg.Error as error:
        raise Away(str(error)) from error


def condition(error: psycopg.Error) -> str:
    """Names an error by code and condition, such as ``57014 (query_canceled)``."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
    return f"{error.sqlstate} ({name})"
