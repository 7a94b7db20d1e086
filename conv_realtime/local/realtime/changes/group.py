"""One user's changes: what the user may see of them, in order, to all channels of that user.

Each group has a queue and, while that is not empty, a task of its own: a policy that is slow for
one user delays nobody else. What has queued up is asked for together, so a group that falls behind
gets faster by it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from conv_realtime.local.realtime.changes.checks import CheckFailed, Checks
from conv_realtime.local.realtime.changes.delivery import Pace, deliver
from conv_realtime.local.realtime.changes.message import RowChange
from conv_realtime.local.realtime.changes.outcome import Outcome, judge
from conv_realtime.local.realtime.changes.subscriptions import GroupKey, Interest, Subscription

MAX_BATCH_ROWS = 1_000
MAX_QUEUED_ROWS = 4_000
MAX_QUEUED_BYTES = 8 << 20

CHANGES_LOST = "Unable to check who may see some changes, they were not sent: "
TOO_FAR_BEHIND = "Too far behind, some changes were not sent"


@dataclass(frozen=True, slots=True)
class Work:
    """Changes in the order in which they were written, and who is to hear of which tables.

    Attributes:
        changes: of all tables.
        interests: by the table's oid.
        size: of the changes, in bytes.
    """

    changes: Sequence[RowChange]
    interests: Mapping[int, Sequence[Interest]]
    size: int


class Group:
    """The queue of one user.

    Args:
        key: the user.
        checks: asks the database.
        report: tells a subscription that it has missed changes, and why.
        pace: awaited now and then while sending to channels: lets slow readers catch up.
        stall_seconds: a full queue that does not move for so long is emptied.
    """

    def __init__(
        self,
        key: GroupKey,
        checks: Checks,
        report: Callable[[Subscription, str], None],
        pace: Pace,
        stall_seconds: float,
    ) -> None:
        self.key = key
        self._checks = checks
        self._report = report
        self._pace = pace
        self._stall_seconds = stall_seconds
        self._queue: deque[Work] = deque()
        self._rows = self._bytes = 0
        self._failing = False
        self._moved = asyncio.Event()

    @property
    def idle(self) -> bool:
        """Whether nothing is queued."""
        return not self._queue

    async def room(self) -> None:
        """Returns once more can be offered.

        Waits while the queue gets shorter. One that stands still is emptied, and whose it is are
        told: everybody else waits here, too.
        """
        while self._rows >= MAX_QUEUED_ROWS or self._bytes >= MAX_QUEUED_BYTES:
            self._moved.clear()
            if not self._failing or self._checks.away:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._stall_seconds):
                        await self._moved.wait()
            if not (self._moved.is_set() or self._checks.away):
                self.lose(TOO_FAR_BEHIND)

    def offer(self, work: Work) -> None:
        """Queues work; who does so runs the group if it was idle."""
        self._queue.append(work)
        self._rows += len(work.changes)
        self._bytes += work.size

    async def run(self) -> None:
        """Works until nothing is queued."""
        while self._queue:
            batch = self._take()
            oids = dict.fromkeys(oid for work in batch for oid in work.interests)
            outcomes = {oid: await self._judge(batch, oid) for oid in oids}
            self._failing = any(outcome.failed for outcome in outcomes.values())
            for work in batch:
                role = self.key.user.role
                await deliver(role, work.changes, work.interests, outcomes, self._pace)
            self._moved.set()

    async def _judge(self, batch: Sequence[Work], oid: int) -> Outcome:
        changes = [
            change
            for work in batch
            if oid in work.interests
            for change in work.changes
            if change.table.relation.oid == oid
        ]
        interests = [one for work in batch for one in work.interests.get(oid, ())]
        try:
            return await judge(self._checks, self.key, changes, interests)
        except CheckFailed as failure:
            for subscription in dict.fromkeys(one for one, _ in interests):
                self._report(subscription, f"{CHANGES_LOST}{failure}")
            return Outcome.failure()

    def _take(self) -> list[Work]:
        """Takes what is asked for together off the queue."""
        batch: list[Work] = []
        rows = 0
        while self._queue and (not batch or rows + len(self._queue[0].changes) <= MAX_BATCH_ROWS):
            work = self._queue.popleft()
            batch.append(work)
            rows += len(work.changes)
            self._bytes -= work.size
        self._rows -= rows
        return batch

    def lose(self, reason: str) -> None:
        """Empties the queue, and tells those whose changes were in it."""
        lost = [one for work in self._queue for some in work.interests.values() for one, _ in some]
        self._queue.clear()
        self._rows = self._bytes = 0
        for subscription in dict.fromkeys(lost):
            self._report(subscription, reason)
