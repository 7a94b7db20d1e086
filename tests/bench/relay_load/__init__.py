"""What clients of `/ws` cost beside the fan-out; `suite.py` adds it to the benchmarks.

* `leaks`: what thousands of connections leave behind in a server of its own process.
* `latency`: from a change to the last client.
* `throughput`: deliveries at the end of a run against its beginning.
* `ingest`: work per line beside fifty clients against none, in one process, counted.
* `pipeline`: the same of `conv-realtime up` with a database, by the CPU of its process.

The first four have a short form, which `tests/relay/test_scenarios.py` holds to its bounds.
"""
