"""The whole path, of the real program: a line appended to a file, until the last client has it."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from uuid import uuid4

from conv_realtime.testing import claude_line
from tests.bench.harness import Figure, Finding, Plot, Scale, benchmark, p95
from tests.bench.rig import Clients, program, stamp

PADDING = "x" * 300
BARS = {50: 5.0, 500: 15.0, 2000: 50.0}


@benchmark("append")
def append_to_last(scale: Scale) -> Iterator[Finding]:
    """From the append to a file to its receipt by the last client, through `up`."""
    plot: dict[float, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="conv_realtime-bench-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL may run as another account
        transcripts = Path(folder, "projects", "-bench").resolve()
        transcripts.mkdir(parents=True)
        with running(transcripts, Path(folder, "state")) as port:
            for count in scale.pick((50, 500, 2000), (50, 500, 2000), (3,)):
                with Clients.run(port, count) as clients:
                    numbers = itertools.count()
                    rounds = [
                        _round(transcripts, clients, islice(numbers, scale.pick(105, 45, 8)))
                        for _ in range(scale.pick(5, 3, 1))
                    ]
                values = [p95(each) for each in rounds]
                yield Figure(f"{count} clients: p50", "ms", [statistics.median(r) for r in rounds])
                yield Figure(f"{count} clients: p95", "ms", values, at_most=BARS.get(count))
                plot[count] = values
    yield Plot("From the append to the last client, p95", "clients", "ms", {"up": plot})


def _round(folder: Path, clients: Clients, numbers: Iterator[int]) -> list[float]:
    """Append lines to a new file, each when the one before has arrived; return milliseconds."""
    session = str(uuid4())
    gap = 0.02 + clients.count * 40e-6  # a server at rest, however many there are
    took = []
    with (folder / f"{session}.jsonl").open("ab", buffering=0) as file:
        for number in numbers:
            clients.wait(time.monotonic() + gap)
            file.write(claude_line(f"{stamp(number)} {PADDING}", session=session))
            took.append(clients.last_ms(number))
    return took[5:]  # the first ones make a conversation and a project


@contextmanager
def running(transcripts: Path, state: Path) -> Iterator[int]:
    """Run `conv-realtime up` with a local Supabase; give the port of `/ws`."""
    ports = ["--port", "0", "--local-port", "0", "--state-dir", str(state)]
    with program("up", str(transcripts.parent), *ports) as (_, told):
        yield int(told["ws"].rpartition(":")[2].partition("/")[0])
