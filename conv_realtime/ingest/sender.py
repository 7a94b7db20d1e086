"""Rows to the store: in order, repeated until acknowledged, and never silently dropped.

What fails by itself passes by itself and is repeated, for days if need be: the file is the
queue. What the database refuses for what a row says is narrowed down to that row, which is
noted as a dead letter, so that it holds up nothing behind it. A row is only blamed where others
are taken: a store that refuses everybody wants help, and nothing is parked.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import groupby, islice
from uuid import UUID

from conv_realtime.core.refusals import Refusal, judge
from conv_realtime.errors import StoreError
from conv_realtime.ingest.asking import Asker
from conv_realtime.ingest.batches import Batch
from conv_realtime.ingest.pace import Pace, waits
from conv_realtime.ingest.request import (
    MissingParentError,
    Outcome,
    PutOffError,
    Request,
    halves,
    parent_of,
    spread,
)
from conv_realtime.ingest.rows import Tombstone
from conv_realtime.models import (
    Conversation,
    Project,
    Row,
    StoredFault,
    Table,
    is_beginning,
)
from conv_realtime.ports import Store
from conv_realtime.settings import Settings

logger = logging.getLogger("conv_realtime.ingest")

UNITS_A_MESSAGE = 4
"""Realtime messages that one row costs at most, without receivers."""

_PATIENCE = 6
"""Attempts after which a batch that fails while others get through makes way for them."""

_TRIES = 3
"""Attempts for several files together, before each is written by itself."""

_IN_A_ROW = 3
"""Rows refused one after another, and none taken, that are still blamed without asking."""


class Sender(Asker):
    """Writes batches to a store. One instance serves all files.

    Attributes:
        changed: rows that the store says it wrote.
        refusals: rows refused for good.
        refused: projects and conversations that are dead letters: nothing below them is sent.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        super().__init__()
        self._store = store
        self._live_window = settings.live_window
        self._pace = Pace(settings.realtime_messages_per_second)
        self._projects: set[UUID] = set()
        self._begun: set[UUID] = set()  # conversations of which nothing else was sent yet
        self._taken: Counter[Table] = Counter()
        self._control: dict[Table, Row] = {}  # one that the table took
        self._in_a_row: Counter[Table] = Counter()  # refused since then
        self.changed = self.refusals = 0
        self.refused: set[UUID] = set()

    async def write(self, batch: Batch, path: str, *, resent: bool = False) -> Outcome:
        """Write one batch; return once everything in it is acknowledged or known to be refused.

        `resent` says that the parents of these rows have just been sent again: one that is
        missing all the same was refused. Cancelling leaves some of the batch written, which is
        harmless: it is sent again.

        Raises:
            MissingParentError, PutOffError: see there.
            StoreError: the store refuses for good, or has never answered, and the sender is not
                stubborn.
        """
        batch = replace(batch, stubs=self._unbegun(batch.stubs))
        request = Request(path, self._is_history(batch), resent=resent)
        projects = self._unsent(batch.projects)
        totals = bool(batch.totals)
        # Added up at the end: other files' batches count in between.
        written = await self._write("projects", projects, request.of(projects))
        await self._write("conversations", batch.stubs, request.of(batch.stubs, more=True))
        messages = request.of(batch.messages, more=totals)
        written += await self._write("messages", batch.messages, messages)
        written += await self._mark_deleted(batch.gone)
        written += await self._write("conversations", batch.totals, request.of(batch.totals))
        self.changed += written
        refused = {fault.id for fault in request.faults}
        self._projects.update(row.id for row in projects if row.id not in refused)
        faults = {fault.id: fault for fault in request.faults}.values()
        return Outcome(list(faults), frozenset(request.held))

    async def begin(self, batch: Batch) -> bool:
        """Try to write the stubs of a batch alone; return whether the store had none of them.

        Whatever else comes of it, what is asked and written next finds out, and judges.
        """
        request = Request("", self._is_history(batch))
        if not await self._try_projects(batch.projects, request):
            return False
        new = await self._try("conversations", batch.stubs, request.of((), more=True))
        if new is None or new < len(batch.stubs):
            return False
        self._begun.update(row.id for row in batch.stubs)
        return True

    async def write_history(self, batch: Batch) -> bool:
        """Try to write rows of several files that are no news; return whether all were taken.

        Where they were not, `write` finds out about each file's.
        """
        request = Request("", history=True)
        stubs = self._unbegun(batch.stubs)
        if batch.gone or not await self._try_projects(batch.projects, request):
            return False
        if await self._try("conversations", stubs, request.of((), more=True)) is None:
            return False
        more = request.of((), more=bool(batch.totals))
        if (written := await self._try("messages", batch.messages, more)) is None:
            return False
        self.changed += written
        if (written := await self._try("conversations", batch.totals, request)) is None:
            return False
        self.changed += written
        return True

    async def _try_projects(self, rows: Sequence[Project], request: Request) -> bool:
        projects = self._unsent(rows)
        if (written := await self._try("projects", projects, request)) is None:
            return False
        self.changed += written
        self._projects.update(row.id for row in projects)
        return True

    async def _try(self, table: Table, rows: Sequence[Row], request: Request) -> int | None:
        """Write rows; return how many changed anything, None where they were not taken.

        What passes by itself is tried again: for many files at once that is less than for each.
        """
        if not self.refused.isdisjoint(of for row in rows for of in (row.id, parent_of(row))):
            return None
        for pause in islice(waits(), _TRIES):
            try:
                return await self._once(table, rows, request) if rows else 0
            except StoreError as error:
                if error.retryable:
                    self._note(error)
                if _blame(error, table, request) is not Refusal.PASSES:
                    break
            await self._pause(pause)
        return None

    def _unbegun(self, rows: Sequence[Conversation]) -> Sequence[Conversation]:
        """Return the stubs that are to be written; those that were need not be remembered."""
        new = [row for row in rows if row.id not in self._begun]
        self._begun.difference_update(row.id for row in rows)
        return new

    def _unsent(self, rows: Sequence[Project]) -> Sequence[Project]:
        return [row for row in rows if row.id not in self._projects]

    def is_old(self, newest: datetime | None) -> bool:
        """Return whether rows are no news, of which the newest is of that time."""
        if newest is None:
            return False
        return (datetime.now(UTC) - newest).total_seconds() > self._live_window

    async def _mark_deleted(self, gone: Sequence[Tombstone]) -> int:
        """Mark messages deleted; return how many rows that changed."""
        written = 0
        for (revision, at), group in groupby(sorted(gone, key=_grave), _grave):
            ids = [one.id for one in group]
            written += await self.ask(partial(self._store.mark_deleted, ids, revision, at))
        return written

    def forget_parents(self) -> None:
        """Send projects and stubs again: the database lost what it had."""
        self._projects.clear()
        self._begun.clear()

    # One table -----------------------------------------------------------------------------

    async def _write(self, table: Table, rows: Sequence[Row], request: Request) -> int:
        """Write rows of a table; return how many changed anything."""
        rows = self._with_parents(table, rows, request)
        tries, pauses, taken_before = 0, waits(), self._taken[table]
        while rows:
            try:
                return await self._once(table, rows, request)
            except StoreError as error:
                tries += 1
                refusal = _blame(error, table, request)
                if refusal is Refusal.PARENT:
                    raise MissingParentError(str(error)) from error
                if refusal is Refusal.HEAVY and len(rows) == 1:
                    refusal = Refusal.PASSES if error.retryable else Refusal.ROW
                if refusal is Refusal.UNCLEAR or (
                    refusal is Refusal.ROW and self._in_a_row[table] >= _IN_A_ROW
                ):
                    others = await self._takes_others(table, request)
                    refusal = Refusal.ROW if others else Refusal.UNCLEAR
                if refusal in (Refusal.ROW, Refusal.HEAVY):
                    return await self._narrow(table, rows, request, error)
                self._note(error)
                if refusal is Refusal.HELP:
                    await self._wait_for_help(error)
                elif refusal is Refusal.UNCLEAR:  # nothing says yet whose fault it is
                    self._tell_refusal(error)
                    raise PutOffError(error) from error
                elif tries >= _PATIENCE and self._taken[table] > taken_before:
                    raise PutOffError(error) from error
                else:
                    await self._wait_out(error, next(pauses))
        return 0

    async def _once(self, table: Table, rows: Sequence[Row], request: Request) -> int:
        await self._until_allowed()
        written = await self._store.write(table, rows, history=request.history, more=request.more)
        self._taken[table] += 1
        self._in_a_row[table] = 0
        if not is_beginning(rows[0]):  # which says nothing of whether rows may be changed
            self._control[table] = rows[0]
        self._recover()
        return written

    async def _narrow(
        self, table: Table, rows: Sequence[Row], request: Request, error: StoreError
    ) -> int:
        """Write the rows that can be written: a refused request does not say which cannot."""
        if len(rows) > 1:
            earlier, later = halves(rows)
            written = await self._write(table, earlier, request)
            return written + await self._write(table, later, request)
        row, revision = rows[0], getattr(rows[0], "revision", 0)
        fault = StoredFault(table, row.id, request.path, error.code, error.reason, revision)
        logger.error("the database refuses %s %s of %s: %s", table, row.id, request.path, error)
        request.faults.append(fault)
        self._in_a_row[table] += 1
        self.refusals += 1
        if table != "messages":
            self.refused.add(row.id)
        return 0

    async def _takes_others(self, table: Table, request: Request) -> bool:
        """Return whether the store takes other rows of the table at this moment.

        Asked with one that it took before, which changes nothing; else with some of the batch.
        """
        known = self._control.get(table)
        for row in [known] if known else spread(request.rows):
            try:
                await self._once(table, [row], request)
            except StoreError as error:
                if not known and judge(error.code) in (Refusal.UNCLEAR, Refusal.ROW):
                    continue
                return False
            else:
                return True
        return False

    def _with_parents(self, table: Table, rows: Sequence[Row], request: Request) -> Sequence[Row]:
        """Return the rows without those that hang under what is refused.

        They would find their parent missing, again with every attempt. A conversation that is
        refused itself is tried: it may have changed.
        """
        if table == "projects" or not self.refused:
            return rows
        kept: list[Row] = []
        for row in rows:
            if (parent := parent_of(row)) not in self.refused:
                kept.append(row)
                continue
            request.held.add(row.id)
            if isinstance(row, Conversation):
                self.refused.add(row.id)
                reason = "waits for its project, which was refused"
                request.faults.append(
                    StoredFault(table, row.id, request.path, "parent", reason, row.revision, parent)
                )
        return kept

    def _is_history(self, batch: Batch) -> bool:
        """Return whether rows are no news, or more of them than Realtime would carry."""
        if self.is_old(batch.newest):
            return True
        return not self._pace.spend(batch.rows * UNITS_A_MESSAGE, time.monotonic())


def _grave(one: Tombstone) -> tuple[int, datetime]:
    return one.revision, one.at


def _blame(error: StoreError, table: Table, request: Request) -> Refusal:
    """Return what a refusal of rows of `table` means here."""
    refusal = judge(error.code)
    if refusal is Refusal.PARENT and (table == "projects" or request.resent):
        # The parents are there as far as we could do it; a policy may dislike one row, or all.
        return Refusal.UNCLEAR if error.code == "42501" else Refusal.ROW
    if refusal is Refusal.HELP and error.retryable:  # what the network said
        return Refusal.PASSES
    return refusal
