"""Work on threads, none of which is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

from conv_realtime.background import whole

_P = ParamSpec("_P")
_Result = TypeVar("_Result")


async def on_thread(work: Callable[_P, _Result], *args: _P.args, **kwargs: _P.kwargs) -> _Result:
    """Return the result of `work`, done on a thread. Cancelling waits for its end.

    `asyncio.to_thread` would leave the thread to itself. It goes on then with files, formats and
    a state file that are being closed, and closing a connection of SQLite that is used on a
    thread ends the process.
    """
    loop = asyncio.get_running_loop()
    return await whole(loop.run_in_executor(None, partial(work, *args, **kwargs)))
