"""Two hundred tests that would notice each other."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from websockets.asyncio.client import connect

from conv_realtime.testing import SupabaseLocal

_PROOF = Path(os.environ["PROOF"])


@pytest.fixture(scope="session")
def http() -> Iterator[httpx.Client]:
    """One client for all: making one costs more than making a project."""
    with httpx.Client() as client:
        yield client


@pytest.fixture
def supabase(supabase_local: SupabaseLocal) -> SupabaseLocal:
    """A project with a table; the same name in every test."""
    with psycopg.connect(supabase_local.db_url) as connection:
        connection.execute("create table rows (id int primary key)")
    with (_PROOF / "projects").open("a") as projects:
        projects.write(f"{supabase_local.url} {supabase_local.secret_key}\n")
    return supabase_local


@pytest.mark.parametrize("number", range(150))
def test_rows(supabase: SupabaseLocal, http: httpx.Client, number: int) -> None:
    """Only its own row is there; what it breaks stays broken for itself alone."""
    key = {"apikey": supabase.secret_key}
    url = f"{supabase.url}/rest/v1/rows"
    assert http.post(url, json={"id": number}, headers=key).status_code == 201
    assert http.get(url, headers=key).json() == [{"id": number}]
    if number % 3 == 0:
        supabase.faults.answer(503)
        supabase.faults.refuse_joins()
        assert http.get(url, headers=key).status_code == 503


@pytest.mark.parametrize("number", range(50))
async def test_messages(supabase: SupabaseLocal, http: httpx.Client, number: int) -> None:
    """Only its own message is heard, on a topic of the same name; some end in the middle."""
    base = supabase.url.replace("http", "ws")
    url = f"{base}/realtime/v1/websocket?apikey={supabase.publishable_key}&vsn=1.0.0"
    async with connect(url) as socket:
        join = {"topic": "realtime:room", "event": "phx_join", "payload": {}, "ref": "1"}
        await socket.send(json.dumps(join | {"payload": {"config": {}}}))
        assert json.loads(await socket.recv())["payload"]["status"] == "ok"
        message = {"topic": "room", "event": f"event {number}", "payload": {}}
        http.post(  # noqa: ASYNC212 - the server has a loop of its own
            f"{supabase.url}/realtime/v1/api/broadcast",
            json={"messages": [message]},
            headers={"apikey": supabase.secret_key},
        )
        assert json.loads(await socket.recv())["payload"]["event"] == f"event {number}"
        if number % 5 == 0:
            supabase.faults.drop_sockets()
