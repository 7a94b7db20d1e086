"""Small batches of several files, written as one: a request costs much the same for ten rows as for
some hundred, and most transcripts are short.

Whoever may write takes along those that wait. Only history comes here, and nothing is judged: what
is refused together is written by each file alone, which finds out why.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from conv_realtime.ingest.batches import Batch, merged

_AT_A_TIME = 2
"""Requests under way: while one is answered the next one gathers."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    batch: Batch
    taken: asyncio.Future[bool]


class Joint:
    """Joins what waits to be written.

    Args:
        write: writes a batch, and returns whether all of it was taken.
        rows, size: how much one request takes; bytes as they lie in the files.
    """

    def __init__(self, write: Callable[[Batch], Awaitable[bool]], rows: int, size: int) -> None:
        self._write_all = write
        self._rows = rows
        self._bytes = size
        self._waiting: deque[_Waiting] = deque()
        self._turns = asyncio.Semaphore(_AT_A_TIME)

    async def write(self, batch: Batch) -> bool:
        """Write a batch, alone or with others; return whether it was taken.

        False says nothing of this one: it has to be written by itself. Cancelling changes nothing
        for the others.
        """
        one = _Waiting(batch, asyncio.get_running_loop().create_future())
        self._waiting.append(one)
        try:
            async with self._turns:
                while one in self._waiting:
                    await self._write_group()
            return await one.taken
        finally:
            if one in self._waiting:
                self._waiting.remove(one)

    async def _write_group(self) -> None:
        group = [self._waiting.popleft()]
        rows, size = group[0].batch.rows, group[0].batch.size
        while self._waiting:
            more = self._waiting[0].batch
            rows, size = rows + more.rows, size + more.size
            if rows > self._rows or size > self._bytes:
                break
            group.append(self._waiting.popleft())
        taken = False
        try:
            taken = await self._write_all(merged([one.batch for one in group]))
        finally:
            for one in group:
                if not one.taken.done():
                    one.taken.set_result(taken)
