"""A store that is asked until it answers, for days if need be.

An outage is told once and waited out by all together: who is answered wakes the others, and what
the store asks of one, not to come before some time, goes for all.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from conv_realtime.errors import StoreError
from conv_realtime.ingest import pace
from conv_realtime.ingest.pace import long_waits, waits

logger = logging.getLogger("conv_realtime.ingest")

_Answer = TypeVar("_Answer")


class Asker:
    """Asks a store. One instance serves all files.

    Attributes:
        last_error: what the store said last, None when the last call succeeded.
        retries: requests that failed for a while.
        stubborn: whether to wait, too, for what somebody has to put right: keys, rights, the
            schema. A program that is meant to end raises instead, as it does where the store has
            not answered at all for `pace.FIRST_ANSWER` seconds.
    """

    def __init__(self) -> None:
        self._recovered = asyncio.Event()
        self._answered = False
        self._silent_since: float | None = None
        self._not_before = 0.0
        self._refusal: str | None = None  # the code that was told last
        self.retries = 0
        self.stubborn = False
        self.last_error: StoreError | None = None

    async def ask(self, question: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Return the store's answer, repeated until it has one.

        Raises:
            StoreError: one that does not pass by itself, or no answer ever, unless `stubborn`.
        """
        pauses = waits()
        while True:
            try:
                await self._until_allowed()
                answer = await question()
            except StoreError as error:
                self._note(error)
                if error.retryable:
                    await self._wait_out(error, next(pauses))
                else:
                    await self._wait_for_help(error)
            else:
                self._recover()
                return answer

    def _note(self, error: StoreError) -> None:
        """Keep what the store said. An outage is told once, not with every attempt."""
        told, self.last_error = self.last_error, error
        if error.retry_after:
            self._not_before = max(self._not_before, time.monotonic() + error.retry_after)
        if error.retryable:
            self.retries += 1
            level = logging.WARNING if told is None else logging.DEBUG
            logger.log(level, "store: %s; trying again until it answers", error)

    async def _wait_out(self, error: StoreError, delay: float) -> None:
        """Wait before the next attempt, of what is meant to end not without end.

        Raises:
            StoreError: `error`, where the store has never answered: its address may be wrong.
        """
        if not (self.stubborn or self._answered or error.retry_after):
            now = time.monotonic()
            self._silent_since = self._silent_since or now
            if now - self._silent_since > pace.FIRST_ANSWER:
                raise error
        await self._pause(delay)

    async def _wait_for_help(self, error: StoreError) -> None:
        if not self.stubborn:
            raise error
        self._tell_refusal(error)
        await self._pause(next(long_waits()))

    def _tell_refusal(self, error: StoreError) -> None:
        level = logging.DEBUG if error.code == self._refusal else logging.ERROR
        logger.log(level, "store: %s; trying again every %.0f s", error, pace.LONGEST_DELAY)
        self._refusal = error.code

    async def _pause(self, delay: float) -> None:
        """Wait `delay` seconds, or less when another file gets through."""
        try:
            async with asyncio.timeout(delay):
                await self._recovered.wait()
        except TimeoutError:
            pass

    async def _until_allowed(self) -> None:
        """Wait as long as the store asked to, whoever it told."""
        while (delay := self._not_before - time.monotonic()) > 0:  # noqa: ASYNC110 - it may grow
            await asyncio.sleep(delay * random.uniform(1.0, 1.1))

    def _recover(self) -> None:
        self._answered = True
        if self.last_error is not None:
            logger.warning("the store answers again")
            self.last_error = self._refusal = None
        self._recovered.set()
        self._recovered = asyncio.Event()
