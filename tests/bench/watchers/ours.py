"""The library's ingest, with somebody who listens: a line is noticed when it is parsed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import uvloop

from conv_realtime.edges.heap import collect_rarely
from conv_realtime.models import Change
from tests.bench.start import ingest_of
from tests.bench.watchers import ANY, Nowhere, notice, watching


class Parsed:
    """A meter that says when lines were parsed, of whichever file: they come one at a time."""

    def read(self, lines: int, skipped: Sequence[str]) -> None:
        """Hear of lines that were read."""
        if lines:
            notice(ANY)

    def stored(self, newest: datetime | None, redacted: Mapping[str, int]) -> None:
        """Hear of what is stored: that is not what is measured."""


class Listener:
    """A sink, as `up` has one: it is told of all, and what it may ask for is kept."""

    def publish(self, changes: Sequence[Change]) -> None:
        """Take changes."""

    def file_changed(self, path: str, change: str, size: int) -> None:
        """Hear that a file changed."""


async def main(folder: str, state: str) -> None:
    """Watch until the input ends."""
    ingest = ingest_of(Path(folder), Path(state), Nowhere(), Listener(), Parsed())
    async with ingest, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(ingest.run())
        while not ingest.caught_up:  # noqa: ASYNC110 - it is watched, not waited for
            await asyncio.sleep(0.005)
        watching()
        await asyncio.to_thread(sys.stdin.read)
        running.cancel()


if __name__ == "__main__":
    collect_rarely()  # as the command line does
    uvloop.run(main(*sys.argv[1:]))
