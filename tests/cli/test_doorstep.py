"""Sockets that never ask for anything: they go, and nobody waits because of them."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette

from conv_realtime.cli.server import Server
from conv_realtime.edges import doorstep
from conv_realtime.relay import LocalFeed, Relay
from tests.relay.raw import TEXT, UNREADABLE, Raw, masked, request
from tests.relay.serving import settings


@asynccontextmanager
async def served() -> AsyncIterator[Server]:
    """Serve a relay as `up` and `serve` do."""
    relay = Relay(feed=LocalFeed(settings()), settings=settings())
    async with relay, Server("127.0.0.1", 0) as server:
        await server.start(Starlette(routes=relay.routes))
        yield server


def port_of(server: Server) -> int:
    """Return the port that it took."""
    return int(server.address.rpartition(":")[2])


HALVES = {
    "silent": b"",
    "half a head": request()[:-2],
    "half a line": b"GET /w",
    "after an answer": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /w",
    "a body that never comes": b"POST /healthz HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Length: 9999\r\n\r\nx",
}


@pytest.mark.parametrize("said", HALVES)
async def test_a_head_that_does_not_come_is_not_waited_for(
    said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slowly it trickles, the connection ends; a client that came in stays."""
    monkeypatch.setattr(doorstep, "HEAD_SECONDS", 0.3)
    async with served() as server, Raw.upgraded(port_of(server)) as client:
        async with Raw.open(port_of(server)) as raw:
            await raw.send(HALVES[said])

            async def trickle() -> None:
                while True:
                    await asyncio.sleep(0.05)
                    await raw.send(b"x")

            trickling = asyncio.create_task(trickle(), name="trickle")
            answer = await raw.rest()
            trickling.cancel()
            await asyncio.gather(trickling, return_exceptions=True)
            assert b" 101 " not in answer
        await client.send(b"\x81\x80" + bytes(4))  # an empty frame: an error is the answer
        assert b"invalid_json" in await client.read() + await client.read()


async def test_thousands_that_never_ask_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a bound the one that waits longest goes; who asks is served meanwhile."""
    monkeypatch.setattr(doorstep, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(doorstep, "MAX_WAITING", 100)
    async with served() as server, AsyncExitStack() as stack, httpx.AsyncClient() as http:
        first = await stack.enter_async_context(Raw.open(port_of(server)))
        await first.send(b"GET /w")
        for number in range(1, 1000):
            raw = await stack.enter_async_context(Raw.open(port_of(server)))
            await raw.send(b"GET /w")
            if number % 100 == 0:
                answer = await http.get(f"http://{server.address}/healthz")
                assert answer.status_code == 200
        assert await first.read() == b""
        async with Raw.upgraded(port_of(server)):
            pass
        assert len(server._doorstep) <= 101


async def test_a_crowd_that_comes_at_once_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a restart everybody is back in the same instant: nobody of them is the oldest."""
    monkeypatch.setattr(doorstep, "MAX_WAITING", 10)
    monkeypatch.setattr(doorstep, "GRACE_SECONDS", 60.0)
    async with served() as server, AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(Raw.open(port_of(server))) for _ in range(50)]
        for raw in crowd:
            await raw.send(request())
        assert [await raw.status() for raw in crowd] == [101] * 50
        assert len(server._doorstep) == 0


async def test_a_crowd_is_let_in_however_late_it_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy has not got to what they ask: it lies there, unread."""
    monkeypatch.setattr(doorstep, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(doorstep, "MAX_WAITING", 10)
    async with served() as server, AsyncExitStack() as stack:
        crowd = []
        for _ in range(50):  # without giving the server a turn
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port_of(server))))
            sock.sendall(request())
            sock.setblocking(False)
            crowd.append(Raw(sock))
        assert [await raw.status() for raw in crowd] == [101] * 50


@pytest.mark.parametrize("asked", UNREADABLE)
async def test_an_upgrade_that_cannot_be_read_is_refused(
    asked: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With a word, and the connection ends: nobody would answer it, nor close it."""
    head, status = UNREADABLE[asked]
    async with served() as server, Raw.open(port_of(server)) as raw:
        await raw.send(head)
        assert await raw.status() == status
        assert await raw.rest() != b""
        assert len(server._doorstep) == 0
    assert caplog.records == []


async def test_who_is_refused_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """uvicorn calls each refusal an error of the application; only its real ones are told."""
    async with served() as server, Raw.open(port_of(server)) as raw:
        await raw.send(request(headers={"Host": "evil.example"}))
        assert await raw.status() == 401
        assert await raw.rest() != b""
        async with Raw.upgraded(port_of(server)) as client:
            await client.send(masked(TEXT, b"\xff"))
            assert b"\x03\xef" in await client.rest()  # 1007
        logging.getLogger("uvicorn.error").error("Exception in ASGI application")
    assert [record.message for record in caplog.records] == ["Exception in ASGI application"]


async def test_as_many_clients_as_the_system_lets_us() -> None:
    """The usual 1,024 files of a process are no bound for what it serves."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, hard), hard))
    try:
        async with served():
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(hard, 65536)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_server_that_failed_gives_its_port_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what it failed of is told."""

    async def serve(self: uvicorn.Server, sockets: list[socket.socket]) -> None:
        self.started = True
        raise RuntimeError("broken")

    monkeypatch.setattr(uvicorn.Server, "serve", serve)
    with pytest.raises(RuntimeError, match="broken"):
        async with Server("127.0.0.1", 0) as server:
            await server.start(Starlette())
    with socket.create_server(("127.0.0.1", port_of(server))):
        pass
