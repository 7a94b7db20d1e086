"""What runs beside something ends with it."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from conv_realtime import background


async def test_work_that_loses_a_cancellation_is_cancelled_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`asyncio.wait_for` loses one before Python 3.12, if what it waits for comes just then."""
    monkeypatch.setattr(background, "AGAIN_SECONDS", 0.01)
    lost = False

    async def deaf() -> None:
        nonlocal lost
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            lost = True
        await asyncio.sleep(60)

    async with asyncio.timeout(10):
        async with background.beside(deaf(), "deaf"):
            await asyncio.sleep(0)
    assert lost


async def test_who_is_cancelled_while_work_ends_waits_for_it() -> None:
    """Else it goes on with what is being left; it is not cancelled once more for that."""
    told: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            told.append("ended")

    async def leave() -> None:
        async with background.beside(work(), "work"):
            await asyncio.sleep(0)

    leaving = asyncio.create_task(leave(), name="test.leaving")
    for _ in range(4):
        await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait({leaving}, timeout=10)
    assert told == ["ended"]
    assert leaving.cancelled()


async def test_what_fails_once_it_is_cancelled_is_no_error() -> None:
    """Ctrl-C also ends programs that were started: asyncio told of that with a traceback."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    work: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(background.whole(work))
    await asyncio.sleep(0)
    task.cancel()
    for _ in range(3):  # until the shield between them looks no more
        await asyncio.sleep(0)
    work.set_exception(RuntimeError("ended by a signal"))
    await asyncio.wait([task])
    assert task.cancelled()
    del task, work
    gc.collect()
    assert told == []
