"""Whatever happens, each shipped client ends in the state of the database that it follows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from random import Random
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from supabase import AsyncClient

from conv_realtime import Live, Rows, connect
from conv_realtime.edges.live import client as live_client
from conv_realtime.events import Resync, ResyncData
from conv_realtime.local import LocalSupabase
from conv_realtime.relay import Relay
from tests.clients.javascript import NEWEST, NODE_20
from tests.conftest import Owner
from tests.node import NodeProgram
from tests.relay.proxy import Proxy
from tests.relay.rows import START, conversation, message, project
from tests.relay.serving import serve, settings
from tests.relay.test_supabase_feed import client_of, write

pytestmark = pytest.mark.node

SESSIONS = ("a", "b", "c")
STEPS = 15
WITHIN = 40.0
QUICK = {"firstPauseMs": 20, "longestPauseMs": 300}
EVERYTHING = 1000
FOREIGN = "0123456789abcdef.17"

State = dict[str, int]


class Database:
    """Writes rows of one owner, as several watchers would, and says what the database then has."""

    def __init__(self, owner: UUID, client: AsyncClient) -> None:
        self._owner = owner
        self._client = client
        self._revision = 0

    def id(self, session: str) -> str:
        """The id of a conversation."""
        return str(conversation(session, self._owner).id)

    def project(self, path: str) -> str:
        """The id of a project."""
        return str(project(path, self._owner).id)

    async def begin(self) -> None:
        """Write what everything hangs on."""
        for path in ("/one", "/two"):
            await write(self._client, project(path, self._owner))
        for session in SESSIONS:
            await self.change(session, 1, gone=False)

    async def change(self, session: str, seq: int, *, gone: bool) -> None:
        """Change a conversation and a message of it, or take that back."""
        self._revision += 1
        place = project("/one" if session == "a" else "/two", self._owner)
        talk = conversation(session, self._owner, self._revision, project_id=place.id)
        row = message(
            f"r{self._revision}",
            seq,
            of=talk,
            revision=self._revision,
            deleted_at=START + timedelta(1) if gone else None,
        )
        await write(self._client, talk, row)

    async def state(self, *sessions: str, messages: bool = True) -> State:
        """Id and revision of the live rows of these conversations."""
        ids = [self.id(session) for session in sessions]
        state: State = {}
        for table, key in (("conversations", "id"), ("messages", "conversation_id")):
            if table == "messages" and not messages:
                continue
            query = self._client.table(table).select("id,revision").in_(key, ids)
            answer: Any = await query.is_("deleted_at", "null").execute()
            state |= {row["id"]: row["revision"] for row in answer.data}
        return state


class Relays:
    """One relay behind a proxy, which another one can replace."""

    def __init__(self, local: LocalSupabase, proxy: Proxy) -> None:
        self._settings = settings(
            supabase_url=local.url,
            supabase_key=SecretStr(local.secret_key),
            supabase_jwt_secret=SecretStr(local.jwt_secret),
            reconcile_interval=0.5,
            client_queue_events=20,
            replay_events=30,
        )
        self._proxy = proxy
        self._stack = AsyncExitStack()
        self.relay: Relay | None = None

    async def start(self) -> None:
        """Serve, in place of what was served before."""
        await self.stop()
        relay = Relay(settings=self._settings)
        app = Starlette(routes=relay.routes, lifespan=relay.lifespan)
        server = await self._stack.enter_async_context(serve(app))
        self._proxy.point_at("127.0.0.1", server.port)
        self.relay = relay

    async def stop(self) -> None:
        """Go away, as a server that is stopped does."""
        await self._stack.aclose()

    async def force_gap(self) -> None:
        """Tell every client that it has missed something."""
        assert self.relay is not None
        cursor = self.relay.manager.hub.log.cursor
        await self.relay.manager.broadcast(
            Resync(data=ResyncData(reason="too_slow", cursor=cursor))
        )


class PythonClient:
    """`connect` with `Rows`, kept by a task."""

    name = "python"

    def __init__(self) -> None:
        self.rows = Rows(EVERYTHING)
        self.live: Live | None = None

    @classmethod
    @asynccontextmanager
    async def run(cls, url: str, token: str, **wanted: Any) -> AsyncIterator[Self]:
        """Follow until left."""
        client = cls()

        async def follow() -> None:
            subscribe = {**wanted, "snapshot": EVERYTHING}
            async with connect(url, token=lambda: token, subscribe=subscribe) as live:
                client.live = live
                async for event in live:
                    client.rows.apply(event)

        async with asyncio.TaskGroup() as group:
            task = group.create_task(follow(), name="test.live")
            try:
                yield client
            finally:
                task.cancel()

    async def back(self) -> bool:
        """Whether it has everything, but for what is just under way."""
        return self.live is not None and self.live.connected and self.live.cursor is not None

    async def state(self) -> State:
        """Id and revision of the rows it has."""
        rows = self.rows
        found = {str(id): row.revision for id, row in rows.conversations.items()}
        for id in rows.conversations:
            found |= {str(row.id): row.revision for row in rows.messages(id)}
        return found


class JavaScriptClient:
    """One of ours in Node.js, by the name that it has there."""

    def __init__(self, node: NodeProgram, name: str) -> None:
        self._node = node
        self.name = name

    async def back(self) -> bool:
        """Whether it has everything, but for what is just under way."""
        seen = await self._node.do("seen", name=self.name)
        return seen["status"] in ("live", "polling")

    async def state(self) -> State:
        """Id and revision of the rows it has."""
        rows: State = await self._node.do("rows", name=self.name)
        return rows


class Scene:
    """Everything that runs, and what can happen to it."""

    def __init__(
        self, database: Database, relays: Relays, ws: Proxy, cloud: Proxy, node: NodeProgram
    ) -> None:
        self._database, self._relays, self._node = database, relays, node
        self._ws, self._cloud = ws, cloud
        self._over = False
        self.clients: list[PythonClient | JavaScriptClient] = []

    async def play(self, rng: Random) -> None:
        """Let things happen, in an order that the seed decides, while others write.

        Now and then everybody is let come back, or nothing would ever be under way when the next
        thing happens.
        """
        happenings: tuple[Callable[[], Awaitable[None]], ...] = (
            lambda: self._cut(self._ws),
            lambda: self._cut(self._cloud),
            lambda: self._away(self._ws, rng.uniform(0, 0.1)),
            lambda: self._away(self._cloud, rng.uniform(0, 0.1)),
            self._relays.start,
            self._relays.force_gap,
            lambda: self._node.do("lose", share=rng.choice((0, 0.5, 1))),
            lambda: self._node.do("answer", instead={"cursor": FOREIGN}),
        )
        async with asyncio.TaskGroup() as group:
            for session in SESSIONS:
                group.create_task(self._write(session, Random(rng.random())), name="test.writer")
            for _ in range(STEPS):
                if rng.random() < 0.5:
                    await self._everybody_is_back()
                await rng.choices(happenings, (4, 3, 2, 2, 1, 3, 3, 1))[0]()
                await asyncio.sleep(rng.uniform(0, 0.05))
            # Not cancelled: what a server has begun it may finish after we have looked.
            self._over = True
        await self._node.do("lose", share=0)
        await self._node.do("answer", instead=None)

    async def _write(self, session: str, rng: Random) -> None:
        while not self._over:
            for _ in range(rng.choice((1, 1, 1, 8))):
                await self._database.change(session, rng.randint(1, 6), gone=rng.random() < 0.25)
            await asyncio.sleep(rng.uniform(0, 0.1))

    async def _everybody_is_back(self) -> None:
        for client in self.clients:
            async with asyncio.timeout(WITHIN):
                while not await client.back():  # noqa: ASYNC110
                    await asyncio.sleep(0.02)

    async def _cut(self, proxy: Proxy) -> None:
        proxy.cut()

    async def _away(self, proxy: Proxy, seconds: float) -> None:
        proxy.open = False
        proxy.cut()
        await asyncio.sleep(seconds)
        proxy.open = True


@pytest.mark.parametrize("seed", [1, 2])  # supabase-js of either age
async def test_every_client_ends_in_the_state_it_follows(
    seed: int, local_supabase: LocalSupabase, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut lines, restarts, gaps, lost broadcasts and writers at once: the rows are the same."""
    monkeypatch.setattr(live_client, "PAUSES", (0.02, 0.3))
    address = urlsplit(local_supabase.url)
    assert address.hostname is not None and address.port is not None
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        writer = await enter(client_of(local_supabase, local_supabase.secret_key))
        database = Database(UUID(owner.id), writer)
        await database.begin()
        ws, cloud = (
            await enter(Proxy.to("", 0)),
            await enter(Proxy.to(address.hostname, address.port)),
        )
        relays = Relays(local_supabase, ws)
        stack.push_async_callback(relays.stop)
        await relays.start()
        flavour = NEWEST if seed % 2 else NODE_20
        run = NodeProgram.run("shipped.mjs", oldest=flavour.node, SUPABASE_JS=flavour.package)
        node = await enter(run)
        url = f"ws://127.0.0.1:{ws.port}/ws"
        only_a = {"conversations": [database.id("a")]}
        only_two = {"projects": [database.project("/two")]}
        for name, wanted in (("all", {}), ("a", only_a), ("two", only_two)):
            options = {"subscribe": {**wanted, "snapshot": EVERYTHING}, **QUICK}
            await node.do("connect", name=name, url=url, tokens=[owner.token], options=options)
        project_there = {
            "name": "cloud",
            "url": f"http://127.0.0.1:{cloud.port}",
            "key": local_supabase.publishable_key,
            "tokens": [owner.token],
        }
        often = {"reconcileMs": 500, "pollMs": 300, "messages": EVERYTHING, **QUICK}
        for name, followed in (("talk", {"conversation": database.id("b")}), ("list", {})):
            options = {**followed, **often}
            await node.do("follow", name=name, supabase=project_there, options=options)
        everything = await enter(PythonClient.run(url, owner.token))
        one = await enter(PythonClient.run(url, owner.token, **only_a))
        scene = Scene(database, relays, ws, cloud, node)
        named = {name: JavaScriptClient(node, name) for name in ("all", "a", "two", "talk", "list")}
        scene.clients = [everything, one, *named.values()]

        await scene.play(Random(seed))

        all_of_it = await database.state(*SESSIONS)
        assert len(all_of_it) > len(SESSIONS)
        await _becomes(everything, all_of_it)
        await _becomes(one, await database.state("a"))
        await _becomes(named["all"], all_of_it)
        await _becomes(named["a"], await database.state("a"))
        await _becomes(named["two"], await database.state("b", "c"))
        await _becomes(named["talk"], await database.state("b"))
        await _becomes(named["list"], await database.state(*SESSIONS, messages=False))


async def _becomes(client: PythonClient | JavaScriptClient, expected: State) -> None:
    state: State = {}
    try:
        async with asyncio.timeout(WITHIN):
            while (state := await client.state()) != expected:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    except TimeoutError:
        wrong = {id for id in {*state, *expected} if state.get(id) != expected.get(id)}
        pytest.fail(f"{client.name}: {[(id, state.get(id), expected.get(id)) for id in wrong]}")
