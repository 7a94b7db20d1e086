"""Fuzzes every transcript format, and keeps what it finds.

    pip install -e '.[dev,fuzz]' && python -m tests.fuzz [--minutes 10] [--jobs 2] [FORMAT …]

Each format is fuzzed in a process of its own, guided by the code that its bytes reach (atheris),
from our examples of it and all earlier finds. A find is a crash, a row that the database or a
reader would refuse, a file that reads otherwise in two pieces than in one, a single file that takes
more than ten seconds or memory that grows beyond a gigabyte. It goes to `tests/fuzz/cases/FORMAT`,
which every run of the tests reads; the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.reading import CASES, SOURCES, seeds

LIMITS = ("-timeout=10", "-rss_limit_mb=1024", "-max_len=20000", "-print_final_stats=1")
_WORD = re.compile(rb'"[A-Za-z_$][A-Za-z0-9_.$-]{1,40}"')
_RUNS = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_COVERAGE = re.compile(r"cov: (\d+)")


@dataclass(frozen=True)
class Outcome:
    """What a run over one format came to."""

    source: str
    runs: int
    coverage: int
    seconds: float
    finds: Sequence[Path]
    log: str


def fuzz(source: str, seconds: int) -> Outcome:
    """Fuzzes a format for so long, or until its first find."""
    begun = time.monotonic()
    kept = CASES / source
    with tempfile.TemporaryDirectory() as folder:
        corpus, words, finds = (Path(folder, name) for name in ("corpus", "words", "finds"))
        corpus.mkdir()
        finds.mkdir()
        words.write_bytes(_dictionary(source) or b'"\\x0a"\n')
        for number, data in enumerate(seeds(source)):
            (corpus / f"seed-{number}").write_bytes(data)
        command = [sys.executable, "-m", "tests.fuzz.target", source, str(corpus), *LIMITS]
        command += [f"-max_total_time={seconds}", f"-dict={words}", f"-artifact_prefix={finds}/"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        found = []
        for path in sorted(finds.iterdir()):
            kept.mkdir(parents=True, exist_ok=True)
            found.append(kept / path.name)
            found[-1].write_bytes(path.read_bytes())
    said = done.stdout + done.stderr
    if done.returncode and not found:
        raise RuntimeError(f"the fuzzer of {source} failed:\n{said[-4000:]}")
    runs = _RUNS.findall(said)
    covered = [int(number) for number in _COVERAGE.findall(said)]
    took = round(time.monotonic() - begun, 1)
    return Outcome(source, int(runs[-1]) if runs else 0, max(covered, default=0), took, found, said)


def _dictionary(source: str) -> bytes:
    """Gives the words of the examples: names of fields, above all."""
    words = {word for seed in seeds(source) for word in _WORD.findall(seed)}
    return b"".join(b'"' + word.replace(b'"', b'\\"') + b'"\n' for word in sorted(words))


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a line a format; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("formats", nargs="*", choices=[[], *SOURCES], metavar="FORMAT")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--jobs", type=int, default=2, help="formats at a time")
    options = parser.parse_args(arguments)
    wanted = options.formats or SOURCES
    failed = False
    print(f"{'format':16}{'files read':>12}{'reached':>9}{'seconds':>9}  finds")
    with ThreadPoolExecutor(options.jobs) as pool:
        for one in pool.map(lambda source: fuzz(source, int(options.minutes * 60)), wanted):
            names = ", ".join(path.name for path in one.finds) or "none"
            print(f"{one.source:16}{one.runs:>12,}{one.coverage:>9,}{one.seconds:>9}  {names}")
            if one.finds:
                failed = True
                print(one.log[-3000:], file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
