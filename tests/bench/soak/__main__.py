"""`python -m tests.bench.soak --minutes 30`: prints a table, and whether anything was lost.

`conv-realtime up` runs as a process of its own on a local Supabase of its own. Fifty messages a
second are appended to five files, each of which ends after some minutes and gives way to another.
A hundred clients listen. What the process holds is sampled every ten seconds; after a third of the
time for warming up it has to be level.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit
from uuid import NAMESPACE_OID, uuid5

import httpx

from conv_realtime.testing import claude_line
from conv_realtime.testing.folders import roomy
from tests.bench.soak.crowd import Tally, come_and_go, read_slowly, resume, stay

FILES = 5
A_SECOND = 50
LINES = 1200
"""After which a file gives way to another."""

STAYING, COMING, RESUMING, SLOW = 40, 40, 10, 10
SAMPLE_SECONDS = 10.0
WITHIN = 60.0
LEVEL = 0.05
"""What the last third may be above the second."""

Sample = dict[str, float]


class Writer:
    """Programs that talk: each file says `<file>:<number>`, one number after the other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._begun = 0
        self._now = [self._next() for _ in range(FILES)]
        self.lines: dict[int, int] = dict.fromkeys(self._now, 0)

    async def write(self, until: float) -> None:
        """Append at a steady rate."""
        place, due = 0, time.monotonic()
        while (now := time.monotonic()) < until:
            while due <= now:
                self._append(place % FILES)
                place, due = place + 1, due + 1 / A_SECOND
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _append(self, place: int) -> None:
        file = self._now[place]
        if self.lines[file] == LINES:
            file = self._now[place] = self._next()
            self.lines[file] = 0
        number = self.lines[file] = self.lines[file] + 1
        session = str(uuid5(NAMESPACE_OID, str(file)))
        role = "assistant" if number % 2 else "user"
        line = claude_line(f"{file}:{number}", role, session=session)
        with (self._folder / f"{session}.jsonl").open("ab") as out:
            out.write(line)

    def _next(self) -> int:
        self._begun += 1
        return self._begun


def main(seconds: float) -> int:
    """Run; 0 if nothing grew and nothing was lost."""
    with tempfile.TemporaryDirectory(prefix="soak-", dir=roomy()) as made:
        folder = Path(made)
        folder.chmod(0o755)  # as another account, PostgreSQL reads what is below
        projects = folder / "projects" / "-soak"
        projects.mkdir(parents=True)
        return asyncio.run(_soak(seconds, folder, projects))


async def _soak(seconds: float, folder: Path, projects: Path) -> int:
    async with _up(folder) as (process, ready):
        return await _under_load(seconds, projects, folder / "counts", process, ready)


async def _under_load(
    seconds: float,
    projects: Path,
    counts: Path,
    process: asyncio.subprocess.Process,
    ready: dict[str, Any],
) -> int:
    port = urlsplit(ready["ws"]).port
    assert port is not None
    chance = Random(1)
    tallies = {name: [Tally() for _ in range(count)] for name, count in _crowd()}
    writer, samples = Writer(projects), [_sample(process.pid, counts)]
    until = time.monotonic() + seconds
    async with asyncio.TaskGroup() as tasks:
        clients = [tasks.create_task(stay(port, tally)) for tally in tallies["stay"]]
        clients += [
            tasks.create_task(come_and_go(port, tally, Random(chance.random())))
            for tally in tallies["come and go"]
        ]
        clients += [
            tasks.create_task(resume(port, tally, Random(chance.random())))
            for tally in tallies["resume"]
        ]
        clients += [
            tasks.create_task(read_slowly(port, Random(chance.random()))) for _ in range(SLOW)
        ]
        writing = tasks.create_task(writer.write(until))
        while not writing.done():
            await asyncio.wait({writing}, timeout=SAMPLE_SECONDS)
            samples.append(_sample(process.pid, counts))
            print(json.dumps(samples[-1]), file=sys.stderr, flush=True)
        lost = await _what_is_missing(writer, tallies["stay"], ready)
        for client in clients:
            client.cancel()
    return _tell(seconds, writer, tallies, samples, lost)


def _crowd() -> list[tuple[str, int]]:
    return [("stay", STAYING), ("come and go", COMING), ("resume", RESUMING)]


async def _what_is_missing(
    writer: Writer, staying: list[Tally], ready: dict[str, Any]
) -> dict[str, int]:
    """Wait until everybody has everything; return what is missing in the end."""
    written = sum(writer.lines.values())
    missing: dict[str, int] = {}
    until = time.monotonic() + WITHIN
    while time.monotonic() < until:
        missing = {
            "rows": written - await _rows(ready),
            "at clients": sum(
                number - tally.heard.get(file, 0)
                for tally in staying
                for file, number in writer.lines.items()
            ),
        }
        if not any(missing.values()):
            break
        await asyncio.sleep(1.0)
    return missing


async def _rows(ready: dict[str, Any]) -> int:
    key = ready["secret_key"]
    headers = {"apikey": key, "authorization": f"Bearer {key}", "prefer": "count=exact"}
    async with httpx.AsyncClient(timeout=30) as http:
        url = f"{ready['supabase_url']}/rest/v1/messages?select=id&deleted_at=is.null&limit=1"
        answer = await http.get(url, headers=headers)
    return int(answer.headers["content-range"].rpartition("/")[2])


def _sample(pid: int, counts: Path) -> Sample:
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    told = json.loads(counts.read_text()) if counts.exists() else {}
    return {
        "rss_mb": int(status["VmRSS"].split()[0]) / 1024,
        "files": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": int(status["Threads"]),
        **told,
    }


@asynccontextmanager
async def _up(
    folder: Path,
) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    """Run the command until left; give its process and what it said when it was ready."""
    environment = {name: value for name, value in os.environ.items() if "SUPABASE" not in name}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.soak.up", str(folder / "counts"),
        str(folder / "projects"), "--json", "--port", "0", "--local-port", "0",
        "--state-dir", str(folder / "state"),
        env=environment, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(WITHIN):
            ready = json.loads(await process.stdout.readline())
        yield process, ready
    finally:
        process.terminate()
        await process.wait()


def _tell(
    seconds: float,
    writer: Writer,
    tallies: dict[str, list[Tally]],
    samples: list[Sample],
    lost: dict[str, int],
) -> int:
    """Print what was seen; return 0 if it is as it should be."""
    third = len(samples) // 3
    thirds = [samples[1 : third + 1], samples[third : 2 * third], samples[2 * third :]]
    print(f"{seconds / 60:.0f} minutes, {platform.machine()}, {os.cpu_count()} cores,")
    print(f"load average {os.getloadavg()[2]:.1f} over the last 15 minutes\n")
    print("| | at first | first third | second third | last third | last to second |")
    print("|---|---|---|---|---|---|")
    level = True
    for name in samples[-1]:
        medians = [statistics.median(one.get(name, 0) for one in part) for part in thirds]
        growth = medians[2] / medians[1] - 1 if medians[1] else 0.0
        level = level and growth <= LEVEL
        shown = " | ".join(f"{value:,.0f}" for value in (samples[0].get(name, 0), *medians))
        print(f"| {name} | {shown} | {growth:+.1%} |")
    print(f"\nwritten: {sum(writer.lines.values())} messages in {len(writer.lines)} files")
    print(f"missing in the end: {lost}")
    for name, group in tallies.items():
        told = {what: sum(getattr(one, what) for one in group) for what in _TOLD}
        print(f"{len(group)} that {name}: {told}")
    whole = not any(lost.values())
    for name, group in tallies.items():
        whole = whole and not any(one.missing for one in group)
        if name != "resume":  # who comes back may hear some twice
            whole = whole and not any(one.doubled for one in group)
    print("level" if level else "NOT LEVEL", "and", "nothing lost" if whole else "LOST")
    return 0 if level and whole else 1


_TOLD = ("missing", "doubled", "gaps")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30.0)
    raise SystemExit(main(parser.parse_args().minutes * 60))
