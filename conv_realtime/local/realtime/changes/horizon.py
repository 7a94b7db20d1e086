"""When the rows of a decoded transaction can be seen by others.

Decoding outruns visibility: a walsender may stream a commit some milliseconds before any other
session's snapshot has it. Policies that were asked in between would not find the row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from conv_realtime.local.realtime.connections import Connection

_NEWEST = "select pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::int8"
_VISIBLE = """
    select pg_catalog.pg_visible_in_snapshot(%s::text::xid8, pg_catalog.pg_current_snapshot())
"""
_EPOCH = 1 << 32


class Horizon:
    """Waits for transactions to become visible."""

    def __init__(self) -> None:
        self._newest: int | None = None
        self._reached: int | None = None

    async def reached(self, connection: Connection, xid: int) -> None:
        """Returns once every new snapshot sees a committed transaction.

        Args:
            connection: in autocommit mode, so that each look takes a new snapshot.
            xid: its id, of which the stream tells only the lower 32 bits.
        """
        if xid == self._reached:
            return
        if self._newest is None:
            self._newest = await _value(connection, _NEWEST)
        full = nearest(xid, self._newest)
        for delay in _delays():
            if await _value(connection, _VISIBLE, str(full)):
                break
            await asyncio.sleep(delay)
        self._reached, self._newest = xid, max(full, self._newest)


def nearest(xid: int, to: int) -> int:
    """Gives the full id with these lower 32 bits that is nearest to another full id."""
    ahead = (xid - to + _EPOCH // 2) % _EPOCH - _EPOCH // 2
    return to + ahead


async def _value(connection: Connection, query: str, *values: str) -> int:
    row = await (await connection.execute(query.encode(), values)).fetchone()
    assert row is not None
    return int(row[0])


def _delays() -> Iterator[float]:
    delay = 0.0005
    while True:
        yield delay
        delay = min(delay * 2, 0.02)
