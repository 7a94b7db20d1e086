"""Many clients, slow clients, dead clients: nobody harms anybody."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
from contextlib import AsyncExitStack
from typing import Any

import pytest

from conv_realtime.edges import asgi
from conv_realtime.relay import laggards
from conv_realtime.relay.client import Client as ServedClient
from tests.relay.rows import changed, conversation, created, message
from tests.relay.serving import DEADLINE, Served, eventually


async def stalled_socket(port: int) -> socket.socket:
    """Connect by hand with a small receive buffer, and never read after the handshake."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", port))
    await loop.sock_sendall(
        sock,
        b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    )
    assert b"101" in await loop.sock_recv(sock, 64)
    return sock


async def read_frames(sock: socket.socket) -> list[Any]:
    """Read what a stalled socket was sent, to the close frame: JSON frames, then the code."""
    loop = asyncio.get_running_loop()
    frames: list[Any] = []
    data = b""
    greeted = False
    async with asyncio.timeout(DEADLINE):
        while not (frames and isinstance(frames[-1], int)):
            try:
                part = await loop.sock_recv(sock, 2**20)
            except ConnectionResetError:
                break
            if not part:
                break
            data += part
            if not greeted:
                greeted, data = True, data[data.index(b"\r\n\r\n") + 4 :]
            found, data = split_frames(data)
            frames += found
    return frames


def split_frames(data: bytes) -> tuple[list[Any], bytes]:
    """Return the whole frames at the start of `data`, and the rest; pings are left out."""
    frames: list[Any] = []
    while len(data) >= 10:
        opcode, length, at = data[0], data[1], 2
        if length == 126:
            length, at = int.from_bytes(data[2:4]), 4
        elif length == 127:
            length, at = int.from_bytes(data[2:10]), 10
        if len(data) < at + length:
            break
        payload, data = data[at : at + length], data[at + length :]
        if opcode == 0x81:
            frames.append(json.loads(payload))
        elif opcode == 0x88:
            frames.append(int.from_bytes(payload[:2]))
    return frames, data


async def test_fifty_clients_hear_everything_beside_one_that_does_not_read() -> None:
    """A client that never reads costs the others nothing, and is dropped in the end."""
    total = 1500
    quiet = {"ws_ping_interval": None}
    async with Served.run(quiet, heartbeat_seconds=3600.0) as served:  # however long it takes
        stalled = await stalled_socket(served.server.port)
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(served.client()) for _ in range(50)]
            await eventually(
                lambda: len(served.relay.manager.active_connections) == 51, "all are connected"
            )

            async def read(client: Any) -> list[int]:
                seqs: list[int] = []
                while len(seqs) < total:
                    frame = await client.next()
                    if frame["type"] != "connection_established":
                        assert frame["type"] == "new_message", frame
                        seqs.append(frame["data"]["seq"])
                return seqs

            async with asyncio.TaskGroup() as group:
                reading = [group.create_task(read(client)) for client in clients]
                for seq in range(1, total + 1):
                    served.feed.publish(created(message("x" * 4000, seq)))
                    await asyncio.sleep(0)
            assert all(task.result() == list(range(1, total + 1)) for task in reading)
            assert served.relay.manager.stats()["resyncs"] >= 1
        stalled.close()


async def test_a_slow_client_gets_resync_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over its bound a client loses events, is told so once, and then hears live ones."""
    async with Served.run(client_queue_bytes=50_000) as served:
        sock = await stalled_socket(served.server.port)
        hub = served.relay.manager.hub
        await eventually(lambda: len(hub.clients) == 1, "it is connected")
        seq = 0
        while not hub.resyncs:
            seq += 1
            served.feed.publish(created(message("x" * 10_000, seq)))
            await asyncio.sleep(0)
            assert seq < 5000
        reading = asyncio.create_task(read_frames(sock), name="read")
        await eventually(lambda: not hub.laggards, "it is level again")
        served.feed.publish(created(message("live", seq + 1)))
        await served.relay.manager.shutdown()
        frames = await reading
        sock.close()
    names = [f["type"] if isinstance(f, dict) else f for f in frames]
    assert names.count("resync") == 1
    resync = names.index("resync")
    before = [f["data"]["seq"] for f in frames[:resync] if f["type"] == "new_message"]
    assert before == list(range(before[0], before[0] + len(before)))
    assert frames[resync]["data"] == {
        "reason": "too_slow",
        "cursor": served.feed._cursor(seq),
    }
    assert names[resync + 1 :] == ["new_message", "server_shutdown", 1012]


async def test_a_client_that_goes_on_not_reading_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its patience the hub says resync, closes with 1013 and forgets the client."""
    monkeypatch.setattr(laggards, "STALL_SECONDS", 0.3)
    async with Served.run(client_queue_bytes=50_000) as served:
        sock = await stalled_socket(served.server.port)
        hub = served.relay.manager.hub
        await eventually(lambda: len(hub.clients) == 1, "it is connected")
        while not hub.resyncs:
            served.feed.publish(created(message("x" * 10_000)))
            await asyncio.sleep(0)
        await eventually(lambda: not hub.clients, "it is forgotten")
        frames = await read_frames(sock)
        sock.close()
        assert hub.evicted == 1
    assert [f["type"] if isinstance(f, dict) else f for f in frames[-2:]] == ["resync", 1013]


async def test_updates_of_a_conversation_collapse_for_a_slow_client() -> None:
    """However many updates one conversation has, a slow client needs only the newest."""
    async with Served.run(client_queue_bytes=2**20, client_queue_events=50) as served:
        sock = await stalled_socket(served.server.port)
        hub = served.relay.manager.hub
        await eventually(lambda: len(hub.clients) == 1, "it is connected")
        seq = 0
        while not hub.laggards:
            seq += 1
            served.feed.publish(created(message("x" * 10_000, seq)))
            await asyncio.sleep(0)
        for revision in range(1, 2001):
            served.feed.publish(changed(conversation(revision=revision)))
            if revision % 100 == 0:
                await asyncio.sleep(0)
        assert hub.resyncs == 0
        reading = asyncio.create_task(read_frames(sock), name="read")
        await eventually(lambda: not hub.laggards, "it is level again")
        await served.relay.manager.shutdown()
        frames = await reading
        sock.close()
    updates = [
        f["data"]["revision"] for f in frames if isinstance(f, dict) and "status" in f["data"]
    ]
    assert updates[-1] == 2000
    assert len(updates) <= 51


async def test_what_piles_up_in_one_turn_leaves_in_one_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hundred events of one turn cost each client one write."""
    async with Served.run() as served, served.client() as one, served.client() as two:
        await one.next(), await two.next()
        writes: list[int] = []

        def counted(descriptor: int, data: bytes) -> int:
            writes.append(descriptor)
            return os.write(descriptor, data)

        monkeypatch.setattr(asgi, "write", counted)
        for seq in range(100):
            served.feed.publish(created(message(str(seq), seq)))
        for reader in (one, two):
            assert [(await reader.next())["data"]["seq"] for _ in range(100)] == list(range(100))
        assert len(writes) == len(set(writes)) == 2


async def test_no_frame_waits_for_the_acknowledgement_of_another() -> None:
    """Nagle's algorithm is off, also where the listening socket does not say that it is TCP."""
    async with Served.run() as served, served.client() as client:
        await client.next()
        (connected,) = served.relay.manager.hub.clients.values()
        assert connected.wire is not None
        sock = connected.wire.transport.get_extra_info("socket")
        assert sock.proto == 0
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_silent_client_is_aborted_after_two_heartbeats() -> None:
    """Who answers neither kind of ping is not there; who answers one of them stays."""
    async with Served.run(heartbeat_seconds=0.2) as served:
        sock = await stalled_socket(served.server.port)
        async with served.client() as client:  # answers WebSocket pings by itself
            hub = served.relay.manager.hub
            await eventually(lambda: len(hub.clients) == 2, "both are connected")
            await eventually(lambda: len(hub.clients) == 1, "the silent one is aborted")
            id = (await client.next())["data"]["client_id"]
            for _ in range(5):
                ping = await client.got("ping")
            assert set(ping) == {"timestamp", "cursor"}
            assert list(hub.clients) == [id]
        sock.close()


async def test_a_client_that_dies_without_a_word_is_forgotten() -> None:
    """A reset connection leaves nothing behind, even between two events."""
    async with Served.run() as served:
        hub = served.relay.manager.hub
        async with served.client() as healthy:
            await healthy.next()
            for _ in range(20):
                sock = await stalled_socket(served.server.port)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                sock.close()
                served.feed.publish(created(message()))
            await eventually(lambda: len(hub.clients) == 1, "only the healthy one is left")
            assert len(await healthy.sync()) == 20


async def test_connections_that_have_gone_leave_nothing_behind() -> None:
    """Neither clients nor groups nor timers are kept for them."""
    async with Served.run() as served:
        hub = served.relay.manager.hub
        for number in range(200):
            async with served.client() as client:
                await client.next()
                if number % 2:
                    await client.say("subscribe", {"conversations": [str(conversation().id)]})
                    await client.got("subscribed")
                served.feed.publish(created(message(str(number), number)))
        await eventually(lambda: not hub.clients, "all have gone")
        gc.collect()
        assert not [thing for thing in gc.get_objects() if isinstance(thing, ServedClient)]
        assert not hub.level and not hub.laggards
