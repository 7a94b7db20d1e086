"""The database of a day, whatever befalls it: what is in it, and what it refuses."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

_AGAIN_SECONDS = 0.02

Rows = dict[str, dict[str, Any]]
"""By id."""


class Database:
    """Looks into a database, by a connection that is made anew where it ended."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._db: psycopg.AsyncConnection[dict[str, Any]] | None = None

    async def close(self) -> None:
        """End the connection."""
        if self._db is not None:
            await self._db.close()

    async def rows(self) -> tuple[Rows, Rows]:
        """Return the conversations and the messages.

        Raises:
            psycopg.OperationalError: nothing can be read now.
        """
        conversations = await self._sql("select * from public.conversations")
        messages = await self._sql("select * from public.messages")
        return {str(row["id"]): _plain(row) for row in conversations}, {
            str(row["id"]): _plain(row) for row in messages
        }

    async def alter(self, what: str, within: float) -> None:
        """Change the table of messages, also while PostgreSQL is just being restarted."""
        async with asyncio.timeout(within):
            while True:
                with suppress(psycopg.OperationalError):
                    await self._sql(f"alter table public.messages {what}")
                    return
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _sql(self, statement: str) -> list[dict[str, Any]]:
        try:
            if self._db is None or self._db.closed:
                self._db = await psycopg.AsyncConnection.connect(
                    self._dsn, autocommit=True, row_factory=dict_row
                )
            cursor = await self._db.execute(statement.encode())
            return await cursor.fetchall() if cursor.description else []
        except psycopg.OperationalError:
            if self._db is not None:
                await self._db.close()
            self._db = None
            raise


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, UUID) else value for name, value in row.items()}
