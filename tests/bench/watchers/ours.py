"""The library's ingest: a line is noticed when it is parsed and its row told to who listens."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from conv_realtime.edges.heap import collect_rarely
from conv_realtime.models import Change, Message
from tests.bench.start import ingest_of
from tests.bench.watchers import ANY, Nowhere, notice, watching


class Listener:
    """A sink that says when it hears of a message, whichever: they come one at a time."""

    def publish(self, changes: Sequence[Change]) -> None:
        """Take changes."""
        if any(isinstance(change.row, Message) for change in changes):
            notice(ANY)

    def file_changed(self, path: str, change: str, size: int) -> None:
        """Hear that a file changed: that is not what is measured."""


async def main(folder: str, state: str) -> None:
    """Watch until the input ends."""
    ingest = ingest_of(Path(folder), Path(state), Nowhere(), Listener())
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
