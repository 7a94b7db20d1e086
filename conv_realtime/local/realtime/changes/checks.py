"""Asks policies so that one that never answers holds up nobody but those whom it is about.

PostgreSQL ends a check after some seconds. Who has failed so is asked through one connection of
its own until it answers again, and the others have theirs to themselves.
"""

from __future__ import annotations

import asyncio
import logging

import psycopg

from conv_realtime.local.realtime.changes.sight import Answer, Question, ask
from conv_realtime.local.realtime.changes.subscriptions import GroupKey
from conv_realtime.local.realtime.connections import RETRY_SECONDS, Away, Connections, condition

log = logging.getLogger("conv_realtime.local.realtime")

CONNECTIONS = 4


class CheckFailed(Exception):
    """A policy or a condition failed or took too long: what it hides is not known.

    Its text names the failure, and no more: PostgreSQL's own words may quote a row.
    """


class Checks:
    """The way to the policies.

    Args:
        dsn: of the database.
        statement_seconds: after which a check is given up.
    """

    def __init__(self, dsn: str, statement_seconds: float) -> None:
        self._connections = Connections(
            dsn,
            "authenticator",
            limit=CONNECTIONS,
            statement_seconds=statement_seconds,
            search_path="public,extensions",
        )
        self._quick = asyncio.Semaphore(CONNECTIONS - 1)
        self._slow = asyncio.Semaphore(1)
        self._failing: set[tuple[int, str, bool]] = set()
        self.away = False

    async def ask(self, key: GroupKey, question: Question) -> list[Answer]:
        """Asks on behalf of a group; waits for as long as the database is away.

        Raises:
            CheckFailed: there is no answer.
        """
        kind = (question.table.relation.oid, key.user.role, key.alone is not None)
        while True:
            turns = self._slow if kind in self._failing else self._quick
            async with turns:
                if turns is self._quick and kind in self._failing:
                    continue  # it has failed while this one waited
                try:
                    async with self._connections.take() as connection:
                        answers = await ask(connection, key.user, question)
                except Away:
                    self.away = True
                except psycopg.Error as error:
                    self._failing.add(kind)
                    failure = condition(error)
                    log.warning("changes_unchecked table=%s: %s", question.table.name, failure)
                    raise CheckFailed(failure) from error
                else:
                    self.away = False
                    self._failing.discard(kind)
                    return answers
            await asyncio.sleep(RETRY_SECONDS)

    async def close(self) -> None:
        """Closes the connections."""
        await self._connections.close()
