"""The database that the rows go to: which one is there, and what it has acknowledged.

What was acknowledged speaks of one database, by the stream of its cursors. Another one behind the
same address gets everything; one that is away is taken for the one that was there last.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from uuid import UUID

from conv_realtime.edges import heap
from conv_realtime.edges.store import advised
from conv_realtime.errors import MigrationError, StoreError
from conv_realtime.ingest import stated
from conv_realtime.ingest.by_settings import cleaning
from conv_realtime.ingest.desk import Desk
from conv_realtime.ingest.tender import Tender

logger = logging.getLogger("conv_realtime.ingest")

STATE_SECONDS = 1.0
"""How often is looked whether another process wrote into the state directory."""

_ASK_SECONDS = 3.0


class DatabaseReplacedError(Exception):
    """Behind the same address stands another database than the checkpoints speak of."""


class Database:
    """What is known of the database, by asking it and by the state directory.

    Attributes:
        fault: what its schema lacks, None while it lacks nothing.
    """

    def __init__(self, desk: Desk, tender: Tender) -> None:
        self._desk = desk
        self._tender = tender
        self._replaced_by: str | None = None
        self.fault: str | None = None

    async def meet(self) -> None:
        """Load the checkpoints that speak of the database that is there.

        One that is away is taken for the one that was there last, until it answers.
        """
        desk = self._desk
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                stream = await desk.store.database()
                erased = await self._forgotten()
        except TimeoutError:
            logger.warning("the database does not answer yet; going on without it")
        except StoreError as error:
            if not error.retryable:
                raise advised(error) from error
            logger.warning(
                "the database is away (%s); going on without it. "
                "If that lasts, conv-realtime doctor says what to do",
                error,
            )
        else:
            desk.checkpoints.met_database(stream)
            desk.checkpoints.letters.forget(erased)

    def recall(self) -> None:
        """Begin anew with what the database that is there has acknowledged."""
        desk = self._desk
        if self._replaced_by is not None:
            # Only now: what was under way until here was still meant for the old one.
            desk.checkpoints.met_database(self._replaced_by)
            self._replaced_by = None
        desk.shelf.claims.clear()
        with heap.growing():
            sources = {form.source for form in desk.shelf.formats}
            desk.shelf.remember(desk.checkpoints.load(sources))
            desk.secrets.remember(desk.checkpoints.redacted())
            if desk.announcer.wanted:
                desk.announcer.remember(desk.checkpoints)
        for book in list(desk.shelf.books.values()):
            book.follower = None
        desk.sender.forget_parents()
        self._know_letters()

    def clean_as_set(self) -> None:
        """Send everything once more where it was sent under other settings of what must go."""
        desk = self._desk
        if desk.checkpoints.clean_as(cleaning(desk.settings)):
            self.recall()

    def _know_letters(self) -> None:
        """Take over what the state directory says of dead letters, and of what is forgotten."""
        desk = self._desk
        letters = desk.checkpoints.letters
        desk.sender.refused = {
            fault.id for fault in letters.faults.values() if fault.table != "messages"
        }

    async def watch(self) -> None:
        """Ask now and then whether the database is still the one that acknowledged.

        One that lost its schema is waited for: local listeners hear of the files all the same.
        """
        desk, tender = self._desk, self._tender
        while True:
            try:
                stream = await desk.sender.ask(desk.store.database)
                erased = await desk.sender.ask(self._forgotten)
            except MigrationError as error:
                if self.fault is None:
                    logger.error("%s", error)
                self.fault = str(error)
            else:
                self.fault = None
                if desk.checkpoints.database is None:
                    desk.checkpoints.met_database(stream)
                    self._know_letters()
                elif desk.checkpoints.database != stream:
                    self._replaced_by = stream
                    raise DatabaseReplacedError
                await stated.forget(desk, tender, erased)
            await asyncio.sleep(desk.settings.sweep_seconds)

    async def _forgotten(self) -> Collection[UUID]:
        """Ask which conversations of this machine were erased for good."""
        desk = self._desk
        return await desk.store.forgotten(desk.identity.owner_id, desk.identity.machine)

    async def watch_state(self) -> None:
        """Take up what another process does to the state directory: `forget`, `retry`."""
        desk, tender = self._desk, self._tender
        while True:
            before = desk.checkpoints.letters.faults
            if desk.checkpoints.changed_elsewhere():
                now = desk.checkpoints.letters.faults
                desk.resends.update(before[id].path for id in before.keys() - now.keys())
                self._know_letters()
                await stated.forget(desk, tender, ())
            for path in list(desk.resends):
                tender.look_soon(path)
            await asyncio.sleep(STATE_SECONDS)
