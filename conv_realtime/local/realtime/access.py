"""Who may read and write a private channel: row level security on ``realtime.messages``.

As Supabase does it, nothing is evaluated but the project's own policies: in one transaction that
is always rolled back, a probe row is inserted, the holder's role and claims are put on, and then
the row is looked for (SELECT policies: may receive) and another is inserted (INSERT policies:
may send). A rolled back row is never decoded, so probes are never broadcast.
"""

from __future__ import annotations

import json
import logging
import uuid
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from conv_realtime.local.realtime.tokens import Token

log = logging.getLogger("conv_realtime.local.realtime")

EXTENSION = "broadcast"

_PROBE = "insert into realtime.messages (id, topic, extension) values (%s, %s, %s)"
_IMPERSONATE = """
    select set_config('role', %(role)s, true),
           set_config('realtime.topic', %(topic)s, true),
           set_config('request.jwt.claims', %(claims)s, true),
           set_config('request.jwt.claim.sub', %(sub)s, true),
           set_config('request.jwt.claim.role', %(role)s, true),
           set_config('request.headers', '{}', true)
"""
_FIND = "select 1 from realtime.messages where id = %s and topic = %s and extension = %s"


@dataclass(frozen=True, slots=True)
class Access:
    """What a token may do on a private channel."""

    read: bool
    write: bool


class AccessUnknown(Exception):
    """The database could not be asked."""


class AccessChecker:
    """Asks the policies.

    Args:
        pool: connections of a role that may write ``realtime.messages`` past its policies and
            may become any role that a token names.
    """

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool

    async def check(self, name: str, token: Token) -> Access:
        """Returns what the token may do on the private channel.

        Args:
            name: the topic without its ``realtime:`` prefix.
            token: of the one who asks.

        Raises:
            AccessUnknown: the database is away, or has no partition for today.
        """
        try:
            async with self._pool.connection() as connection:
                return await _probe(connection, name, token)
        except (psycopg.Error, PoolTimeout) as error:
            raise AccessUnknown(str(error)) from error


async def _probe(connection: psycopg.AsyncConnection[Any], name: str, token: Token) -> Access:
    probe, trial = uuid.uuid4(), uuid.uuid4()
    async with connection.transaction(force_rollback=True):
        await connection.execute(_PROBE, (probe, name, EXTENSION))
        if not await _permitted(connection, name, _IMPERSONATE, _settings(name, token)):
            return Access(read=False, write=False)  # a role that does not exist
        read = await _permitted(connection, name, _FIND, (probe, name, EXTENSION))
        write = await _permitted(connection, name, _PROBE, (trial, name, EXTENSION))
    return Access(read, write)


async def _permitted(
    connection: psycopg.AsyncConnection[Any], name: str, statement: LiteralString, values: Any
) -> bool:
    """Returns whether a statement does something to a row; a refusal or a faulty policy is no.

    Raises:
        psycopg.OperationalError: the database went away or gave up.
    """
    try:
        async with connection.transaction():
            cursor = await connection.execute(statement, values)
            return cursor.rowcount == 1
    except psycopg.OperationalError:
        raise
    except psycopg.DatabaseError as error:
        log.debug("policies of realtime.messages refuse %s: %s", name, error)
        return False


def _settings(name: str, token: Token) -> dict[str, str]:
    subject = token.claims.get("sub")
    return {
        "role": token.role,
        "topic": name,
        "claims": json.dumps(dict(token.claims)),
        "sub": subject if isinstance(subject, str) else "",
    }
