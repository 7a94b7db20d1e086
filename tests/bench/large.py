"""A gigabyte of transcripts: what an append to it costs, and what reading it takes of memory.

    python -m tests.bench.large FOLDER

reads the transcripts of a folder once, as `backfill` does, and prints how much memory that took: in
a process of its own, which did nothing before.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson

from conv_realtime import Ingest, Settings, testing
from conv_realtime.edges.heap import collect_rarely
from conv_realtime.models import Row, Table
from tests.bench.harness import Figure, Finding, Scale, benchmark, in_turns, ratios
from tests.bench.parse import STRETCHED
from tests.bench.rig import resident_bytes
from tests.bench.start import OWNER
from tests.bench.transcripts import write_session

SMALL, LARGE, FILE = 10**6, 10**9, 4 * 10**6
APPENDS = 40
LONG_AGO = 1_700_000_000.0
PATIENCE = 200.0


class Nowhere(testing.MemoryStore):
    """Encodes rows as a store does, and keeps none.

    Attributes:
        whole: set when a batch is through, the totals of its conversation with it.
        memory: how much of it was in use, each time that rows came.
    """

    def __init__(self) -> None:
        super().__init__()
        self.whole = asyncio.Event()
        self.memory: list[int] = []

    async def write(
        self, table: Table, rows: Sequence[Row], *, history: bool = False, more: bool = False
    ) -> int:
        """Take rows."""
        orjson.dumps([row.columns() for row in rows])
        self.memory.append(resident_bytes(os.getpid()))
        if table == "conversations" and not more:
            self.whole.set()
        return len(rows)


def ingest_of(folder: Path, state: str, store: Nowhere) -> Ingest:
    """Gives an ingest of the folder whose rows go nowhere."""
    settings = Settings.load(paths=[folder], state_dir=Path(state), owner_id=OWNER, machine="bench")
    return Ingest(store=store, settings=settings)


@benchmark("large")
def large(scale: Scale) -> Iterator[Finding]:
    """An append to a gigabyte beside one to a megabyte, and memory while a gigabyte is read."""
    collect_rarely()  # as the command line does
    size = scale.pick(LARGE, LARGE // 10, 2 * SMALL)
    with tempfile.TemporaryDirectory() as folder:
        yield from asyncio.run(_appends(Path(folder), size, scale.pick(9, 5, 1)))
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(max(1, size // FILE)):
            os.utime(write_session(Path(folder), min(size, FILE), seed), (LONG_AGO, LONG_AGO))
        yield from _memory(folder, f"{size / 1e6:,.0f} MB in files of {FILE / 1e6:.0f} MB")
    with tempfile.TemporaryDirectory() as folder:
        write_session(Path(folder), size, 1)
        yield from _memory(folder, f"{size / 1e6:,.0f} MB in one file")


async def _appends(folder: Path, size: int, rounds: int) -> list[Finding]:
    """Append in turns; measure the CPU until the store has the message and its conversation."""
    paths = {of: write_session(folder, of, of, stretch=STRETCHED) for of in (SMALL, size)}
    took: dict[int, list[float]] = {of: [] for of in paths}
    store = Nowhere()
    with tempfile.TemporaryDirectory() as state:
        async with ingest_of(folder, state, store) as ingest, asyncio.timeout(PATIENCE):
            running = asyncio.create_task(ingest.run())
            while not ingest.caught_up:  # noqa: ASYNC110 - it is watched, not waited for
                await asyncio.sleep(0.05)
            for number, of in in_turns(list(paths), rounds + 1):
                spent = await _append(paths[of], store)
                if number:  # the first ones are read in full
                    took[of].append(spent)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    return [
        *(Figure(f"append to {of / 1e6:,.0f} MB, CPU", "ms", took[of]) for of in paths),
        Figure("append to the large / to the small", "x", ratios(*reversed(took.values())), 1.2),
    ]


async def _append(path: Path, store: Nowhere) -> float:
    """Gives the milliseconds of CPU that a line takes, of so many the median."""
    spent = []
    for number in range(APPENDS):
        line = testing.claude_line(f"line {number}", "assistant", session=path.stem)
        store.whole.clear()
        began = time.process_time()
        with path.open("ab") as file:
            file.write(line)
        await store.whole.wait()
        spent.append((time.process_time() - began) * 1000)
    return statistics.median(spent)


def _memory(folder: str, what: str) -> Iterator[Finding]:
    """Read a folder in a process of its own, and say what that took."""
    command = [sys.executable, "-m", __name__, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    began, early, most = (size / 1e6 for size in json.loads(done.stdout))
    yield Figure(f"{what}: memory before", "MB", [began])
    yield Figure(f"{what}: most, the first tenth", "MB", [early])
    yield Figure(f"{what}: most", "MB", [most])


async def _read(folder: Path) -> None:
    began, store = resident_bytes(os.getpid()), Nowhere()
    with tempfile.TemporaryDirectory() as state:
        async with ingest_of(folder, state, store) as ingest:
            await ingest.backfill()
    memory = store.memory
    early = max(memory[: max(1, len(memory) // 10)])
    sys.stdout.write(json.dumps([began, early, max(memory)]))


if __name__ == "__main__":
    collect_rarely()
    asyncio.run(_read(Path(sys.argv[1])))
