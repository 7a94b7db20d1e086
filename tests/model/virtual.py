"""An event loop whose time passes only while nothing can be done."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

LONGEST_SECONDS = 1e5

_Result = TypeVar("_Result")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer instead of waiting for it; real files and sockets are not served."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Jump(self))

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self.now


class _Jump(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        """Let the time that would be waited be over."""
        if timeout is None:
            raise RuntimeError("everybody waits for something that will never happen")
        self._loop.now += max(timeout, 0.0)
        if self._loop.now > LONGEST_SECONDS:
            raise RuntimeError("this goes on for ever")
        return []


def run(main: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a coroutine to its end, in no time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
