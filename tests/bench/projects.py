"""How long a test waits for its Supabase."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx

from conv_realtime.testing import SupabaseServer
from tests.bench.harness import Figure, Finding, Scale, benchmark


@benchmark("projects")
def projects(scale: Scale) -> Iterator[Finding]:
    """The start of a server of projects, and of each, to its first answer, and its end."""
    began = time.perf_counter()
    ready: list[float] = []
    gone: list[float] = []
    with SupabaseServer() as server, httpx.Client() as client:
        with server.project():
            started = (time.perf_counter() - began) * 1000
        for _ in range(scale.pick(50, 10, 1)):
            asked = time.perf_counter()
            with server.project() as supabase:
                url = f"{supabase.url}/rest/v1/messages"
                client.get(url, headers={"apikey": supabase.secret_key}).raise_for_status()
                ready.append((time.perf_counter() - asked) * 1000)
                left = time.perf_counter()
            gone.append((time.perf_counter() - left) * 1000)
    yield Figure("the server, with its first template", "ms", [started])
    yield Figure("a project, until it has answered", "ms", ready)
    yield Figure("until it is gone", "ms", gone)
