"""How fast transcripts are read, on one core, beside `orjson.loads` of their lines alone.

Reading is what the library does before anything is sent: bytes to lines, lines to records, records
to totals and places, with the search for secrets. Real transcripts are those beside the checkout,
where they are; written ones are as `transcripts` says.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from uuid import UUID

import orjson

from conv_realtime.core.formats.claude_code import ClaudeCode
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.edges.disk import OpenFile
from conv_realtime.edges.heap import collect_rarely
from conv_realtime.ingest.follow import Follower
from conv_realtime.ingest.rows import Identity
from tests.bench.harness import Figure, Finding, Scale, benchmark, in_turns, ratios
from tests.bench.transcripts import write_session
from tests.samples import claude_transcripts

IDENTITY = Identity(UUID(int=1), "bench")
BAR = 150.0
STRETCHED = 12.0


def read_all(paths: Sequence[Path]) -> None:
    """Reads transcripts as the library does."""
    for path in paths:
        reading = Follower(str(path), ClaudeCode(), IDENTITY, Sanitizer())
        with OpenFile(str(path)) as file:
            while reading.read(file):
                pass


def load_lines(lines: Sequence[bytes]) -> None:
    """Parses lines that lie in memory, and keeps nothing."""
    for line in lines:
        try:
            orjson.loads(line)
        except orjson.JSONDecodeError:  # torn
            continue


@benchmark("parse")
def parse(scale: Scale) -> Iterator[Finding]:
    """Reading transcripts, secrets searched for, beside `orjson.loads` of their lines alone."""
    collect_rarely()  # as the command line does
    with tempfile.TemporaryDirectory() as folder:
        size = scale.pick(32, 8, 1) * 10**6
        kinds: Mapping[str, Sequence[Path]] = {
            "written": [write_session(Path(folder), size // 4, seed) for seed in range(4)],
            "long results": [write_session(Path(folder), size, 9, stretch=STRETCHED)],
            "real": claude_transcripts(),
        }
        for kind, paths in kinds.items():
            if paths:
                yield from _beside_orjson(kind, paths, scale.pick(15, 5, 1))


def _beside_orjson(kind: str, paths: Sequence[Path], rounds: int) -> Iterator[Finding]:
    contents = [path.read_bytes() for path in paths]
    lines = [line for content in contents for line in content.split(b"\n") if line]
    size = sum(map(len, contents))
    ways: Mapping[str, Callable[[], None]] = {
        "read": partial(read_all, paths),
        "orjson.loads of each line alone": partial(load_lines, lines),
    }
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _, way in in_turns(list(ways), rounds):
        began = time.process_time()
        ways[way]()
        taken[way].append(time.process_time() - began)
    what = f"{kind}, {size / 1e6:.0f} MB, {size / len(lines) / 1e3:.1f} KB a line"
    ours, theirs = taken.values()
    for way, seconds in taken.items():
        bar = BAR if seconds is ours else None
        speed = [size / one / 1e6 for one in seconds]
        yield Figure(f"{what}: {way}", "MB/s", speed, at_least=bar)
    yield Figure(f"{what}: read / orjson.loads", "x", ratios(ours, theirs))
