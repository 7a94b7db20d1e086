"""An event loop in a thread of its own, for tests of either colour.

What a test waits for must not stop the server that it waits for: a test that blocks its own loop,
or has none, still has a Supabase that answers.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, Self, TypeVar

from conv_realtime.background import whole

T = TypeVar("T")


class LoopThread:
    """Runs coroutines in its own thread between entering and leaving.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Starts the thread."""
        running: Future[asyncio.AbstractEventLoop] = Future()
        # A daemon, so that an interpreter that ends in a hurry does not wait for it.
        self._thread = threading.Thread(target=_turn, args=[running], name=self._name, daemon=True)
        self._thread.start()
        self._loop = running.result()
        return self

    def __exit__(self, *exception: object) -> None:
        """Cancels what still runs and ends the thread."""
        loop, thread = self._loop, self._thread
        assert loop is not None and thread is not None
        self._loop = None
        loop.call_soon_threadsafe(loop.stop)
        thread.join()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Starts a coroutine; gives its future, which cancels it."""
        if self._loop is None:
            coroutine.close()
            raise RuntimeError(f"{self._name} has not been started, or has ended")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def call(self, function: Callable[[], object]) -> None:
        """Has a function called there soon; never, once the thread has ended."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(function)

    def ask(self, function: Callable[[], T]) -> T:
        """Blocks until a function was called there; gives what it returned."""

        async def called() -> T:
            return function()

        return self.submit(called()).result()


def _turn(running: Future[asyncio.AbstractEventLoop]) -> None:
    runner = asyncio.Runner()
    try:
        loop = runner.get_loop()
    except BaseException as error:  # no file descriptor is left, for one
        running.set_exception(error)
        return
    with runner:
        running.set_result(loop)
        loop.run_forever()


class InThread(Generic[T]):
    """An async context manager that lives in a `LoopThread`, for `with` and for `async with`.

    It is entered and left in one task, as managers need that hold a task group. Cancelling an
    entering or a leaving waits until what was begun has ended, in its thread.

    Args:
        thread: where it lives; running by the time that this is entered.
        manager: what is entered there.
    """

    def __init__(self, thread: LoopThread, manager: AbstractAsyncContextManager[T]) -> None:
        self._thread = thread
        self._manager = manager
        self._leave = asyncio.Event()
        self._hosted: Future[None] | None = None
        self._hosting: asyncio.Task[None] | None = None

    def __enter__(self) -> T:
        entered = self._begin()
        try:
            return entered.result()
        except BaseException:
            self._give_up().result()
            raise

    def __exit__(self, *exception: object) -> None:
        self._end().result()

    async def __aenter__(self) -> T:
        entered = self._begin()
        try:
            return await asyncio.wrap_future(entered)
        except BaseException:
            await whole(asyncio.wrap_future(self._give_up()))
            raise

    async def __aexit__(self, *exception: object) -> None:
        await whole(asyncio.wrap_future(self._end()))

    def _begin(self) -> Future[T]:
        entered: Future[T] = Future()
        entered.set_running_or_notify_cancel()  # its result is told, whoever waits no more
        self._hosted = self._thread.submit(self._host(entered))
        return entered

    def _end(self) -> Future[None]:
        assert self._hosted is not None
        self._thread.call(self._leave.set)
        return self._hosted

    def _give_up(self) -> Future[None]:
        """Has what was begun end; gives what is done when it has."""
        assert self._hosted is not None
        self._hosted.cancel()
        return self._thread.submit(self._over())

    async def _over(self) -> None:
        if self._hosting is not None:
            await asyncio.wait({self._hosting})

    async def _host(self, entered: Future[T]) -> None:
        self._hosting = asyncio.current_task()
        try:
            async with self._manager as value:
                entered.set_result(value)
                await self._leave.wait()
        except BaseException as error:
            if entered.done():
                raise
            entered.set_exception(error)
