"""Who is cancelled while they leave has left all the same: a deadline may come at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from websockets.asyncio.client import connect as open_websocket

from conv_realtime import Relay, connect
from conv_realtime.cli.server import Server
from conv_realtime.edges.feed import SupabaseFeed
from conv_realtime.errors import StoreError
from conv_realtime.ingest.by_settings import own_store
from conv_realtime.local.address import listening
from conv_realtime.local.serving import serving
from conv_realtime.relay import LocalFeed
from conv_realtime.settings import Settings
from conv_realtime.testing import OWNER
from tests.relay.hosted import FakeWebSocket
from tests.relay.raw import Raw
from tests.relay.serving import Served, eventually, settings

WITHIN = 30.0
AT_ONCE = 3


async def interrupted(leaving: Coroutine[Any, Any, Any], turns: int) -> None:
    """Leave, and be cancelled after so many turns of the loop, unless it has happened by then."""
    task = asyncio.create_task(leaving, name="test.leaving")
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=WITHIN)
    with suppress(asyncio.CancelledError):
        await task


class Peer:
    """An HTTP server that answers nothing but nonsense, once so many ask at the same time."""

    def __init__(self) -> None:
        self.asked = self.open = 0
        self._all = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def listening(cls) -> AsyncIterator[tuple[Peer, Settings]]:
        """Give it, and settings that lead to it."""
        peer = cls()
        server = await asyncio.start_server(peer._serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            yield (
                peer,
                Settings.model_construct(
                    supabase_url=f"http://127.0.0.1:{port}",
                    supabase_key=SecretStr("sb_secret_x"),
                    owner_id=OWNER,
                ),
            )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            with suppress(OSError):
                while await reader.read(2**16):
                    self.asked += 1
                    if self.asked == AT_ONCE:
                        self._all.set()
                    await self._all.wait()
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1")
        finally:
            self.open -= 1
            writer.close()


async def ask(question: Coroutine[Any, Any, Any]) -> None:
    """Ask, whatever the answer is."""
    with suppress(StoreError):
        await question


@pytest.mark.parametrize("turns", range(1, 8))
async def test_a_store_closes_every_connection(turns: int) -> None:
    """httpx closes one after the other, and leaves those open that it has not come to."""
    async with Peer.listening() as (peer, chosen):
        stack = AsyncExitStack()
        store = await own_store(chosen, None, stack)
        await asyncio.gather(*(ask(store.known([OWNER])) for _ in range(AT_ONCE)))
        assert peer.open == AT_ONCE
        await interrupted(stack.aclose(), turns)
        await eventually(lambda: not peer.open, "they are closed")


@pytest.mark.parametrize("turns", range(1, 8))
async def test_a_feed_closes_every_connection(turns: int) -> None:
    """As a store does."""
    async with Peer.listening() as (peer, chosen):
        feed = SupabaseFeed(chosen)
        stack = AsyncExitStack()
        client = await stack.enter_async_context(feed._connected())
        await asyncio.gather(*(ask(feed.since(None)) for _ in range(AT_ONCE)))
        assert peer.open == AT_ONCE
        await interrupted(stack.aclose(), turns)
        await eventually(lambda: not peer.open, "they are closed")
        del client  # its connections would be closed with it


@pytest.mark.parametrize("turns", [1, 2, 5, 10])
async def test_the_server_of_up_closes_its_clients(turns: int) -> None:
    """With uvicorn's task cancelled in their stead nobody would: they would wait."""
    relay = Relay(feed=LocalFeed(settings()), settings=settings())
    async with relay, AsyncExitStack() as stack:
        server = await stack.enter_async_context(Server("127.0.0.1", 0))
        await server.start(Starlette(routes=relay.routes))
        async with open_websocket(f"ws://{server.address}/ws", proxy=None) as client:
            await client.recv()
            await interrupted(stack.pop_all().aclose(), turns)
            async with asyncio.timeout(WITHIN):
                await client.wait_closed()
            assert client.close_code == 1012


@pytest.mark.parametrize("turns", [1, 2, 5, 10])
async def test_the_server_of_a_local_supabase_cuts_what_does_not_end(turns: int) -> None:
    """What stands behind it is left next, and must not be asked any more."""
    asked = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked.set()
        await asyncio.Event().wait()

    with listening("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        stack = AsyncExitStack()
        await stack.enter_async_context(serving(app, listener, grace_seconds=0.2))
        async with Raw.open(port) as raw:
            await raw.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await asked.wait()
            await interrupted(stack.aclose(), turns)
            running = [task.get_name() for task in asyncio.all_tasks()]
            assert "conv_realtime.local.gateway" not in running
            await raw.rest()


async def test_a_relay_closes_its_clients() -> None:
    """Also one that reads nothing, and would be waited for."""
    relay = Relay(feed=LocalFeed(settings()), settings=settings())
    stack = AsyncExitStack()
    await stack.enter_async_context(relay)
    websocket = FakeWebSocket()
    running = asyncio.create_task(relay.manager.run(websocket), name="test.client")
    await eventually(lambda: websocket.sent, "it is welcome")
    websocket.reading.clear()
    await interrupted(stack.aclose(), 3)
    async with asyncio.timeout(WITHIN):
        await running
    assert websocket.closed == 1012
    assert relay.manager._heartbeat._timer is None


async def test_a_client_waits_for_no_goodbye() -> None:
    """Its line is cut, and is not left for the garbage collector."""
    async with Served.run() as served:
        stack = AsyncExitStack()
        live = await stack.enter_async_context(connect(served.server.url))
        connection = live._connection
        assert connection is not None
        await interrupted(stack.aclose(), 1)
        assert connection.transport.is_closing()
