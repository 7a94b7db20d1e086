"""All benchmarks with one command: `python -m tests.bench [--only NAME…] [--quick]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.bench import (
    backfill,
    changes,
    clients,
    detection,
    fanout,
    imports,
    large,
    local_realtime,
    page,
    parse,
    pipeline,
    projects,
    start,
)
from tests.bench.harness import BENCHMARKS, CannotRun, Figure, Scale
from tests.bench.relay_load import suite
from tests.bench.report import Report, line
from tests.bench.rig import allow_many_files

# Importing a module adds its benchmarks to the suite, in the order of the table.
MODULES = (
    pipeline, fanout, clients, suite, parse, large, backfill, start, detection, imports,
    local_realtime, changes, projects, page,
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run what is chosen; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", metavar="NAME", nargs="+", choices=sorted(BENCHMARKS))
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--quick", action="store_true", help="a first look")
    parser.add_argument("--smoke", action="store_true", help="see that it runs, measure nothing")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("bench-results"),
        metavar="FOLDER",
        help="where table, values and plots go (default: %(default)s)",
    )
    chosen = parser.parse_args(arguments)
    if chosen.list:
        for name, benchmark in BENCHMARKS.items():
            print(f"{name:<16} {benchmark.summary}")
        return 0
    scale = Scale.SMOKE if chosen.smoke else Scale.QUICK if chosen.quick else Scale.FULL
    allow_many_files()
    report = Report(scale.value)
    for name in chosen.only or BENCHMARKS:
        print(f"{name}: {BENCHMARKS[name].summary}", flush=True)
        try:
            for finding in BENCHMARKS[name].measure(scale):
                report.add(name, finding)
                if isinstance(finding, Figure):
                    print(line(finding), flush=True)
        except CannotRun as needed:
            report.not_run[name] = str(needed)
            print(f"  not run: needs {needed}", flush=True)
    report.write(chosen.out)
    print(f"\n{report.circumstances()}\n{chosen.out}/results.md")
    for name, figure in report.missed:
        print(f"missed: {name}, {figure.what}: {figure.median:.3g} {figure.unit}, {figure.bar}")
    return 1 if report.missed and scale is not Scale.SMOKE else 0


if __name__ == "__main__":
    sys.exit(main())
