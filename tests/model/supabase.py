"""Supabase as one process sees it: a store to write to, a client to read with, wake-ups.

Every answer takes its time and any of them may be lost; what was asked may have happened all the
same.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import Any, Self
from uuid import UUID

import httpx

from conv_realtime.errors import StoreError
from conv_realtime.models import Row, Table
from conv_realtime.ports import KnownConversation
from conv_realtime.testing import MemoryStore
from tests.model.database import Database

LONGEST_TRANSACTION = 3.0


class Supabase:
    """The database, Realtime and the network to them.

    Attributes:
        up: whether the network carries anything.
        silent: whether Realtime tells nobody anything, until somebody joins.
        loss: the part of wake-ups that is lost.
    """

    def __init__(self, chance: random.Random) -> None:
        self.database = Database()
        self.up = True
        self.silent = False
        self.loss = 0.2
        self.chance = chance
        self._listeners: dict[ModelWakeUps, Callable[[Any], None]] = {}

    async def travel(self) -> None:
        """Let a request or an answer be on its way.

        Raises:
            httpx.ConnectError: the network is down, or this one had bad luck.
        """
        await asyncio.sleep(self.chance.uniform(0.001, 0.02))
        if not self.up or self.chance.random() < 0.05:
            raise httpx.ConnectError("the network is away")

    def transact(self, rows: Sequence[Row]) -> asyncio.Future[int]:
        """Write rows in a transaction of some length, which nobody can call back."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[int] = loop.create_future()
        done.add_done_callback(lambda _: done.exception())  # who asked may have gone
        stream = self.database.stream
        tx = self.database.begin()
        slow = self.chance.random() < 0.1
        length = self.chance.uniform(0.001, LONGEST_TRANSACTION if slow else 0.03)
        loop.call_later(length, self._commit, tx, stream, rows, done)
        return done

    def _commit(self, tx: int, stream: str, rows: Sequence[Row], done: asyncio.Future[int]) -> None:
        if stream != self.database.stream:
            done.set_exception(_refused("57P01", "the database was restored"))
            return
        if not all(map(self.database.has_parent, rows)):
            self.database.abort(tx)
            done.set_exception(_refused("23503", "its parent is missing"))
            return
        changed, cursor = self.database.commit(tx, rows)
        done.set_result(changed)
        if cursor is not None:
            self._announce({"payload": {"cursor": cursor}})

    def _announce(self, message: Any) -> None:
        for wake in [] if self.silent else list(self._listeners.values()):
            for _ in range(self.chance.choice((1, 1, 1, 2))):
                if self.chance.random() >= self.loss:
                    loop = asyncio.get_running_loop()
                    loop.call_later(self.chance.uniform(0, 0.05), wake, message)

    def join(self, who: ModelWakeUps, wake: Callable[[Any], None]) -> None:
        """Tell somebody of every commit from now on."""
        self.silent = False
        self._listeners[who] = wake

    def leave(self, who: ModelWakeUps) -> None:
        """Tell them no more."""
        self._listeners.pop(who, None)


def _refused(code: str, reason: str) -> StoreError:
    return StoreError("messages", code, reason, retryable=code.startswith("57"))


class ModelStore(MemoryStore):
    """A `Store` at the other end of the network, as far as sending needs one."""

    def __init__(self, supabase: Supabase) -> None:
        super().__init__()
        self._supabase = supabase

    async def database(self) -> str:
        """Return the stream, which a restore changes."""
        await self._travel("projects")
        return self._supabase.database.stream

    async def write(
        self, table: Table, rows: Sequence[Row], *, history: bool = False, more: bool = False
    ) -> int:
        """Write in one transaction; neither a lost answer nor who gives up undoes it."""
        await self._travel(table)
        changed = await asyncio.shield(self._supabase.transact(rows))
        await self._travel(table)
        return changed

    async def known(self, conversations: Collection[UUID]) -> Mapping[UUID, KnownConversation]:
        """Say that nothing is known: files here never get shorter."""
        return {}

    async def mark_deleted(self, messages: Collection[UUID], revision: int, at: datetime) -> int:
        """Take nothing back."""
        return 0

    async def _travel(self, table: Table) -> None:
        try:
            await self._supabase.travel()
        except httpx.ConnectError as error:
            raise StoreError(table, "ConnectError", str(error), retryable=True) from error


class ModelClient:
    """As much of supabase-py's client as `SupabaseFeed` uses."""

    realtime_url = "ws://model"
    supabase_key = "key"

    def __init__(self, supabase: Supabase) -> None:
        self._supabase = supabase
        self.auth = SimpleNamespace(get_session=self._no_session)

    async def _no_session(self) -> None:
        return None

    def rpc(self, name: str, parameters: Mapping[str, Any]) -> _Asked:
        """Ask `changes_since`."""
        assert name == "changes_since"
        database = self._supabase.database
        return _Asked(
            self._supabase,
            lambda: database.changes_since(parameters["cursor"], parameters["max_rows"]),
        )

    def table(self, name: str) -> _Query:
        """Ask for rows of a table."""
        return _Query(self._supabase, name)


class _Asked:
    def __init__(self, supabase: Supabase, answer: Callable[[], Any]) -> None:
        self._supabase = supabase
        self._answer = answer

    async def execute(self) -> SimpleNamespace:
        await self._supabase.travel()
        data = self._answer()
        await self._supabase.travel()
        return SimpleNamespace(data=data)


class _Query:
    """A select that is put together as postgrest-py does it."""

    def __init__(self, supabase: Supabase, table: str) -> None:
        self._supabase = supabase
        self._table = table
        self._filters: list[Callable[[Mapping[str, Any]], bool]] = []
        self._order: tuple[str, bool] = ("id", False)
        self._limit = 1000

    def select(self, columns: str) -> Self:
        return self

    def retry(self, enabled: bool) -> Self:
        return self

    def eq(self, column: str, value: str) -> Self:
        self._filters.append(lambda row: str(row[column]) == value)
        return self

    def in_(self, column: str, values: Sequence[str]) -> Self:
        self._filters.append(lambda row: str(row[column]) in values)
        return self

    def is_(self, column: str, value: str) -> Self:
        self._filters.append(lambda row: row[column] is None)
        return self

    def gt(self, column: str, value: str) -> Self:
        self._filters.append(lambda row: str(row[column]) > value)
        return self

    def order(self, column: str, *, desc: bool = False) -> Self:
        self._order = column, desc
        return self

    def limit(self, count: int) -> Self:
        self._limit = count
        return self

    async def execute(self) -> SimpleNamespace:
        return await _Asked(self._supabase, self._answer).execute()

    def _answer(self) -> list[dict[str, Any]]:
        rows = self._supabase.database.select(self._table)
        found = [row for row in rows if all(holds(row) for holds in self._filters)]
        column, desc = self._order
        return sorted(found, key=lambda row: row[column], reverse=desc)[: self._limit]


class ModelWakeUps:
    """In the place of `WakeUps`: a join that may take a while, and never notices a silence."""

    supabase: Supabase

    def __init__(
        self,
        url: str,
        key: str,
        topic: str,
        access_token: Callable[[], Awaitable[str | None]],
        wake: Callable[[Any], None],
    ) -> None:
        self.state = "connecting"
        self._wake = wake
        self._trouble = asyncio.Event()

    async def run(self) -> None:
        """Join again after every trouble, until cancelled."""
        while True:
            self._trouble.clear()
            try:
                await self.supabase.travel()
                self.supabase.join(self, self._wake)
                self.state = "joined"
                self._wake(None)
                await self._trouble.wait()
            except httpx.ConnectError:
                self.state = "lost"
            finally:
                self.supabase.leave(self)
            await asyncio.sleep(0.5)

    def distrust(self) -> None:
        """Join anew."""
        self._trouble.set()

    async def set_token(self, token: str | None) -> None:
        """Need none."""
