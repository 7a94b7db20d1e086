"""What is to be sent for several short files, as one request: that costs much the same for ten rows
as for some hundred, and most transcripts are short.

Whoever may send takes along those that wait. Only history comes here, and nothing is judged: what
is refused together is sent for each file alone, which finds out why.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Generic, TypeVar
from uuid import UUID

from conv_realtime.ingest.batches import Batch, merged
from conv_realtime.ports import KnownConversation

_AT_A_TIME = 2
"""Requests under way: while one is answered the next one gathers."""

_QUESTIONS = 100
"""Conversations that are asked about together."""

_Part = TypeVar("_Part")
_Answer = TypeVar("_Answer")
_Known = Mapping[UUID, KnownConversation]


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting(Generic[_Part, _Answer]):
    part: _Part
    answer: asyncio.Future[_Answer | None]


class Joint(Generic[_Part, _Answer]):
    """Joins what waits to be sent.

    Args:
        send: sends several parts as one, and returns the answer, which is that of each.
        share: how much of a request one part is, 1 for all of it.
    """

    def __init__(
        self, send: Callable[[Sequence[_Part]], Awaitable[_Answer]], share: Callable[[_Part], float]
    ) -> None:
        self._send_all = send
        self._share = share
        self._waiting: deque[_Waiting[_Part, _Answer]] = deque()
        self._turns = asyncio.Semaphore(_AT_A_TIME)

    async def send(self, part: _Part) -> _Answer | None:
        """Send a part, alone or with others; return the answer.

        None says nothing of this one: it has to be sent by itself. Cancelling changes nothing
        for the others.
        """
        answer: asyncio.Future[_Answer | None] = asyncio.get_running_loop().create_future()
        one = _Waiting(part, answer)
        self._waiting.append(one)
        try:
            async with self._turns:
                while one in self._waiting:
                    await self._send_group()
            return await answer
        finally:
            if one in self._waiting:
                self._waiting.remove(one)

    async def _send_group(self) -> None:
        group = [self._waiting.popleft()]
        full = self._share(group[0].part)
        while self._waiting:
            full += self._share(self._waiting[0].part)
            if full > 1:
                break
            group.append(self._waiting.popleft())
        answer = None
        try:
            answer = await self._send_all([one.part for one in group])
        finally:
            for one in group:
                if not one.answer.done():
                    one.answer.set_result(answer)


def joint_writes(
    write: Callable[[Batch], Awaitable[bool]], rows: int, size: int
) -> Joint[Batch, bool]:
    """Return what joins batches, within so many rows and bytes as they lie in the files.

    `write` returns whether all of a batch was taken.
    """

    async def together(batches: Sequence[Batch]) -> bool:
        return await write(merged(batches))

    return Joint(together, lambda batch: max(batch.rows / rows, batch.size / size))


def joint_questions(
    ask: Callable[[Collection[UUID]], Awaitable[_Known]],
) -> Joint[Collection[UUID], _Known]:
    """Return what joins questions for what the database has of some conversations."""

    async def together(questions: Sequence[Collection[UUID]]) -> _Known:
        return await ask(set(chain.from_iterable(questions)))

    return Joint(together, lambda ids: len(ids) / _QUESTIONS)
