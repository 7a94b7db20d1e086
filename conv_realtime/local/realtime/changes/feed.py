"""From the write-ahead log to the groups, for as long as somebody listens.

The stream is one of its own, beside that of the broadcasts: changes are held back at their source
while their readers are slow, and broadcasts never wait for that. A transaction is taken in parts,
so its size does not matter.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from conv_realtime.local.realtime.changes.admission import PUBLICATION
from conv_realtime.local.realtime.changes.checks import Checks
from conv_realtime.local.realtime.changes.delivery import Pace
from conv_realtime.local.realtime.changes.group import CHANGES_LOST, Group, Work
from conv_realtime.local.realtime.changes.horizon import Horizon
from conv_realtime.local.realtime.changes.message import RowChange
from conv_realtime.local.realtime.changes.subscriptions import (
    GroupKey,
    Interest,
    Subscription,
    Subscriptions,
)
from conv_realtime.local.realtime.changes.tables import Table, describe
from conv_realtime.local.realtime.changes.values import write_rows
from conv_realtime.local.realtime.connections import RETRY_SECONDS, Away, Connection, Connections
from conv_realtime.local.wal.pgoutput import Change, Relation, Transaction
from conv_realtime.local.wal.source import WalSource

log = logging.getLogger("conv_realtime.local.realtime")

PART_ROWS = 500
PART_BYTES = 256 * 1024
QUEUED_PARTS = 4
LINGER_SECONDS = 30.0
# A table that is altered, or whose rights are, is described anew by the stream itself; only what
# a role gets from other roles changes silently.
_TABLE_SECONDS = 1.0


class Feed:
    """The stream and the groups that it feeds.

    Args:
        dsn: of a role that may replicate.
        subscriptions: who has asked for what; read for each part anew.
        checks: asks the policies.
        report: tells a subscription that it has missed changes, and why.
        pace: see `deliver`.
        statement_seconds: after which a query to the catalog is given up.
        stall_seconds: see `Group`.
        connected: told when changes are certain to be seen, and when they no longer are.
    """

    def __init__(
        self,
        dsn: str,
        subscriptions: Subscriptions,
        checks: Checks,
        *,
        report: Callable[[Subscription, str], None],
        pace: Pace,
        statement_seconds: float,
        stall_seconds: float,
        connected: Callable[[bool], None],
    ) -> None:
        self._dsn = dsn
        self._subscriptions = subscriptions
        self._checks = checks
        self._report = report
        self._pace = pace
        self._stall_seconds = stall_seconds
        self._connected = connected
        self._catalog = Connections(dsn, "postgres", limit=1, statement_seconds=statement_seconds)
        self._horizon = Horizon()
        self._parts: asyncio.Queue[Transaction] = asyncio.Queue()
        self._taken = asyncio.Event()
        self._wanted = asyncio.Event()
        self._unwanted = asyncio.Event()
        self._groups: dict[GroupKey, Group] = {}
        self._tables: dict[int, tuple[float, frozenset[str], Table]] = {}

    def want(self, *, wanted: bool) -> None:
        """Tells whether anybody listens."""
        (self._wanted if wanted else self._unwanted).set()
        (self._unwanted if wanted else self._wanted).clear()

    async def run(self) -> None:
        """Feeds until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._dispatch(tasks), name="conv_realtime.local.changes")
                await self._stream()
        finally:
            await self._catalog.close()

    async def _stream(self) -> None:
        """Streams while somebody listens, and a little longer."""
        while True:
            await self._wanted.wait()
            source = WalSource(
                self._dsn,
                [PUBLICATION],
                self._parts.put_nowait,
                connected=self._connected,
                ready=self._ready,
                wants=self._wants,
                part_rows=PART_ROWS,
                part_bytes=PART_BYTES,
            )
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(source.run(), name="conv_realtime.local.changes.wal")
                while self._wanted.is_set():
                    await self._unwanted.wait()
                    await asyncio.sleep(LINGER_SECONDS)
                reading.cancel()

    def _wants(self, relation: Relation) -> bool:
        return bool(self._subscriptions.interested(relation.schema, relation.name))

    async def _ready(self) -> None:
        while self._parts.qsize() >= QUEUED_PARTS:
            self._taken.clear()
            await self._taken.wait()

    async def _dispatch(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            part = await self._parts.get()
            self._taken.set()
            try:
                await self._route(part, tasks)
            except Exception as error:  # one odd row must not end everybody's stream
                log.error("changes_not_told: %s", type(error).__name__)
                self._lose(part, f"{CHANGES_LOST}{type(error).__name__}")

    def _lose(self, part: Transaction, reason: str) -> None:
        relations = {change.relation.oid: change.relation for change in part.changes}
        interests = (
            interest
            for one in relations.values()
            for some in self._subscriptions.interested(one.schema, one.name).values()
            for interest in some
        )
        for subscription in dict.fromkeys(one for one, _ in interests):
            self._report(subscription, reason)

    async def _route(self, part: Transaction, tasks: asyncio.TaskGroup) -> None:
        rows = (one for one in part.changes if one.kind != "TRUNCATE")
        wanted = [one for one in rows if self._wants(one.relation)]
        if not wanted:
            return
        described: frozenset[str] = frozenset()
        changes: list[RowChange] = []
        while not changes or not self._subscriptions.roles <= described:
            described = self._subscriptions.roles
            changes = await self._seen(part, wanted)
            if not changes:
                return
        interests: dict[GroupKey, dict[int, list[Interest]]] = {}
        for relation in {one.oid: one for one in (change.relation for change in wanted)}.values():
            found = self._subscriptions.interested(relation.schema, relation.name)
            for key, interested in found.items():
                interests.setdefault(key, {})[relation.oid] = interested
        for key, tables in interests.items():
            await self._offer(key, Work(changes, tables, part.size), tasks)

    async def _seen(self, part: Transaction, wanted: list[Change]) -> list[RowChange]:
        """Waits until the changes can be seen, and while the database is away."""
        while True:
            try:
                async with self._catalog.take() as connection:
                    await self._horizon.reached(connection, part.xid)
                    return await self._described(connection, part, wanted)
            except Away:
                await asyncio.sleep(RETRY_SECONDS)

    async def _offer(self, key: GroupKey, work: Work, tasks: asyncio.TaskGroup) -> None:
        if key in self._groups:
            await self._groups[key].room()
        group = self._groups.get(key)
        if group is not None:
            group.offer(work)
            return
        group = Group(key, self._checks, self._report, self._pace, self._stall_seconds)
        self._groups[key] = group
        group.offer(work)
        tasks.create_task(self._work(group), name="conv_realtime.local.changes.group")

    async def _work(self, group: Group) -> None:
        try:
            while not group.idle:
                try:
                    await group.run()
                except Exception as error:
                    log.error("changes_not_sent: %s", type(error).__name__)
                    group.lose(f"{CHANGES_LOST}{type(error).__name__}")
        finally:
            del self._groups[group.key]

    async def _described(
        self, connection: Connection, part: Transaction, wanted: list[Change]
    ) -> list[RowChange]:
        """Puts changes and their tables together; those of a table that is gone are left out."""
        by_relation: dict[int, list[int]] = {}
        for at, change in enumerate(wanted):
            by_relation.setdefault(id(change.relation), []).append(at)
        made: dict[int, RowChange] = {}
        for places in by_relation.values():
            table = await self._table(connection, wanted[places[0]].relation)
            if table is None:
                continue
            some = [wanted[at] for at in places]
            written = await write_rows(connection, table.columns, some)
            for at, change, values in zip(places, some, written, strict=True):
                made[at] = RowChange(table, change, values, part.committed_at)
        return [made[at] for at in sorted(made)]

    async def _table(self, connection: Connection, relation: Relation) -> Table | None:
        roles = self._subscriptions.roles
        known = self._tables.get(relation.oid)
        if known is not None:
            at, asked, table = known
            fresh = time.monotonic() - at < _TABLE_SECONDS and roles <= asked
            if fresh and table.relation is relation:
                return table
        found = await describe(connection, relation, roles)
        if found is not None:
            self._tables[relation.oid] = time.monotonic(), roles, found
        return found
