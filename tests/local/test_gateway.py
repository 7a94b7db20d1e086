"""One port serves supabase clients and browsers, on loopback, through outages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from postgrest import CountMethod, ReturnMethod
from starlette.applications import Starlette
from supabase import AsyncClient, AsyncClientOptions, acreate_client

from conv_realtime.edges import doorstep
from conv_realtime.errors import ConfigError, MigrationError
from conv_realtime.local import LocalSupabase, provision
from conv_realtime.local.address import listening
from conv_realtime.local.keys import load_keys
from conv_realtime.local.rest.service import DataApi
from conv_realtime.local.serving import serving
from conv_realtime.sql import Migration
from tests.conftest import Owner
from tests.local.own_postgres import open_folder
from tests.relay.raw import UNREADABLE, Raw

PATIENCE = 20.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A state directory that every account may pass."""
    with open_folder() as made:
        yield made


async def until_answer(client: httpx.AsyncClient, status: int) -> None:
    """Asks until the Data API gives `status`; no answer in between is anything but that or 503."""
    deadline = time.monotonic() + PATIENCE
    while (answered := await client.get("/rest/v1/survivors")).status_code != status:
        assert answered.status_code in (200, 503), answered.text
        assert answered.status_code == 200 or answered.headers["retry-after"] == "0"
        assert time.monotonic() < deadline


async def ask_for_messages(local: LocalSupabase) -> httpx.Response:
    """Reads a table, as long as that takes."""
    async with httpx.AsyncClient(base_url=local.url, timeout=None) as client:
        return await client.get("/rest/v1/messages", headers={"apikey": local.secret_key})


async def lock_is_waited_for(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Whether somebody waits for a lock."""
    found = await connection.execute("select exists (select from pg_locks where not granted)")
    return await found.fetchone() == (True,)


@contextlib.asynccontextmanager
async def client_of(local: LocalSupabase, key: str) -> AsyncIterator[AsyncClient]:
    """The official client, on an HTTP client that can be closed."""
    async with httpx.AsyncClient() as http:
        options = AsyncClientOptions(
            httpx_client=http, auto_refresh_token=False, persist_session=False
        )
        yield await acreate_client(local.url, key, options=options)


async def test_the_official_client_writes_reads_and_calls(
    local_supabase: LocalSupabase, owner: Owner
) -> None:
    """supabase-py upserts, selects, counts and calls a function, as a server and as a user."""
    table = f"client_{uuid.uuid4().hex}"
    async with await psycopg.AsyncConnection.connect(local_supabase.db_url) as connection:
        await connection.execute(f"create table {table} (id int primary key, text text)".encode())
    async with client_of(local_supabase, local_supabase.secret_key) as server:
        rows = [{"id": n, "text": f"t{n}"} for n in range(5)]
        made = await server.table(table).upsert(rows).execute()
        assert made.data == rows
        minimal = ReturnMethod.minimal
        quiet = await server.table(table).upsert(rows, returning=minimal).execute()
        assert quiet.data == []
        exact = CountMethod.exact
        page = await server.table(table).select("id", count=exact).range(1, 2).execute()
        assert (page.data, page.count) == ([{"id": 1}, {"id": 2}], 5)
        one = await server.table(table).select("text").eq("id", 3).single().execute()
        assert one.data == {"text": "t3"}
        assert (await server.rpc("schema_version", {}).execute()).data
    async with client_of(local_supabase, local_supabase.publishable_key) as user:
        user.postgrest.auth(owner.token)
        assert (await user.table("conversations").select("id").execute()).data == []


async def test_our_migrations_are_recorded_as_the_supabase_cli_does(
    local_supabase: LocalSupabase,
) -> None:
    """`supabase db push` against the same database would find nothing to do."""
    async with await psycopg.AsyncConnection.connect(local_supabase.db_url) as connection:
        query = "select version, name, cardinality(statements) from supabase_migrations"
        rows = await (await connection.execute(f"{query}.schema_migrations".encode())).fetchall()
    assert rows
    assert all(len(row[0]) == 14 and row[1] and row[2] for row in rows)


async def test_a_failing_migration_is_named_and_undone(
    local_supabase: LocalSupabase,
) -> None:
    """Nothing of a migration that fails stays, not even its record."""
    script = "create table half_made (id int); select 1 / 0;"
    with pytest.raises(MigrationError, match="99990101000000_bad"):
        await provision.migrate(local_supabase.db_url, [Migration("99990101000000", "bad", script)])
    async with await psycopg.AsyncConnection.connect(local_supabase.db_url) as connection:
        rows = await connection.execute("select to_regclass('half_made')")
        assert await rows.fetchone() == (None,)
        rows = await connection.execute(
            "select from supabase_migrations.schema_migrations where name = 'bad'"
        )
        assert rows.rowcount == 0


async def test_browsers_of_other_origins_may_ask(local_supabase: LocalSupabase) -> None:
    """The preflight of supabase-js passes, and the page may read the range of a result."""
    origin = {"Origin": "http://localhost:5173"}
    wanted = "apikey,authorization,x-client-info,content-type,prefer,x-conv-realtime-history"
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": wanted}
    async with httpx.AsyncClient(base_url=f"{local_supabase.url}/rest/v1") as client:
        preflight = await client.options("/messages", headers=origin | asked)
        assert preflight.status_code == 200
        allowed = preflight.headers["access-control-allow-headers"]
        assert set(wanted.split(",")) <= set(allowed.lower().replace(" ", "").split(","))
        key = {"apikey": local_supabase.secret_key}
        answer = await client.get("/messages?limit=1", headers=origin | key)
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "Content-Range" in answer.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    "page",
    [
        {"Origin": "https://example.com", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_a_page_without_a_key_learns_nothing(
    local_supabase: LocalSupabase, page: dict[str, str]
) -> None:
    """Any page in the user's browser reaches the port; what it has no key for stays closed."""
    async with httpx.AsyncClient(base_url=f"{local_supabase.url}/rest/v1", headers=page) as client:
        for answer in (
            await client.get("/"),
            await client.get("/messages"),
            await client.post("/rpc/schema_version", json={}),
        ):
            assert answer.status_code == 401
            assert answer.json()["code"] == "PGRST302"
        key = {"apikey": local_supabase.publishable_key}
        assert (await client.get("/", headers=key)).status_code == 200


@pytest.mark.parametrize("peer", ["192.0.2.7", "2001:db8::7"])
async def test_another_machine_needs_a_key(local_supabase: LocalSupabase, peer: str) -> None:
    """Where the gateway was opened to a network, nobody there is anonymous without a key."""
    async with DataApi(
        local_supabase.postgres.dsn(user="authenticator"), local_supabase.keys.verify
    ) as api:
        transport = httpx.ASGITransport(Starlette(routes=api.routes), client=(peer, 1))
        base = "http://192.0.2.1/rest/v1"
        async with httpx.AsyncClient(transport=transport, base_url=base) as client:
            answer = await client.post("/rpc/schema_version", json={})
            assert (answer.status_code, answer.json()["code"]) == (401, "PGRST302")
            keyed = {"apikey": local_supabase.publishable_key}
            answer = await client.get("/", headers=keyed)
            assert answer.status_code == 200


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
async def test_this_machine_needs_none(local_supabase: LocalSupabase, peer: str) -> None:
    """Also where it comes by IPv4 to what listens on all addresses of both kinds."""
    async with DataApi(
        local_supabase.postgres.dsn(user="authenticator"), local_supabase.keys.verify
    ) as api:
        transport = httpx.ASGITransport(Starlette(routes=api.routes), client=(peer, 1))
        base = "http://127.0.0.1/rest/v1"
        async with httpx.AsyncClient(transport=transport, base_url=base) as client:
            assert (await client.get("/")).status_code == 200


async def test_answers_are_not_held_back(local_supabase: LocalSupabase) -> None:
    """A response with a body comes without the 40 ms of Nagle's delay against delayed ACKs."""
    headers = {"apikey": local_supabase.secret_key}
    async with httpx.AsyncClient(base_url=local_supabase.url, headers=headers) as client:
        seconds: list[float] = []
        # A busy machine is late by itself, but not each time.
        while len(seconds) < 500 and min(seconds, default=1.0) >= 0.03:
            began = time.perf_counter()
            await client.get("/rest/v1/messages?limit=1")
            seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.03


@contextlib.asynccontextmanager
async def empty_gateway() -> AsyncIterator[int]:
    """The port of a server as the gateway's is, with nothing behind it."""
    with listening("127.0.0.1", 0) as listener:
        async with serving(Starlette(), listener, grace_seconds=1.0):
            yield listener.getsockname()[1]


@pytest.mark.parametrize("asked", UNREADABLE)
async def test_an_upgrade_that_cannot_be_read_is_refused(
    asked: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As on the port of `/ws`; nobody would answer it, nor close it."""
    head, status = UNREADABLE[asked]
    async with empty_gateway() as port, Raw.open(port) as raw:
        await raw.send(head)
        assert await raw.status() == status
        assert await raw.rest() != b""
    assert caplog.records == []


async def test_a_head_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here, too."""
    monkeypatch.setattr(doorstep, "HEAD_SECONDS", 0.3)
    async with empty_gateway() as port, Raw.open(port) as raw:
        await raw.send(b"GET /rest/v1/")
        assert await raw.rest() == b""


async def test_a_taken_port_is_named(folder: Path) -> None:
    """The error names the port and the option, and PostgreSQL is stopped again."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"--local-port: {port} is in use"):
            await LocalSupabase(folder, port=port).__aenter__()
    async with LocalSupabase(folder, port=0):
        pass


async def test_only_loopback_is_listened_on(folder: Path) -> None:
    """Keys protect little against a network, so it is opened on purpose alone."""
    with pytest.raises(ConfigError, match="--allow-remote"):
        await LocalSupabase(folder, host="0.0.0.0", port=0).__aenter__()
    assert not (folder / "supabase").exists()


async def test_a_network_is_served_on_purpose_with_a_secret_of_its_own(folder: Path) -> None:
    """Other addresses are opened if asked for, never with a secret that everybody knows."""
    keys = folder / "supabase" / "keys.json"
    keys.parent.mkdir()
    known = load_keys(keys)
    for secret in ("super-secret-jwt-token-with-at-least-32-characters-long", "short"):
        keys.write_text(json.dumps(asdict(known) | {"jwt_secret": secret}))
        with pytest.raises(ConfigError, match=r"remove keys\.json"):
            await LocalSupabase(folder, "0.0.0.0", 0, allow_remote=True).__aenter__()
    keys.unlink()
    async with LocalSupabase(folder, "0.0.0.0", 0, allow_remote=True) as local:
        assert local.url.startswith("http://127.0.0.1:")
        async with httpx.AsyncClient(base_url=f"{local.url}/rest/v1") as client:
            assert (await client.get("/")).status_code == 200
        async with await psycopg.AsyncConnection.connect(local.postgres.dsn()) as connection:
            rows = await connection.execute("show listen_addresses")
            assert await rows.fetchone() == ("127.0.0.1",)


async def test_secrets_and_owner_outlive_a_restart(folder: Path) -> None:
    """A frontend's environment stays valid: keys, owner, password and user's tokens."""
    async with LocalSupabase(folder, port=0) as local:
        before = (local.publishable_key, local.secret_key, local.jwt_secret, local.owner_id)
        url, token = local.db_url, local.token()
    async with LocalSupabase(folder, port=0) as local:
        assert (local.publishable_key, local.secret_key, local.jwt_secret, local.owner_id) == before
        assert local.db_url == url
        async with httpx.AsyncClient(base_url=local.url) as client:
            headers = {"Authorization": f"Bearer {token}"}
            assert (await client.get("/rest/v1/messages", headers=headers)).status_code == 200


async def test_a_request_that_waits_when_it_stops_is_cut_without_a_traceback(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ctrl-C showed one, where somebody's transaction held a table."""
    async with LocalSupabase(folder, port=0) as local:
        holding = await psycopg.AsyncConnection.connect(local.db_url)
        await holding.execute("lock table public.messages")
        asking = asyncio.create_task(ask_for_messages(local))
        async with await psycopg.AsyncConnection.connect(local.db_url) as watching:
            while not await lock_is_waited_for(watching):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
    with pytest.raises(httpx.TransportError):
        await asking
    await holding.close()
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_restart_of_postgres_is_a_short_503(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While PostgreSQL is away requests are told to try again; soon they succeed by themselves.

    The log says it once an outage: it did ten times a second, for as long as a disk was full.
    """
    async with LocalSupabase(folder, port=0) as local:
        async with await psycopg.AsyncConnection.connect(local.db_url) as connection:
            await connection.execute("create table survivors as select 1 as id")
        headers = {"apikey": local.secret_key}
        async with httpx.AsyncClient(base_url=local.url, headers=headers) as client:
            await until_answer(client, 200)
            for outages in (1, 2):
                assert local.postgres.pid is not None
                os.kill(local.postgres.pid, signal.SIGKILL)
                await until_answer(client, 503)
                await until_answer(client, 200)
                assert caplog.text.count("database_away") == outages
                # Answered when the schema has been read once more, and so the outage is over.
                assert (await client.get("/rest/v1/nobody")).status_code == 404
            answers = await asyncio.gather(*(client.get("/rest/v1/survivors") for _ in range(20)))
            assert {answer.status_code for answer in answers} == {200}
