"""From an append to a file until it is noticed: ours, inotify alone, watchfiles and chokidar.

A tree of many folders and files; one append at a time, some milliseconds apart, to a random file.
The time runs from just before the write, here, until the watcher has seen it, in a process of its
own; the clock is the system's. The others only say that a file changed; ours has read, parsed and
folded the line by then. Each is started in its turn, so that no two watch at once.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from conv_realtime.testing import claude_line
from tests.bench.harness import CannotRun, Figure, Finding, Scale, benchmark, in_turns, p95, ratios
from tests.bench.rig import Child, node
from tests.bench.start import backfill, write_transcripts
from tests.bench.watchers import ANY, Nowhere

OURS, RAW = "ours, the line parsed", "inotify alone"
PATIENCE = 5.0
"""How long an append may take to be noticed, in seconds; then it is lost."""


@dataclass
class Seen:
    """What was measured of one watcher, a value a round but for `lost`."""

    start: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p95: list[float] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)


@benchmark("detection")
def detection(scale: Scale) -> Iterator[Finding]:
    """From an append until it is noticed, beside other watchers; their CPU at rest, and memory."""
    folders, files, rounds = scale.pick((5000, 20_000, 3), (500, 2_000, 3), (3, 5, 1))
    appends, idle = scale.pick((300, 5.0), (100, 2.0), (5, 0.1))
    with tempfile.TemporaryDirectory() as root, tempfile.TemporaryDirectory() as state:
        write_transcripts(Path(root), folders, files)
        asyncio.run(backfill(Path(root), Path(state), Nowhere()))
        commands = _commands(root, state)
        paths = sorted(map(str, Path(root).rglob("*.jsonl")))
        seen = {name: Seen() for name in commands}
        for _, name in in_turns(list(commands), rounds):
            _measure(commands[name], paths, appends, idle, seen[name])
    where = f"{files:,} files in {folders:,} folders"
    for name, found in seen.items():
        ours = name == OURS
        yield Figure(f"{name}: p50", "ms", found.p50, at_most=1.0 if ours else None)
        yield Figure(f"{name}: p95", "ms", found.p95, at_most=3.0 if ours else None)
        yield Figure(f"{name}: CPU at rest", "%", found.idle, at_most=1.0 if ours else None)
        yield Figure(f"{name}: memory", "MB", found.megabytes, at_most=100.0 if ours else None)
        yield Figure(f"{name}: until it watches {where}", "s", found.start)
    yield Figure("lost", "", seen[OURS].lost, at_most=0)
    yield Figure(f"p50 of ours / {RAW}", "x", ratios(seen[OURS].p50, seen[RAW].p50))


def _commands(root: str, state: str) -> dict[str, list[str]]:
    """Return what runs each watcher on a folder.

    Raises:
        CannotRun: one of them is not here.
    """
    if not sys.platform.startswith("linux"):
        raise CannotRun("Linux: it compares with inotify")
    if find_spec("watchfiles") is None:
        raise CannotRun("watchfiles, of the extra `dev`")
    module = [sys.executable, "-m"]
    return {
        OURS: [*module, "tests.bench.watchers.ours", root, state],
        RAW: [*module, "tests.bench.watchers.inotify", root],
        "watchfiles": [*module, "tests.bench.watchers.notify", root],
        "watchfiles, as fast as it gets": [*module, "tests.bench.watchers.notify", root, "1", "1"],
        "chokidar": [*node("chokidar.mjs", "chokidar"), root],
    }


def _measure(
    command: Sequence[str], paths: Sequence[str], appends: int, idle: float, seen: Seen
) -> None:
    """Run a watcher, let it rest, then append and see how long it takes to notice."""
    begun = time.monotonic()
    with _Watcher.run(command) as watcher:
        seen.start.append(time.monotonic() - begun)
        time.sleep(idle / 5)
        before, at = watcher.cpu_seconds(), time.monotonic()
        time.sleep(idle)
        seen.idle.append((watcher.cpu_seconds() - before) / (time.monotonic() - at) * 100)
        seen.megabytes.append(watcher.resident_bytes() / 1e6)
        took = []
        for path in random.choices(paths, k=appends):
            took.append(watcher.notices(path))
            time.sleep(random.uniform(0.002, 0.012))
    seen.lost.append(took.count(math.inf))
    seen.p50.append(statistics.median(took))
    seen.p95.append(p95(took))


class _Watcher(Child):
    """A watcher that says at which time it noticed something, and in which file."""

    @classmethod
    @contextmanager
    def run(cls, command: Sequence[str]) -> Iterator[_Watcher]:
        """Run one until left; it watches when this is entered."""
        watcher = cls(command, 0)
        try:
            while watcher.must_say() != b"watching":
                pass  # what it notices of the round before
            yield watcher
        finally:
            watcher.end()

    def notices(self, path: str) -> float:
        """Append a line to a file; return milliseconds until it was noticed, which may be never."""
        line = claude_line("more", session=Path(path).stem)
        wanted = os.fsencode(path)
        with open(path, "ab", buffering=0) as file:
            begun = time.monotonic_ns()
            file.write(line)
        until = time.monotonic() + PATIENCE
        while (said := self.line(until)) is not None:
            at, _, told = said.partition(b" ")
            if told in (wanted, ANY) and int(at) > begun:
                return (int(at) - begun) / 1e6
        return math.inf
