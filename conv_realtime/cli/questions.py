"""Questions to a person, which a signal ends as it ends everything else."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

import click

from conv_realtime.cli.ending import ENDING_SIGNALS
from conv_realtime.errors import ConfigError

_Answer = TypeVar("_Answer")


async def ask(question: Callable[[], _Answer], command: str, instead: str) -> _Answer:
    """Return the answer to `question`, a prompt of click's; what is piped in is read as well.

    The loop stands still meanwhile, and hears of no signal before the question has ended.

    Args:
        question: asks, and returns the answer.
        command: that wants to know.
        instead: what says it where there is nobody to ask.

    Raises:
        ConfigError: there is nobody to ask.
        click.Abort: the person gives no answer.
    """
    received: list[int] = []
    try:
        with _ended_by_signals(received):
            return question()
    except (click.Abort, KeyboardInterrupt):
        click.echo(err=True)  # behind the question
        if received:
            await asyncio.Event().wait()  # for `run`, which has the signal too, and cancels
        if sys.stdin.isatty():
            raise
    advice = f"there is nobody to ask for it: {instead} is needed"
    raise ConfigError(command, advice)


@contextmanager
def _ended_by_signals(received: list[int]) -> Iterator[None]:
    """Let signals that ask for an end interrupt the body, too, and note them."""
    before = {int(number): signal.getsignal(number) for number in ENDING_SIGNALS}

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        usual = before[number]
        if callable(usual):
            usual(number, frame)
        raise KeyboardInterrupt

    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
