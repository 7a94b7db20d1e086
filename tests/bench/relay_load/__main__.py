"""Measures what clients of `/ws` cost.

    python -m tests.bench.relay_load [--full] [--json] [NAME…]

Each measurement runs in a process of its own and is shown as soon as it is there; the table of all
comes last, with every bound and whether it held. The exit code is 0 if all did. `--full` takes
about eight minutes: ten thousand connects, three minutes of deliveries, a real database. Without
it half a minute. A measurement that fails does not keep the others from running.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass

from tests.bench.relay_load.apart import Measurement, apart
from tests.bench.relay_load.figures import Figure, machine
from tests.bench.relay_load.ingest import measure_ingest
from tests.bench.relay_load.latency import measure_latency
from tests.bench.relay_load.leaks import measure_leaks
from tests.bench.relay_load.pipeline import measure_pipeline
from tests.bench.relay_load.throughput import measure_steadiness, measure_throughput

SHORT: dict[str, Measurement] = {
    "leaks": functools.partial(measure_leaks, 1_000),
    "latency": functools.partial(measure_latency, 60, 200),
    "throughput": functools.partial(measure_steadiness, 50),
    "ingest": functools.partial(measure_ingest, 50, rounds=6),
}
FULL: dict[str, Measurement] = {
    "leaks": functools.partial(measure_leaks, 10_000),
    "latency": functools.partial(measure_latency, 60, 1_000),
    "latency500": functools.partial(measure_latency, 500, 1_000),
    "steadiness": functools.partial(measure_steadiness, 50),
    "throughput": functools.partial(measure_throughput, 50, 180.0),
    "ingest": functools.partial(measure_ingest, 50, rounds=30),
    "pipeline": functools.partial(measure_pipeline, 50, rounds=5),
}


def table(rows: Sequence[tuple[str, Figure]]) -> str:
    """Return the figures as lines, each with its bound."""
    width = max(len(figure.what) for _, figure in rows)
    broad = max(len(figure.figure) for _, figure in rows)
    lines = []
    named = ""
    for name, figure in rows:
        head = "" if name == named else name
        holds = "" if figure.holds is None else ("holds" if figure.holds else "DOES NOT HOLD")
        line = f"{head:<11} {figure.what:<{width}}  {figure.figure:>{broad}}  {figure.bound:<15}"
        lines.append(f"{line} {holds}".rstrip())
        named = name
    return "\n".join(lines)


def main() -> int:
    """Run the measurements; return the exit code."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FULL)}")
    parser.add_argument("--full", action="store_true", help="ten thousand connects, three minutes")
    parser.add_argument("--json", action="store_true", help="one object a measurement, no table")
    asked = parser.parse_args()
    chosen = FULL if asked.full else SHORT
    if unknown := set(asked.names) - chosen.keys():
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")
    rows: list[tuple[str, Figure]] = []
    for name in asked.names or chosen:
        began = time.monotonic()
        try:
            measured = apart(chosen[name])
            assert is_dataclass(measured) and not isinstance(measured, type)
            figures, values = measured.figures(), asdict(measured)
        except Exception as error:
            traceback.print_exception(error)
            figures = [Figure("not measured", type(error).__name__, "", False)]
            values = {"error": repr(error)}
        took = time.monotonic() - began
        rows += [(name, figure) for figure in figures]
        if asked.json:
            shown = {"what": name, "seconds": round(took, 1), "machine": machine(), **values}
            print(json.dumps({**shown, "figures": [asdict(figure) for figure in figures]}))
        else:
            print(f"{name}: {took:.0f} s", file=sys.stderr)
        sys.stdout.flush()
    if not asked.json:
        print(f"{time.strftime('%Y-%m-%d')}, {machine()}\n\n{table(rows)}")
    return 0 if all(figure.holds is not False for _, figure in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
