"""How a command runs, and how it ends: in order after a signal, and surely."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from typing import Any

from conv_realtime.cli.surroundings import prepare_for_http
from conv_realtime.edges.heap import collect_rarely

STOP_SECONDS = 20.0
"""After a signal a command has so long to finish in order; then the process ends all the same."""

_CLOSE_SECONDS = 2.0
"""When it has finished in order, its threads have so long to end."""

INTERRUPTED = 128 + signal.SIGINT

ENDING_SIGNALS = [signal.SIGINT, signal.SIGTERM]
if sys.platform == "win32":
    ENDING_SIGNALS.append(signal.SIGBREAK)
elif signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
    ENDING_SIGNALS.append(signal.SIGHUP)  # the terminal was closed


def run(command: Coroutine[Any, Any, None], *, terminated: int = 0) -> int:
    """Run a command in an event loop; the first SIGINT, SIGTERM or SIGHUP cancels it.

    On Windows those are Ctrl-C and Ctrl-Break. It has STOP_SECONDS to end in order after that; a
    second signal does not wait.

    Raises:
        ConfigError: the environment's proxies or certificates cannot be used.

    Returns:
        0, 130 after SIGINT, `terminated` after SIGTERM: a supervisor's way to end what serves,
        and for what had an end of its own to reach, a failure.
    """
    received: list[int] = []

    async def supervised() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(command, name="command")

        def on_signal(number: int) -> None:
            # A hard end is safe: PostgreSQL sees its parent go and stops by itself.
            if received:
                os._exit(INTERRUPTED if number == signal.SIGINT else 1)
            loop.call_later(STOP_SECONDS, os._exit, 1)
            task.cancel()
            received.append(number)

        with _at_signals(on_signal):
            try:
                await task
            except asyncio.CancelledError:
                if not received:
                    raise

    with closing(command):  # or Python complains that nobody awaited it
        collect_rarely()
        prepare_for_http()
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            runner.run(supervised())
            if not received:
                return 0
            code = INTERRUPTED if received[0] == signal.SIGINT else terminated
            with _within(_CLOSE_SECONDS, code):
                runner.close()
            return code


@contextmanager
def _within(seconds: float, code: int) -> Iterator[None]:
    """End the process with `code` where the body takes longer: nothing is left to be done.

    Nobody can end a thread that looks up a name, which takes minutes where the network is gone.
    """
    timer = threading.Timer(seconds, os._exit, (code,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _at_signals(act: Callable[[int], None]) -> Iterator[None]:
    """Call `act` in the running loop with the number of each signal that asks for an end."""
    loop = asyncio.get_running_loop()
    before = {}
    for number in ENDING_SIGNALS:
        try:
            loop.add_signal_handler(number, act, number)
        except NotImplementedError:  # by the loops of Windows
            before[number] = signal.signal(
                number, lambda number, _: loop.call_soon_threadsafe(act, number)
            )
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
