"""What a live endpoint for conversations has to do, one test for each thing that users ask for.

A real server, real sockets and, where transcripts are concerned, real files. The last ones
measure: they count work, or CPU, and compare within one run, so that a busy machine says the same
as an idle one. Their long form is `python -m tests.bench`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import jwt
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette

from conv_realtime import Bridge, testing
from tests.bench.relay_load.figures import Measured
from tests.bench.relay_load.ingest import measure_ingest
from tests.bench.relay_load.latency import measure_latency
from tests.bench.relay_load.leaks import measure_leaks
from tests.bench.relay_load.throughput import measure_steadiness
from tests.relay.raw import TEXT, Raw, masked, request
from tests.relay.rows import OTHER, changed, conversation, created, message, project
from tests.relay.serving import Client, Served, Server, eventually, serve

SECRET = "a-secret-that-is-long-enough-for-hs256"


class Scene:
    """A bridge that watches a folder and is served; it can be ended and started again."""

    def __init__(self, root: Path, store: testing.MemoryStore) -> None:
        self.projects = root / "projects" / "-home-ada-app"
        self._state = root / "state"
        self._store = store
        self.session = str(uuid4())

    @classmethod
    @asynccontextmanager
    async def run(cls, root: Path) -> AsyncIterator[tuple[Self, Server]]:
        """Serve a new scene until left."""
        scene = cls(root, testing.MemoryStore())
        scene.projects.mkdir(parents=True)
        async with scene.up() as server:
            yield scene, server

    @asynccontextmanager
    async def up(self, **options: Any) -> AsyncIterator[Server]:
        """Start bridge and server over what is there; `options` are uvicorn's."""
        bridge = Bridge(
            [self.projects.parent],
            store=self._store,
            owner_id=testing.OWNER,
            state_dir=self._state,
            machine="here",
            rest_seconds=0.1,
        )
        app = Starlette(routes=bridge.routes, lifespan=bridge.lifespan)
        async with serve(app, **options) as server:
            yield server

    @property
    def path(self) -> Path:
        """The transcript of the scene's own session."""
        return self.projects / f"{self.session}.jsonl"

    def append(self, text: str, role: str = "user", **fields: Any) -> None:
        """Append a line to the transcript."""
        fields.setdefault("session", self.session)
        with (self.projects / f"{fields['session']}.jsonl").open("ab") as file:
            file.write(testing.claude_line(text, role, **fields))


async def test_01_the_endpoint_accepts_connections_at_ws() -> None:
    """At /ws a handshake is answered with 101 and a first event; at other paths it is not."""
    async with Served.run() as served:
        async with served.client() as client:
            assert (await client.next())["type"] == "connection_established"
        async with Raw.open(served.server.port) as raw:
            await raw.send(request("/elsewhere"))
            assert await raw.status() == 403


async def test_02_the_connection_manager_tracks_active_connections() -> None:
    """Each client is in `active_connections` under the id that it was told, while it is there."""
    async with Served.run() as served, AsyncExitStack() as stack:
        manager = served.relay.manager
        clients = [await stack.enter_async_context(served.client()) for _ in range(5)]
        ids = [(await client.got("connection_established"))["client_id"] for client in clients]
        assert set(manager.active_connections) == set(ids) and len(set(ids)) == 5
        assert manager.stats()["clients"] == manager.stats()["accepted"] == 5
        await clients[0].connection.close()
        await eventually(lambda: set(manager.active_connections) == set(ids[1:]), "one has left")
        assert manager.stats()["accepted"] == 5


async def test_03_concurrent_connections_are_handled() -> None:
    """Sixty clients that come at the same instant are all let in and all hear."""
    async with Served.run() as served, AsyncExitStack() as stack:
        clients = await asyncio.gather(
            *(stack.enter_async_context(served.client()) for _ in range(60))
        )
        for client in clients:
            await client.got("connection_established")
        served.feed.publish(created(message("to all")))
        heard = await asyncio.gather(*(client.got("new_message") for client in clients))
        assert [data["text"] for data in heard] == ["to all"] * 60


async def test_04_disconnected_clients_are_removed() -> None:
    """With a goodbye, with a reset, without a word, or while somebody writes to them."""
    async with Served.run(heartbeat_seconds=0.2) as served, AsyncExitStack() as stack:
        manager = served.relay.manager
        polite = await stack.enter_async_context(served.client())
        await polite.connection.close()
        rude = await stack.enter_async_context(served.client())
        rude.connection.transport.abort()
        await stack.enter_async_context(Raw.upgraded(served.server.port))  # says and reads nothing
        for number in range(10):
            async with served.client() as client:
                served.feed.publish(created(message("x" * 50_000, number)))
                client.connection.transport.abort()
        await eventually(lambda: not manager.active_connections, "all are removed")
        await eventually(lambda: not served.server.server.server_state.connections, "and closed")


async def test_05_health_checks_work() -> None:
    """Both sides ask: `ping` gets `pong`; who answers the server's is kept, who does not is not."""
    async with Served.run(heartbeat_seconds=0.2) as served, served.client() as client:
        await client.got("connection_established")
        await client.say("ping", {"timestamp": 5})
        assert (await client.got("pong")) == {"timestamp": 5}
        async with Raw.upgraded(served.server.port):  # no pong of either kind
            await eventually(lambda: len(served.relay.manager.active_connections) == 2, "two")
            await eventually(lambda: len(served.relay.manager.active_connections) == 1, "one")
        for _ in range(5):
            await client.got("ping")
            await client.say("pong")
        await client.sync()


async def test_06_conversation_updates_trigger_broadcasts(tmp_path: Path) -> None:
    """A line that changes a conversation's row tells every client of it."""
    async with Scene.run(tmp_path) as (scene, server), AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(server.client()) for _ in range(3)]
        scene.append("hello")
        for client in clients:
            counts = [(await client.got("new_conversation"))["message_count"]]
            scene.append("and more")
            while counts[-1] < 2:
                counts.append((await client.got("conversation_update"))["message_count"])


async def test_07_messages_are_json_with_type_and_data(tmp_path: Path) -> None:
    """Every frame is a text frame with one JSON object of exactly these two fields."""
    async with Scene.run(tmp_path) as (scene, server), server.client() as client:
        scene.append("hello")
        await client.say("subscribe", {"snapshot": 5})
        await client.say("nonsense")
        await client.say("ping", {"timestamp": 1})
        types = set()
        while "pong" not in types:
            text = await client.connection.recv()
            assert isinstance(text, str)
            frame = json.loads(text)
            assert list(frame) == ["type", "data"]
            assert isinstance(frame["type"], str) and isinstance(frame["data"], dict)
            types.add(frame["type"])
        assert types >= {"connection_established", "subscribed", "snapshot", "error"}


async def test_08_only_relevant_clients_receive_updates() -> None:
    """By conversation, by project, by type, and by whose rows they are."""
    one, two = conversation("one"), conversation("two", project_id=project("/else").id)
    theirs = conversation("theirs", OTHER)
    token = jwt.encode({"sub": str(OTHER)}, SECRET, "HS256")
    filters: list[tuple[str, dict[str, Any], list[str]]] = [
        ("", {"conversations": [str(one.id)]}, ["1"]),
        ("", {"projects": [str(two.project_id)]}, ["2"]),
        ("", {"types": ["project_update"]}, []),
        ("", {}, ["1", "2", "3"]),
        (f"?token={token}", {}, ["3"]),
        (f"?token={token}", {"conversations": [str(one.id)]}, []),
    ]
    async with (
        Served.run(supabase_jwt_secret=SecretStr(SECRET)) as served,
        AsyncExitStack() as stack,
    ):
        served.feed.publish(created(one, two, theirs))
        clients = []
        for query, wanted, _ in filters:
            client = await stack.enter_async_context(served.client(query))
            await client.say("subscribe", wanted)
            await client.got("subscribed")
            clients.append(client)
        served.feed.publish(
            created(message("1", of=one), message("2", of=two), message("3", of=theirs))
        )
        for client, (_, wanted, expected) in zip(clients, filters, strict=True):
            texts = [frame["data"]["text"] for frame in await client.sync()]
            assert texts == expected, wanted


async def test_09_broadcast_failures_do_not_crash_the_system() -> None:
    """A transport that raises when it is written to costs its own client alone."""
    async with Served.run() as served, served.client() as healthy, served.client() as doomed:
        await healthy.next(), await doomed.next()
        broken = list(served.relay.manager.hub.clients.values())[1]
        assert broken.wire is not None

        class Broken:
            def write(self, data: bytes) -> None:
                raise RuntimeError("unable to perform operation; the handler is closed")

            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

        real, broken.wire.transport = broken.wire.transport, Broken()  # type: ignore[assignment]
        for number in range(20):
            served.feed.publish(created(message(str(number), number)))
            await asyncio.sleep(0)
        assert len(await healthy.sync()) == 20
        real.abort()
        await eventually(lambda: len(served.relay.manager.active_connections) == 1, "it is gone")


async def test_10_queuing_works_during_high_load() -> None:
    """A client that pauses for thousands of events has them all afterwards, in order."""
    async with Served.run(client_queue_events=10_000, client_queue_bytes=2**25) as served:
        async with served.client(max_queue=1) as client:
            await client.next()
            for number in range(4000):
                served.feed.publish(created(message("x" * 2000, number)))
                if number % 100 == 0:
                    await asyncio.sleep(0)
            assert served.relay.manager.hub.laggards, "more is waiting than a socket holds"
            seqs = [(await client.got("new_message"))["seq"] for _ in range(4000)]
        assert seqs == list(range(4000))
        assert served.relay.manager.stats()["resyncs"] == 0


async def test_11_file_monitoring_triggers_updates(tmp_path: Path) -> None:
    """A transcript that appears and grows on the disk is told of, as a file and as messages."""
    async with Scene.run(tmp_path) as (scene, server), server.client() as client:
        await client.say("subscribe", {"types": ["file_update", "new_message"]})
        await client.got("subscribed")
        scene.append("hello")  # which the first sweep may find, before any event tells of it
        assert (await client.got("new_message"))["text"] == "hello"
        scene.append("again")
        size = scene.path.stat().st_size
        texts, sizes = list[str](), set[int]()
        while texts != ["again"] or size not in sizes:
            frame = await client.next()  # the file and what it says, in whatever order
            if frame["type"] == "file_update":
                assert frame["data"]["path"] == str(scene.path)
                sizes.add(frame["data"]["size"])
            else:
                texts.append(frame["data"]["text"])


async def test_12_new_conversations_appear_in_real_time(tmp_path: Path) -> None:
    """A new transcript is a new conversation for clients that are there, without asking."""
    async with Scene.run(tmp_path) as (scene, server), server.client() as client:
        await client.got("connection_established")
        for _ in range(3):
            session = str(uuid4())
            scene.append("first words", session=session)
            data = await client.got("new_conversation")
            assert data["session_id"] == session and data["message_count"] == 1


async def test_13_message_updates_broadcast(tmp_path: Path) -> None:
    """A response that grows is one message, told again whole, with a higher revision."""
    async with Scene.run(tmp_path) as (scene, server), server.client() as client:
        scene.append("one", "assistant", message_id="msg_1")
        first = await client.got("new_message")
        scene.append("two", "assistant", message_id="msg_1")
        second = await client.got("message_update")
        assert second["id"] == first["id"] and second["revision"] > first["revision"]
        assert "one" in second["text"] and "two" in second["text"]


async def test_14_updates_include_conversation_metadata(tmp_path: Path) -> None:
    """A message says what a list shows of its conversation."""
    async with Scene.run(tmp_path) as (scene, server), server.client() as client:
        scene.append("Fix the login page", cwd="/home/ada/app")
        data = await client.got("new_message")
        shown = data["conversation"]
        assert shown["id"] == data["conversation_id"] and shown["source"] == "claude_code"
        assert shown["project_name"] == "app" and shown["message_count"] == 1
        assert shown["title"] == "Fix the login page" and shown["status"] == "active"
        assert set(shown) >= {"id", "title", "source", "project_name", "status", "activity"}


async def test_15_the_performance_impact_of_broadcasts_is_minimal() -> None:
    """Beside fifty clients ingest does at most a tenth more for a line than it does alone."""
    measured = await measure_ingest(50, rounds=1, lines=40)
    assert measured.calls_without > 100
    _hold(measured)


async def test_16_disconnections_are_handled_gracefully(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever goes, in whatever way and at whatever moment, leaves no error behind."""
    async with Served.run({"log_config": None}) as served, served.client() as healthy:
        await healthy.next()
        for number in range(30):
            async with served.client() as client:
                await client.say("subscribe", {"snapshot": True})
                served.feed.publish(created(message("x" * 20_000, number)))
                match number % 3:
                    case 0:
                        client.connection.transport.abort()
                    case 1:
                        await client.connection.close(1001)
                    case 2:
                        await client.connection.send("{")
        await eventually(lambda: len(served.relay.manager.active_connections) == 1, "they left")
        assert len(await healthy.sync()) == 30
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


async def test_17_connection_failures_do_not_affect_others() -> None:
    """Handshakes that fail, end half way or are refused pass by those who are there."""
    async with Served.run() as served, AsyncExitStack() as stack:
        healthy = await stack.enter_async_context(served.client())
        await healthy.next()
        for number in range(20):
            raw = await stack.enter_async_context(Raw.open(served.server.port))
            match number % 4:
                case 0:
                    await raw.send(request()[:40])
                case 1:
                    await raw.send(request(headers={"Sec-WebSocket-Key": "short"}))
                case 2:
                    await raw.send(request(headers={"Origin": "https://evil.example"}))
                case 3:
                    await raw.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")  # TLS
            served.feed.publish(created(message(str(number), number)))
        assert [frame["data"]["seq"] for frame in await healthy.sync()] == list(range(20))
        assert len(served.relay.manager.active_connections) == 1


async def test_18_invalid_messages_are_rejected_properly() -> None:
    """Each is answered with what was wrong, and the next good one is served."""
    async with Served.run() as served, served.client() as client:
        for text, code in (
            ("not json", "invalid_json"),
            ('["subscribe"]', "invalid_message"),
            ('{"data": {}}', "invalid_message"),
            ('{"type": "shout"}', "unknown_type"),
            ('{"type": "subscribe", "data": {"conversations": "all"}}', "invalid_data"),
            ('{"type": "subscribe", "data": {"types": ["gossip"]}}', "invalid_data"),
        ):
            await client.connection.send(text)
            error = await client.got("error")
            assert error["code"] == code and error["message"]
        await client.say("subscribe", {"types": ["new_message"]})
        assert (await client.got("subscribed"))["subscriptions"] == ["new_message"]
        async with Raw.upgraded(served.server.port, buffer=None) as raw:
            await raw.send(masked(TEXT, b"\xff\xfe"))
            assert b"\x03\xef" in (await raw.rest())[-80:]  # 1007: no UTF-8
        await client.sync()


async def test_19_a_server_restart_preserves_functionality(tmp_path: Path) -> None:
    """Clients are told to come back, and find at the same address what was said meanwhile."""
    async with Scene.run(tmp_path) as (scene, server):
        port = server.port
        async with server.client() as client:
            scene.append("before")
            cursor = (await client.got("new_message"))["cursor"]
            server.server.should_exit = True
            assert (await client.got("server_shutdown"))["reconnect_after_ms"] > 0
            assert await client.closed() == 1012
    scene.append("meanwhile", "assistant")
    async with scene.up(port=port) as server, server.client() as client:
        await client.say("subscribe", {"since": cursor})
        await client.got("subscribed")
        assert (await client.got("resync"))["reason"] == "unknown_cursor"  # of another run
        await client.say("subscribe", {"snapshot": 10})
        state = await client.got("snapshot")
        while [row["text"] for row in state["messages"]] != ["before", "meanwhile"]:
            await client.got("new_message")  # it was still being read
            await client.say("subscribe", {"snapshot": 10})
            state = await client.got("snapshot")
        scene.append("after")
        while (await client.got("new_message"))["text"] != "after":
            pass  # what the snapshot had already may come once more


async def test_20_no_memory_leaks_with_long_running_connections() -> None:
    """Hundreds that come and go leave nothing: no object, block of memory, task or descriptor."""
    _hold(await measure_leaks(600))


async def test_21_broadcast_latency_is_under_50_ms_at_the_95th_percentile() -> None:
    """To the last of sixty clients, less the time in which other processes had the CPU."""
    _hold(await measure_latency(60, 100))


async def test_22_fifty_and_more_concurrent_connections() -> None:
    """Two hundred clients each get each of a hundred events, in order."""

    async def read(client: Client) -> list[int]:
        return [(await client.got("new_message"))["seq"] for _ in range(100)]

    async with Served.run() as served, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(served.client()) for _ in range(200)]
        assert len(served.relay.manager.active_connections) == 200
        async with asyncio.TaskGroup() as group:
            reading = [group.create_task(read(client)) for client in clients]
            for number in range(100):
                served.feed.publish(created(message(str(number), number)))
                await asyncio.sleep(0)
        assert all(task.result() == list(range(100)) for task in reading)
        served.feed.publish(changed(conversation(revision=9)))
        assert (await clients[-1].got("conversation_update"))["revision"] == 9


async def test_23_throughput_is_stable_under_load() -> None:
    """A hundred thousand deliveries later each takes as much work, and has left nothing."""
    measured = await measure_steadiness(50)
    assert measured.deliveries >= 100_000
    _hold(measured)


def _hold(measured: Measured) -> None:
    """Fail unless every bound of a measurement held."""
    assert [figure for figure in measured.figures() if figure.holds is False] == []
