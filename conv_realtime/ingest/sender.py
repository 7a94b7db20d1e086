"""Rows to the store: in order, repeated until acknowledged, and never silently dropped.

What fails by itself passes by itself and is repeated, for days if need be: the file is the
queue. What the database refuses for what a row says is narrowed down to that row, which is
noted as a dead letter, so that it holds up nothing behind it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar
from uuid import UUID

from conv_realtime.errors import StoreError
from conv_realtime.ingest.batches import Batch
from conv_realtime.models import Conversation, Message, Row, StoredFault, Table
from conv_realtime.ports import Store
from conv_realtime.settings import Settings

logger = logging.getLogger("conv_realtime.ingest")

FIRST_DELAY = 0.1
LONGEST_DELAY = 10.0
UNITS_A_MESSAGE = 4
"""Realtime messages that one row costs at most, without receivers."""

# Errors that a row's own content causes: bad data, a constraint, nested too deep.
_ROW_FAULTS = ("22", "23", "54001")
_MISSING_PARENT = frozenset({"23503", "42501"})  # under RLS a missing parent shows as 42501

_Answer = TypeVar("_Answer")


class MissingParentError(Exception):
    """The database does not have the rows that these hang under: it lost what it had."""


class Sender:
    """Writes batches to a store. One instance serves all files.

    Attributes:
        changed: rows that the store says it wrote.
        last_error: what the store said last, None when the last call succeeded.
        stubborn: whether to wait, too, for what somebody has to put right: keys, rights, the
            schema. A program that is meant to end raises instead.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._live_window = settings.live_window
        self._pace = _Pace(settings.realtime_messages_per_second)
        self._clock = clock
        self._projects: set[UUID] = set()
        self._refused_rows: set[UUID] = set()  # projects and conversations: nothing hangs below
        self._recovered = asyncio.Event()
        self.changed = 0
        self.stubborn = False
        self.last_error: StoreError | None = None
        self._refused: str | None = None  # the code that was told last

    async def write(self, batch: Batch, path: str) -> list[StoredFault]:
        """Write one batch; return the rows that the store will never take.

        Returns once everything else is acknowledged. Cancelling leaves some of it written,
        which is harmless: it is sent again.

        Raises:
            MissingParentError: see there.
        """
        request = _Request(path, self._is_history(batch))
        projects = [row for row in batch.projects if row.id not in self._projects]
        totals = bool(batch.totals)
        # Added up at the end: other files' batches count in between.
        written = await self._write("projects", projects, request)
        await self._write("conversations", batch.stubs, request.before(more=True))
        written += await self._write("messages", batch.messages, request.before(more=totals))
        written += await self._write("conversations", batch.totals, request)
        self.changed += written
        self._projects.update(row.id for row in projects)
        return request.faults

    async def ask(self, question: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Return the store's answer, repeated until it has one.

        Raises:
            StoreError: one that does not pass by itself, unless `stubborn`.
        """
        while True:
            try:
                return await self._patiently(question)
            except StoreError as error:
                await self._wait_for_help(error)

    async def _wait_for_help(self, error: StoreError) -> None:
        if not self.stubborn:
            raise error
        level = logging.DEBUG if error.code == self._refused else logging.ERROR
        logger.log(level, "store: %s; trying again every %.0f s", error, LONGEST_DELAY)
        self._refused = error.code
        await self._pause(LONGEST_DELAY)

    async def _patiently(self, ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Return the answer of `ask`, repeated while the store is in passing trouble.

        Raises:
            StoreError: one that does not pass by itself.
        """
        delay = FIRST_DELAY
        while True:
            try:
                answer = await ask()
            except StoreError as error:
                # An outage is told once, not with every attempt of every file.
                told, self.last_error = self.last_error, error
                if not error.retryable:
                    raise
                level = logging.WARNING if told is None else logging.DEBUG
                logger.log(level, "store: %s; trying again until it answers", error)
            else:
                self._recover()
                return answer
            await self._pause(delay)
            delay = min(delay * 2, LONGEST_DELAY)

    def forget_projects(self) -> None:
        """Send projects again: the database lost what it had."""
        self._projects.clear()
        self._refused_rows.clear()

    async def _write(self, table: Table, rows: Sequence[Row], request: _Request) -> int:
        rows = self._with_parents(table, rows)
        if not rows:
            return 0
        write = partial(self._store.write, table, rows, history=request.history, more=request.more)
        while True:
            try:
                written = await self._patiently(write)
                self._refused_rows.difference_update(row.id for row in rows)
                return written
            except StoreError as error:
                if error.code in _MISSING_PARENT and table != "projects":
                    raise MissingParentError(str(error)) from error
                if error.code.startswith(_ROW_FAULTS):
                    return await self._narrow(table, rows, request, error)
                await self._wait_for_help(error)

    def _with_parents(self, table: Table, rows: Sequence[Row]) -> Sequence[Row]:
        """Return the rows without those whose project or conversation was refused for good.

        They would find their parent missing, again with every attempt.
        """
        if not self._refused_rows or table == "projects":
            return rows
        if table == "conversations":
            orphans = {row.id for row in rows if _parent_of(row) in self._refused_rows}
            self._refused_rows |= orphans
            return [row for row in rows if row.id not in orphans]
        return [row for row in rows if _parent_of(row) not in self._refused_rows]

    async def _narrow(
        self, table: Table, rows: Sequence[Row], request: _Request, error: StoreError
    ) -> int:
        """Write the rows that can be written: a refused request does not say which cannot."""
        if len(rows) > 1:
            half = len(rows) // 2
            return await self._write(table, rows[:half], request) + (
                await self._write(table, rows[half:], request)
            )
        fault = StoredFault(table, rows[0].id, request.path, error.code, error.reason)
        logger.error("the database refuses %s %s of %s: %s", table, fault.id, request.path, error)
        request.faults.append(fault)
        if table != "messages":
            self._refused_rows.add(fault.id)
        return 0

    async def _pause(self, delay: float) -> None:
        """Wait `delay` seconds, or less when another file gets through."""
        try:
            async with asyncio.timeout(delay * random.uniform(0.75, 1.25)):
                await self._recovered.wait()
        except TimeoutError:
            pass

    def _recover(self) -> None:
        if self.last_error is not None:
            logger.warning("the store answers again")
            self.last_error = self._refused = None
        self._recovered.set()
        self._recovered = asyncio.Event()

    def _is_history(self, batch: Batch) -> bool:
        """Return whether rows are no news, or more of them than Realtime would carry."""
        if batch.newest is not None:
            if (self._clock() - batch.newest).total_seconds() > self._live_window:
                return True
        rows = len(batch.messages) + len(batch.totals) + len(batch.stubs)
        return not self._pace.spend(rows * UNITS_A_MESSAGE, time.monotonic())


def _parent_of(row: Row) -> UUID | None:
    if isinstance(row, Message):
        return row.conversation_id
    return row.project_id if isinstance(row, Conversation) else None


@dataclass(frozen=True, slots=True)
class _Request:
    """What the writes of one batch have in common; `faults` gathers what is refused."""

    path: str
    history: bool
    more: bool = False
    faults: list[StoredFault] = field(default_factory=list)

    def before(self, *, more: bool) -> _Request:
        """Return the request for rows that `more` of the batch follow."""
        return replace(self, more=more)


class _Pace:
    """Realtime units that may be spent: `rate` a second, saved up for a minute.

    Supabase averages over a minute, and drops what is above in silence.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._saved = self._most = rate * 60
        self._at: float | None = None

    def spend(self, units: int, now: float) -> bool:
        if self._at is not None:
            self._saved = min(self._most, self._saved + (now - self._at) * self._rate)
        self._at = now
        if units > self._saved:
            return False
        self._saved -= units
        return True
