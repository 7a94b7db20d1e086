"""What all faults have in common: they are in force for a while, and they count."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from fnmatch import fnmatchcase
from typing import Any, Generic, Self, TypeVar

from conv_realtime.testing.threads import LoopThread


class Fault:
    """A fault in force: until `undo`, until the `with` block ends, until it is used up.

    Attributes:
        hits: how often it has struck so far.
    """

    def __init__(self, times: int | None = None) -> None:
        self.hits = 0
        self._times = times
        self._undone = asyncio.Event()
        self._registry: Registry[Any] | None = None

    def undo(self) -> None:
        """Ends it; what it holds back goes on. Doing so twice does nothing."""
        if self._registry is not None:
            self._registry.undo(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.undo()

    def strike(self) -> bool:
        """Counts a hit; says whether there was one left. In the server's thread only."""
        if self._times is not None and self.hits >= self._times:
            return False
        self.hits += 1
        return True


F = TypeVar("F", bound=Fault)


class Registry(Generic[F]):
    """The faults of one kind that are in force; read by the server, changed by any thread.

    Args:
        thread: the server's.

    Attributes:
        active: the oldest first. Where it is empty, nothing is looked at and nothing is wrapped.
    """

    def __init__(self, thread: LoopThread) -> None:
        self.active: tuple[F, ...] = ()
        self._all: list[F] = []
        self._thread = thread
        self._lock = threading.Lock()

    def add(self, fault: F) -> F:
        """Puts a fault in force, from the next request or message on."""
        with self._lock:
            fault._registry = self
            self.active += (fault,)
            self._all.append(fault)
        return fault

    def undo(self, fault: F) -> None:
        """Takes a fault out of force and lets go what waits for its end."""
        with self._lock:
            self.active = tuple(one for one in self.active if one is not fault)
        self._thread.call(fault._undone.set)

    def clear(self) -> None:
        """Undoes all that were ever in force: one that is used up may still hold something."""
        with self._lock:
            faults, self._all = self._all, []
        for fault in faults:
            self.undo(fault)


async def first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Returns when one of them has, or has failed; the others are cancelled."""
    tasks = [asyncio.create_task(wait, name="supabase_local.fault") for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def matches(name: str, pattern: str) -> bool:
    """Says whether a path or a topic is meant by a pattern of the shell."""
    return fnmatchcase(name, pattern)
