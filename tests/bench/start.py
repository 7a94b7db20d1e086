"""How long until all is known again after a restart, beside a bare walk over the folders.

Transcripts that were sent before and did not change since. In turns: a walk that looks at every
file with `os.scandir` and nothing else, the same with an inotify watch for every folder, the
library's backfill, and its watching until every file was judged, also with somebody who listens
and is told of nothing. The store answers at once, so that what is measured is ours.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from conv_realtime import Ingest, Settings, testing
from conv_realtime.edges.heap import collect_rarely
from conv_realtime.edges.watch.kernel import Kernel
from conv_realtime.models import Change
from conv_realtime.ports import Meter, Sink
from tests.bench.harness import Figure, Finding, Scale, benchmark, in_turns, ratios

OWNER = UUID("aaaaaaaa-0000-4000-8000-000000000001")
READY_SECONDS = 120.0
BARE, WATCHED = "bare walk", "bare walk that watches"
OURS = ("backfill", "watching", "watching, with a listener")


def write_transcripts(folder: Path, folders: int, files: int) -> None:
    """Writes transcripts of two lines each, all old enough to be at rest."""
    old = time.time() - 3600
    for number in range(files):
        place = folder / f"project-{number % folders:05}"
        place.mkdir(exist_ok=True)
        session = str(uuid4())
        path = place / f"{session}.jsonl"
        path.write_bytes(
            testing.claude_line("a question", session=session)
            + testing.claude_line("an answer", "assistant", session=session)
        )
        os.utime(path, (old, old))


def bare_walk(folder: str, kernel: Kernel | None = None) -> int:
    """Gives how many files there are, each one's state read; each folder is watched before."""
    count, waiting = 0, [folder]
    while waiting:
        place = waiting.pop()
        if kernel is not None:
            kernel.add(place)
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    entry.stat()
                    count += 1
    return count


def ingest_of(
    folder: Path, state: Path, store: Any, sink: Sink | None = None, meter: Meter | None = None
) -> Ingest:
    """Gives an ingest of the folder with its checkpoints in `state`."""
    settings = Settings.load(paths=[folder], state_dir=state, owner_id=OWNER, machine="bench")
    return Ingest(store=store, sink=sink, meter=meter, settings=settings)


async def backfill(folder: Path, state: Path, store: Any) -> float:
    """Gives the seconds of a backfill that finds nothing new."""
    begun = time.perf_counter()
    async with ingest_of(folder, state, store) as ingest:
        await ingest.backfill()
    return time.perf_counter() - begun


async def watch(
    folder: Path, state: Path, store: Any, files: int, sink: Sink | None = None
) -> float:
    """Gives the seconds until every file has been judged and all folders are watched."""
    begun = time.perf_counter()
    async with ingest_of(folder, state, store, sink) as ingest, asyncio.timeout(READY_SECONDS):
        running = asyncio.create_task(ingest.run())
        while not ingest.caught_up:  # noqa: ASYNC110 - it is watched, not waited for
            await asyncio.sleep(0.005)
        took = time.perf_counter() - begun
        assert ingest.health()["files"] == files, ingest.health()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return took


class Silence:
    """A sink of which nothing is known but that it is there."""

    def publish(self, changes: Sequence[Change]) -> None:
        """Take changes."""
        raise AssertionError("nothing has changed")

    def file_changed(self, path: str, change: str, size: int) -> None:
        """Take a change of a file."""


def walk(folder: str, files: int, *, watching: bool) -> float:
    """Gives the seconds of a bare walk."""
    kernel = Kernel() if watching else None
    begun = time.perf_counter()
    assert bare_walk(folder, kernel) == files
    took = time.perf_counter() - begun
    if kernel is not None:
        kernel.close()
    return took


async def measure(
    folders: int, files: int, rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Gives the seconds of each round, and those of CPU."""
    took: dict[str, list[float]] = {name: [] for name in (BARE, WATCHED, *OURS)}
    spent: dict[str, list[float]] = {name: [] for name in took}
    with tempfile.TemporaryDirectory() as root, tempfile.TemporaryDirectory() as state:
        write_transcripts(Path(root), folders, files)
        store, places = testing.MemoryStore(), (Path(root), Path(state))
        await backfill(*places, store)
        ways = {
            BARE: lambda: asyncio.to_thread(walk, root, files, watching=False),
            WATCHED: lambda: asyncio.to_thread(walk, root, files, watching=True),
            OURS[0]: lambda: backfill(*places, store),
            OURS[1]: lambda: watch(*places, store, files),
            OURS[2]: lambda: watch(*places, store, files, Silence()),
        }
        for _, name in in_turns(list(ways), rounds):
            before = time.process_time()
            took[name].append(await ways[name]())
            spent[name].append(time.process_time() - before)
    return took, spent


@benchmark("start")
def start(scale: Scale) -> Iterator[Finding]:
    """Until all files are known again after a restart, beside a bare walk over them."""
    collect_rarely()  # as the command line does
    folders, files, rounds = scale.pick((5000, 20_000, 7), (500, 2_000, 3), (3, 5, 1))
    took, spent = asyncio.run(measure(folders, files, rounds))
    for name, seconds in took.items():
        what = f"{files:,} files in {folders:,} folders: {name}"
        yield Figure(what, "s", seconds, at_most=1.0 if name in OURS else None)
    for name in OURS:
        yield Figure(f"{name} / {BARE}", "x", ratios(took[name], took[BARE]))
    for name in (WATCHED, *OURS):
        # Of few files, what is done once for all of them is the greater part.
        most = 3.0 if scale is Scale.FULL and name in OURS[:2] else None
        what = f"CPU of {name} / of {BARE}"
        yield Figure(what, "x", ratios(spent[name], spent[BARE]), at_most=most)
