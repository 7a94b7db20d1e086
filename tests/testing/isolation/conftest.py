"""What a worker of the isolation proof leaves behind, written to the folder that PROOF names."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from conv_realtime.testing import SupabaseServer

_PROOF = Path(os.environ["PROOF"])


@pytest.fixture(scope="session", autouse=True)
def _databases(supabase_local_server: SupabaseServer) -> Iterator[None]:
    """Tells which databases there are after the last test, while the server still runs."""
    yield
    with supabase_local_server.project() as supabase:
        own = supabase.db_url.rpartition("/")[2]
        with psycopg.connect(supabase.db_url) as connection:
            rows = connection.execute("select datname from pg_database order by 1").fetchall()
            slots = connection.execute("select slot_name from pg_replication_slots").fetchall()
    _write("databases", [name for (name,) in rows if name != own])
    _write("slots", len(slots) - 1)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tells what the process still holds after every fixture has been torn down.

    The last moment that is sure: xdist ends a worker that takes long to leave.
    """
    if hasattr(session.config, "workerinput"):
        _write("threads", [thread.name for thread in threading.enumerate()])
        _write("sockets", [link for link in _descriptors() if link.startswith("socket:")])


def _descriptors() -> Iterator[str]:
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            yield os.readlink(descriptor)
        except FileNotFoundError:  # the listing's own
            continue


def _write(name: str, value: object) -> None:
    worker = os.environ["PYTEST_XDIST_WORKER"]
    (_PROOF / f"{worker}.{name}.json").write_text(json.dumps(value))
