"""What runs beside something ends with it."""

from __future__ import annotations

import asyncio

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
