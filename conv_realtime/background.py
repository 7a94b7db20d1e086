"""Work that ends with the code that began it, also where that is cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_Result = TypeVar("_Result")

AGAIN_SECONDS = 5.0
"""How long work that was cancelled may take to end before it is cancelled again."""

logger = logging.getLogger("conv_realtime.background")


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """Run `work` beside the body and end it with it; should it fail, the log says so.

    Work that does not end is cancelled again: before Python 3.12 `asyncio.wait_for` loses a
    cancellation that comes together with what it waits for, and psycopg's pool waits by it.
    """
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_log_failure)
    try:
        yield
    finally:
        task.cancel()
        await whole(_ended(task))


async def _ended(task: asyncio.Task[None]) -> None:
    while not (await asyncio.wait({task}, timeout=AGAIN_SECONDS))[0]:
        task.cancel()


async def whole(work: Awaitable[_Result]) -> _Result:
    """Return the result of `work`; who is cancelled meanwhile, however often, waits for its end."""
    working = asyncio.ensure_future(work)
    try:
        # Not `asyncio.shield`: from Python 3.14 on it logs what fails when nobody waits any more.
        await asyncio.wait([working])
    except asyncio.CancelledError:
        while not working.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([working])
        if not working.cancelled() and (error := working.exception()) is not None:
            # Ctrl-C also reaches the programs that a command has started.
            logger.debug("what was cancelled has failed", exc_info=error)
        raise
    return working.result()


async def on_thread(work: Callable[_P, _Result], *args: _P.args, **kwargs: _P.kwargs) -> _Result:
    """Return the result of `work`, done on a thread. Cancelling waits for its end.

    `asyncio.to_thread` would leave the thread to itself. It goes on then with files, formats and
    a state file that are being closed, and closing a connection of SQLite that is used on a
    thread ends the process.
    """
    loop = asyncio.get_running_loop()
    return await whole(loop.run_in_executor(None, partial(work, *args, **kwargs)))


def was_cancelled() -> bool:
    """Return whether a `CancelledError` is meant for the current task.

    Else what it waited for was cancelled. Of no use without such an error: some libraries cancel a
    task for a timeout of theirs, and never take that back.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("%s failed", task.get_name(), exc_info=error)
