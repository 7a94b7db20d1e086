"""Measuring in a process of its own: nobody inherits what another measurement left behind."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from tests.bench.relay_load.figures import Measured

Measurement = Callable[[], Coroutine[Any, Any, Measured]]


def apart(measurement: Measurement) -> Measured:
    """Return what a process that has done nothing before measures; it raises what that raises."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as executor:
        return executor.submit(_run, measurement).result()


def _run(measurement: Measurement) -> Measured:
    return asyncio.run(measurement())
