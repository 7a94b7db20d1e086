"""How long a test waits for its Supabase: `python -m tests.bench.projects [PROJECTS]`.

Prints, in milliseconds: the start of the server with its first template, then of so many projects,
one after the other, how long each took to answer its first request and to be gone again.
"""

from __future__ import annotations

import json
import statistics
import sys
import time

import httpx

from conv_realtime.testing import SupabaseServer


def main(projects: int = 50) -> None:
    """Measures and prints."""
    began = time.perf_counter()
    ready: list[float] = []
    gone: list[float] = []
    with SupabaseServer() as server, httpx.Client() as client:
        with server.project():
            started = time.perf_counter() - began
        for _ in range(projects):
            asked = time.perf_counter()
            with server.project() as supabase:
                url = f"{supabase.url}/rest/v1/messages"
                client.get(url, headers={"apikey": supabase.secret_key}).raise_for_status()
                ready.append(time.perf_counter() - asked)
                left = time.perf_counter()
            gone.append(time.perf_counter() - left)
    told = {"server_ms": round(started * 1000), "ready": _told(ready), "gone": _told(gone)}
    print(json.dumps(told))


def _told(seconds: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=20)
    return {"median_ms": round(cuts[9] * 1000, 1), "p95_ms": round(cuts[18] * 1000, 1)}


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
