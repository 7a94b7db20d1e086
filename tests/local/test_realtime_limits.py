"""What a socket may do to the server, and the server to its other sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from starlette.applications import Starlette
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from conv_realtime.local import LocalSupabase
from conv_realtime.local.realtime.frames import Wire
from conv_realtime.local.realtime.outbox import TransportOutbox, Turn
from conv_realtime.local.realtime.rules import Rules
from tests.local.own_postgres import kill_postmaster, open_folder
from tests.local.own_realtime import serving
from tests.local.realtime_client import PATIENCE, socket


async def closed(connection: ClientConnection) -> int | None:
    """Reads a connection to its end and gives the close code."""
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionClosed):
            while True:
                await connection.recv()
    return connection.close_code


@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_silent_socket_is_closed_with_1000(
    local_supabase: LocalSupabase, wrapped: bool
) -> None:
    """Only frames of the client count as life; frames to it do not."""
    async with serving(local_supabase, Rules(idle_seconds=1.0), wrapped=wrapped) as server:
        started = time.monotonic()
        async with socket(server) as client:
            await client.join("idle")
            async with asyncio.timeout(PATIENCE):
                await client.connection.wait_closed()
            assert client.connection.close_code == 1000
        assert time.monotonic() - started >= 1.0


@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_socket_that_does_not_read_is_dropped_and_the_others_hear_everything(
    local_supabase: LocalSupabase, wrapped: bool
) -> None:
    """Its buffer is bounded, and nobody waits for it."""
    name = f"slow:{uuid.uuid4()}"
    rules = Rules(max_buffered_bytes=300_000)
    body = {"type": "broadcast", "event": "x", "payload": {"s": "x" * 200_000}}
    async with serving(local_supabase, rules, wrapped=wrapped) as server:
        url = f"{server.url.replace('http', 'ws')}/realtime/v1/websocket"
        query = f"?apikey={server.publishable_key}&vsn=2.0.0"
        async with (
            socket(server) as sender,
            socket(server) as healthy,
            connect(url + query, max_queue=1, compression=None, close_timeout=1) as slow,
        ):
            await slow.send(f'["1","1","realtime:{name}","phx_join",{{"config":{{}}}}]')
            await slow.recv()
            await healthy.join(name)
            join_ref, _ = await sender.join(name, broadcast={"ack": True})
            for number in range(100):
                ref = await sender.send(f"realtime:{name}", "broadcast", body, join_ref=join_ref)
                await sender.reply(ref)
                await healthy.wait(
                    lambda _, wanted=number + 2: len(healthy.received) >= wanted  # type: ignore[misc]
                )
            assert await closed(slow) in (1006, 1000)
            assert len([f for f in healthy.received if f.event == "broadcast"]) == 100


async def test_a_payload_beyond_the_limit_is_dropped_and_told_only_with_ack(
    local_supabase: LocalSupabase,
) -> None:
    """The answer is a bare string where every other is an object: as captured."""
    body = {"type": "broadcast", "event": "x", "payload": {"s": "x" * 2000}}
    async with serving(local_supabase, Rules(max_payload_bytes=1000)) as server:
        async with socket(server) as client:
            for name, ack in (("quiet", False), ("told", True)):
                join_ref, _ = await client.join(name, broadcast={"ack": ack, "self": True})
                await client.send(f"realtime:{name}", "broadcast", body, join_ref=join_ref)
            await client.settle()
            replies = [f.payload for f in client.received if f.event == "phx_reply"]
            assert {"status": "error", "response": "payload_size_exceeded"} in replies
            assert len(replies) == 4  # two joins, one refusal, one heartbeat
            assert not [f for f in client.received if f.event == "broadcast"]


async def test_a_payload_beyond_the_limit_is_refused_over_http_and_dropped_from_the_database(
    local_supabase: LocalSupabase,
) -> None:
    """Each in its own way, as on the hosted platform; and no body is read without end."""
    large = {"s": "x" * 2000}
    headers = {"Authorization": f"Bearer {local_supabase.publishable_key}"}
    async with (
        serving(local_supabase, Rules(max_payload_bytes=1000)) as server,
        socket(server) as client,
        httpx.AsyncClient(base_url=f"{server.url}/realtime/v1/api", headers=headers) as http,
    ):
        await client.join("sizes")
        small = {"topic": "sizes", "event": "small", "payload": {}}
        batch = {"messages": [small, small | {"payload": large}]}
        told = {"payload": ["Payload size exceeds tenant limit"]}
        response = await http.post("/broadcast", json=batch)
        assert (response.status_code, response.json()) == (
            422,
            {"errors": {"messages": [{}, told]}},
        )
        response = await http.post("/broadcast/sizes/events/single", json=large)
        assert (response.status_code, response.json()) == (422, {"errors": told})
        response = await http.post("/broadcast", content=b"x" * 8_000_001)
        assert response.status_code == 413
        async with await psycopg.AsyncConnection.connect(local_supabase.db_url) as db:
            for event, payload in (("large", large), ("end", {})):
                await db.execute(
                    "select realtime.send(%s, %s, 'sizes', false)", (json.dumps(payload), event)
                )
        await client.wait(lambda frame: frame.event == "binary" and b"end" in frame.payload)
        assert len(client.received) == 2  # the answer to the join, and the end


@pytest.mark.parametrize(
    "path", ["/realtime/v1/api/broadcast/a/events/b", "/realtime/v1/api/broadcast"]
)
async def test_who_goes_away_amid_a_broadcast_is_no_error(
    local_supabase: LocalSupabase, path: str
) -> None:
    """The web server would log the exception of an application."""
    key = local_supabase.publishable_key.encode()
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(b"apikey", key)],
    }
    arriving = iter(
        [
            {"type": "http.request", "body": b"{", "more_body": True},
            {"type": "http.disconnect"},
        ]
    )
    answers: list[Any] = []

    async def receive() -> Any:
        return next(arriving)

    async def send(message: Any) -> None:
        answers.append(message)

    await Starlette(routes=local_supabase.realtime.routes)(scope, receive, send)
    assert answers[0]["status"] == 400


async def test_refusals_can_be_delayed_as_on_a_real_server(local_supabase: LocalSupabase) -> None:
    """The delay is a rule, none by default."""
    async with serving(local_supabase, Rules(join_error_seconds=0.4)) as server:
        async with socket(server) as client:
            started = time.monotonic()
            _, reply = await client.join("", private=True)
            assert reply["status"] == "error"
            assert time.monotonic() - started >= 0.4


async def test_without_a_database_public_channels_work_and_private_ones_say_why_not(
    local_supabase: LocalSupabase, tmp_path: Path
) -> None:
    """Nothing hangs, nothing crashes."""
    nowhere = f"host={tmp_path} user=nobody dbname=nothing"
    async with serving(local_supabase, Rules(database_seconds=0.3), dsn=nowhere) as server:
        async with socket(server) as client:
            _, public = await client.join("open", broadcast={"replication_ready": True})
            assert public["status"] == "ok"
            _, private = await client.join("closed", private=True)
            assert private["response"]["reason"].startswith("UnableToConnectToProject: ")
            await client.settle()
            assert not [frame for frame in client.received if frame.event == "system"]


async def test_replication_ready_is_told_on_request(local_supabase: LocalSupabase) -> None:
    """A client that must not miss a broadcast from the database waits for it."""
    async with socket(local_supabase) as client:
        join_ref, _ = await client.join("ready", broadcast={"replication_ready": True})
        system = await client.event("realtime:ready", "system")
        assert system.payload["message"] == "Replication connection established"
        assert (system.payload["status"], system.join_ref) == ("ok", join_ref)


async def test_broadcasts_from_the_database_go_on_after_postgresql_died() -> None:
    """Sockets and channels stay; no client needs to join again."""
    with open_folder() as folder:
        async with LocalSupabase(folder, port=0) as local, socket(local) as client:
            await client.join("alive")
            await shout(local, "before")
            await client.wait(lambda f: f.event == "binary" and b"before" in f.payload)
            await asyncio.to_thread(kill_postmaster, local.postgres.dsn())
            async with asyncio.timeout(60):
                while not any(b"after" in f.payload for f in client.received if f.topic == ""):
                    with contextlib.suppress(psycopg.OperationalError):
                        await shout(local, "after")
                    await client.settle()


async def shout(local: LocalSupabase, event: str) -> None:
    """Broadcasts from SQL on a connection of its own."""
    async with await psycopg.AsyncConnection.connect(
        local.postgres.dsn(), autocommit=True
    ) as connection:
        await connection.execute("select realtime.send('{}', %s, 'alive', false)", (event,))


class FakeTransport(asyncio.Transport):
    """A transport that can be full or closing."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.buffered = 0
        self.closing = False
        self.aborted = False

    def write(self, data: Any) -> None:
        """Keeps what is written."""
        assert not self.closing
        self.writes.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        """What the test says."""
        return self.buffered

    def is_closing(self) -> bool:
        """What the test says."""
        return self.closing

    def abort(self) -> None:
        """Notes it."""
        self.aborted = True


async def test_frames_of_one_loop_turn_leave_in_one_write() -> None:
    """And nothing is written to a transport that is closing."""
    transport = FakeTransport()
    out = TransportOutbox(transport, 1000, Turn())
    async with out.writing(lambda: None):
        for text in ("a", "b"):
            out.push(Wire(text))
        await asyncio.sleep(0)
        assert transport.writes == [b"\x81\x01a\x81\x01b"]
        out.push(Wire(b"c"))
        transport.closing = True
        await asyncio.sleep(0)
    assert len(transport.writes) == 1


async def test_a_socket_that_cannot_be_written_to_stops_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All sockets of a server are written to by one callback, in the order of their frames."""
    broken, *others = [FakeTransport() for _ in range(3)]
    monkeypatch.setattr(broken, "write", lambda data: 1 / 0)
    turn = Turn()
    for transport in (broken, *others):
        TransportOutbox(transport, 1000, turn).push(Wire("a"))
    await asyncio.sleep(0)
    assert [transport.writes for transport in others] == [[b"\x81\x01a"]] * 2
    assert "could not be written to" in caplog.text


async def test_a_transport_that_piles_up_is_aborted_once() -> None:
    """The session is told, so that it ends."""
    transport = FakeTransport()
    told: list[bool] = []
    out = TransportOutbox(transport, 1000, Turn())
    async with out.writing(lambda: told.append(True)):
        transport.buffered = 1001
        out.push(Wire("a"))
        await asyncio.sleep(0)
    assert (transport.aborted, out.full, told) == (True, True, [True])
