"""The same relay in other people's applications, on the servers that they run."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.commands import free_port
from tests.relay.host import TOKEN
from tests.relay.protocol import check_frame
from tests.relay.raw import TEXT, Raw, masked, request

DEADLINE = 30.0
_UVICORN = ["uvicorn", "--host", "127.0.0.1", "--log-level", "warning"]
_HOSTS: dict[str, list[str]] = {
    "uvicorn": [*_UVICORN, "--port", "{port}", "{app}"],
    "uvicorn-wsproto": [*_UVICORN, "--ws", "wsproto", "--port", "{port}", "{app}"],
    "hypercorn": ["hypercorn", "--bind", "127.0.0.1:{port}", "{app}"],
    "granian": ["granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}",
                "{app}"],
}  # fmt: skip
_CASES = [*((name, "app") for name in _HOSTS), ("uvicorn", "watched"), ("hypercorn", "watched")]


class Host:
    """A server process with the application of `host.py`."""

    def __init__(self, port: int, process: asyncio.subprocess.Process, http: httpx.AsyncClient):
        self.port = port
        self.process = process
        self.http = http

    def connect(self, path: str = "/ws", **options: Any) -> connect:
        """Return a connection to be entered."""
        return connect(f"ws://127.0.0.1:{self.port}{path}", **options)

    async def publish(self, count: int, size: int = 10) -> None:
        """Have the application publish new messages."""
        answer = await self.http.post("/publish", params={"count": count, "size": size})
        answer.raise_for_status()

    async def stats(self) -> dict[str, int]:
        """Return the manager's counters, and how many clients have a wire."""
        counters: dict[str, int] = (await self.http.get("/stats")).json()
        return counters

    async def until_clients(self, count: int) -> None:
        """Wait until so many are connected."""
        async with asyncio.timeout(DEADLINE):
            while True:
                if (await self.stats())["clients"] == count:
                    return
                await asyncio.sleep(0.02)


@asynccontextmanager
async def hosted(name: str, app: str) -> AsyncIterator[Host]:
    """Run a server until left."""
    root = Path(__file__).parents[2]
    async with AsyncExitStack() as stack:
        port = stack.enter_context(free_port())
        arguments = [part.format(port=port, app=f"tests.relay.host:{app}") for part in _HOSTS[name]]
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE)
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *arguments, cwd=root, env={**os.environ, "PYTHONPATH": str(root)},
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            async with asyncio.timeout(DEADLINE):
                while True:
                    assert process.returncode is None, f"{name} did not start"
                    try:
                        await http.get("/stats")
                        break
                    except httpx.TransportError:
                        await asyncio.sleep(0.05)
            yield Host(port, process, http)
        finally:
            if process.returncode is None:
                process.terminate()
                try:
                    async with asyncio.timeout(DEADLINE):
                        await process.wait()
                except TimeoutError:
                    process.kill()
                    await process.wait()


async def read_seqs(connection: ClientConnection, count: int) -> list[int]:
    """Return the places of the next `count` messages, answering nothing."""
    seqs: list[int] = []
    async with asyncio.timeout(DEADLINE):
        while len(seqs) < count:
            frame = check_frame(await connection.recv())
            if frame["type"] == "new_message":
                seqs.append(frame["data"]["seq"])
    return seqs


async def closed(connection: ClientConnection) -> tuple[list[str], int | None]:
    """Return the types of what comes before the end, and its code; pings are answered."""
    types: list[str] = []
    async with asyncio.timeout(DEADLINE):
        try:
            while True:
                types.append(check_frame(await connection.recv())["type"])
                await connection.send('{"type": "pong"}')
        except ConnectionClosed:
            return types, connection.close_code


@pytest.mark.parametrize(("name", "app"), _CASES)
async def test_a_relay_is_the_same_on_every_server(name: str, app: str) -> None:
    """Mounted or not, with middleware or not: order, answers, refusals, heartbeat and the end."""
    direct = name.startswith("uvicorn") and app == "app"
    async with hosted(name, app) as host:
        async with AsyncExitStack() as stack:
            paths = ["/ws", "/live/ws"] * 10
            clients = [await stack.enter_async_context(host.connect(path)) for path in paths]
            for client in clients:
                assert check_frame(await client.recv())["type"] == "connection_established"
            assert (await host.stats())["wires"] == (20 if direct else 0)
            seen = {
                client.response and client.response.headers.get("x-watched") for client in clients
            }
            assert seen == {"yes" if app == "watched" else None}

            await _who_does_not_read_harms_nobody(host, clients)
            await _who_answers_nothing_is_aborted(host)
            await _who_may_not_is_refused(host)
            for client in clients:
                await client.send('{"type": "ping", "data": {"timestamp": 7}}')
                while (frame := check_frame(await client.recv()))["type"] != "pong":
                    assert frame["type"] == "ping"
                assert frame["data"] == {"timestamp": 7}

            plain = await host.http.get("/live/ws?token=x")
            assert plain.status_code == 426
            assert (await host.http.get("/live/healthz")).json()["clients"] == 20

            host.process.terminate()
            if name == "hypercorn" and sys.version_info >= (3, 12):
                return  # it waits until its clients have left: pgjones/hypercorn#308
            types, code = await closed(clients[0])
            assert code != 1000
            if name.startswith("uvicorn"):
                assert code == 1012
            if direct:
                assert types[-1] == "server_shutdown"


async def _who_does_not_read_harms_nobody(host: Host, clients: list[ClientConnection]) -> None:
    async with Raw.upgraded(host.port):
        await host.until_clients(21)
        for _ in range(5):
            async with asyncio.TaskGroup() as group:
                reading = [group.create_task(read_seqs(client, 50)) for client in clients]
                await host.publish(50, 4000)
            (first, *others) = [task.result() for task in reading]
            assert first == sorted(first) and others == [first] * 19
    await host.until_clients(20)


async def _who_answers_nothing_is_aborted(host: Host) -> None:
    async with Raw.upgraded(host.port, buffer=None) as raw:
        await raw.send(masked(TEXT, json.dumps({"type": "pong"}).encode()))
        await host.until_clients(21)
        await host.until_clients(20)


async def _who_may_not_is_refused(host: Host) -> None:
    for headers, expected in (
        ({"Origin": "https://evil.example"}, {403}),
        ({"X-Forwarded-For": "203.0.113.9"}, {401, 403}),  # granian knows no answer but 403
        ({"X-Forwarded-For": "203.0.113.9", "Authorization": f"Bearer {TOKEN}"}, {101}),
    ):
        async with Raw.open(host.port) as raw:
            await raw.send(request(headers=headers))
            assert await raw.status() in expected
