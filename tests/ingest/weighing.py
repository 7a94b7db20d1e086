"""Reads a folder in a process of its own, and says how much memory that took.

    python -m tests.ingest.weighing FOLDER [NAME=VALUE …]

`FOLDER/projects` is read once, by an ingest with these settings. Then the file `FOLDER/more`, where
there is one, is appended to the newest transcript while the ingest watches.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from conv_realtime.testing import MemoryStore
from tests.ingest.running import ingest, running, texts, until


@dataclass(frozen=True, slots=True)
class Weight:
    """What reading came to: `grown` is by how many bytes the process grew at most."""

    grown: int
    texts: list[str]
    skips: list[tuple[str, int | None]]


def weighed(folder: Path, **settings: int) -> Weight:
    """Return what reading a folder comes to, in a process of its own."""
    pairs = [f"{name}={value}" for name, value in settings.items()]
    command = [sys.executable, "-m", "tests.ingest.weighing", str(folder), *pairs]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60)
    found = json.loads(done.stdout)
    skips = [(reason, offset) for reason, offset in found["skips"]]
    return Weight(found["grown"], found["texts"], skips)


def peak() -> int:
    """Return the most memory that this process had at any time, in bytes."""
    status = Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


async def weigh(folder: Path, settings: dict[str, Any]) -> Weight:
    """Reads a folder; gives what that came to."""
    store, before = MemoryStore(), peak()
    async with ingest(folder, store, **settings) as river:
        summary = await river.backfill()
    skips = [(skip.reason, skip.offset) for skip in summary.skips]
    if (more := folder / "more").exists():
        (path,) = (folder / "projects").rglob("*.jsonl")
        async with running(ingest(folder, store, **settings)) as river:
            await until(lambda: river.caught_up)
            with more.open("rb") as source, path.open("ab") as file:
                shutil.copyfileobj(source, file)
            await until(lambda: "prompt last" in texts(store))
    return Weight(peak() - before, texts(store), skips)


if __name__ == "__main__":
    place, *pairs = sys.argv[1:]
    stated = {name: int(value) for name, value in (pair.split("=") for pair in pairs)}
    sys.stdout.write(json.dumps(asdict(asyncio.run(weigh(Path(place), stated)))))
