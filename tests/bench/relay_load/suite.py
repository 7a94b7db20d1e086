"""The measurements of this package as benchmarks, each in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.bench.harness import Finding, Scale, benchmark
from tests.bench.relay_load.apart import apart
from tests.bench.relay_load.ingest import measure_ingest
from tests.bench.relay_load.latency import measure_latency
from tests.bench.relay_load.leaks import measure_leaks
from tests.bench.relay_load.pipeline import measure_pipeline
from tests.bench.relay_load.throughput import measure_steadiness, measure_throughput


@benchmark("leaks")
def leaks(scale: Scale) -> Iterator[Finding]:
    """What thousands of connections leave behind in a server."""
    count, warm_up = scale.pick((10_000, 400), (1_000, 400), (20, 20))
    yield from apart(partial(measure_leaks, count, warm_up)).figures()


@benchmark("latency")
def latency(scale: Scale) -> Iterator[Finding]:
    """From a change to the last client, less what other processes had of the CPU."""
    for clients in scale.pick((60, 500), (60,), (3,)):
        broadcasts = scale.pick(1_000, 200, 5)
        yield from apart(partial(measure_latency, clients, broadcasts)).figures()


@benchmark("steadiness")
def steadiness(scale: Scale) -> Iterator[Finding]:
    """The work of a delivery at the end of a run, against its beginning."""
    clients, broadcasts = scale.pick((50, 500), (50, 500), (3, 20))
    yield from apart(partial(measure_steadiness, clients, broadcasts)).figures()


@benchmark("endurance")
def endurance(scale: Scale) -> Iterator[Finding]:
    """Deliveries to 50 clients in the last minute of a run, against the first."""
    clients, seconds = scale.pick((50, 180.0), (50, 20.0), (3, 0.5))
    yield from apart(partial(measure_throughput, clients, seconds)).figures()


@benchmark("ingest")
def ingest(scale: Scale) -> Iterator[Finding]:
    """Work for a line beside 50 clients against none, in one process."""
    clients, rounds, lines = scale.pick((50, 30, 100), (50, 6, 100), (3, 1, 5))
    yield from apart(partial(measure_ingest, clients, rounds=rounds, lines=lines)).figures()


@benchmark("beside")
def beside(scale: Scale) -> Iterator[Finding]:
    """What 50 clients add to the CPU of `up` that writes into a database."""
    clients, rounds, seconds = scale.pick((50, 5, 8.0), (50, 2, 4.0), (3, 1, 0.5))
    yield from apart(partial(measure_pipeline, clients, rounds=rounds, seconds=seconds)).figures()
