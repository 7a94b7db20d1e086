"""The official clients against the local Realtime server, as frontends use them."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from realtime import AsyncRealtimeChannel
from supabase import AsyncClient, acreate_client
from supabase.lib.client_options import AsyncClientOptions

from conv_realtime.local import LocalSupabase
from tests.conftest import Owner
from tests.local.realtime_client import with_policies

PATIENCE = 20.0
JS = Path(__file__).parent.parent / "js"

POLICY = """
create policy "clients test members" on realtime.messages for select to authenticated
  using (realtime.topic() = 'clients-room:' || auth.uid()::text);
create policy "clients test writers" on realtime.messages for insert to authenticated
  with check (realtime.topic() = 'clients-room:' || auth.uid()::text);
"""


@pytest.fixture
async def db(local_supabase: LocalSupabase) -> AsyncIterator[psycopg.AsyncConnection[object]]:
    """A connection as `postgres`, with the policies of these tests in place."""
    async with with_policies(local_supabase, POLICY) as connection:
        yield connection


async def say(db: psycopg.AsyncConnection[object], topic: str, event: str, private: bool) -> None:
    """Broadcasts from SQL."""
    await db.execute("select realtime.send('{\"n\": 1}', %s, %s, %s)", (event, topic, private))


class PythonListener:
    """A supabase-py client that keeps every broadcast of one channel."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client
        self.heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def join(self, topic: str, *, private: bool = False) -> AsyncRealtimeChannel:
        """Subscribes; the first outcome decides."""
        config: Any = {"config": {"private": private}}
        channel = self.client.channel(topic, config)
        for event in ("one", "two", "end"):
            channel.on_broadcast(event, lambda message: self.heard.put_nowait(dict(message)))
        async with asyncio.timeout(PATIENCE):
            return await channel.subscribe()

    async def next(self) -> dict[str, Any]:
        """Waits for the next broadcast."""
        async with asyncio.timeout(PATIENCE):
            return await self.heard.get()


@asynccontextmanager
async def python(
    local: LocalSupabase, token: str | None = None, key: str | None = None
) -> AsyncIterator[PythonListener]:
    """Opens a supabase-py client, signed in with a token if there is one."""
    async with httpx.AsyncClient() as http:
        options = AsyncClientOptions(httpx_client=http, auto_refresh_token=False)
        client = await acreate_client(local.url, key or local.publishable_key, options)
        try:
            if token is not None:
                await client.realtime.set_auth(token)
            yield PythonListener(client)
        finally:
            await client.realtime.close()


async def test_supabase_py_hears_public_broadcasts_of_client_http_and_database(
    local_supabase: LocalSupabase, db: psycopg.AsyncConnection[object]
) -> None:
    """All three ways to send, at another client of the same topic."""
    topic = f"clients:{uuid.uuid4()}"
    async with python(local_supabase) as sender, python(local_supabase) as listener:
        outgoing = await sender.join(topic)
        await listener.join(topic)
        await outgoing.send_broadcast("one", {"a": 1})
        assert (await listener.next())["payload"] == {"a": 1}
        await outgoing.http_send("two", {"b": 2})
        assert (await listener.next())["payload"] == {"b": 2}
        await say(db, topic, "end", private=False)
        assert (await listener.next())["payload"]["n"] == 1


async def test_supabase_py_hears_its_private_channel_and_no_other(
    local_supabase: LocalSupabase, owner: Owner, db: psycopg.AsyncConnection[object]
) -> None:
    """The owner receives `realtime.send`; a stranger's join fails."""
    topic = f"clients-room:{owner.id}"
    async with AsyncExitStack() as stack:
        member = await stack.enter_async_context(python(local_supabase, owner.token))
        other = local_supabase.token(sub=uuid.uuid4())
        stranger = await stack.enter_async_context(python(local_supabase, other))
        assert (await member.join(topic, private=True)).is_joined
        assert not (await stranger.join(topic, private=True)).is_joined
        await say(db, topic, "one", private=True)
        message = await member.next()
        assert message["event"] == "one"
        assert message["payload"] == {"id": message["meta"]["id"], "n": 1}
        assert stranger.heard.empty()


async def test_supabase_py_keeps_its_channel_over_a_new_token(
    local_supabase: LocalSupabase, owner: Owner, db: psycopg.AsyncConnection[object]
) -> None:
    """set_auth on a joined channel is taken without an answer."""
    topic = f"clients-room:{owner.id}"
    async with python(local_supabase, owner.token) as member:
        channel = await member.join(topic, private=True)
        await member.client.realtime.set_auth(local_supabase.token(sub=owner.id, expires_in=9000))
        await say(db, topic, "one", private=True)
        assert (await member.next())["event"] == "one"
        assert channel.is_joined


async def test_supabase_py_joins_private_channels_with_the_secret_key(
    local_supabase: LocalSupabase, owner: Owner, db: psycopg.AsyncConnection[object]
) -> None:
    """A backend needs no policy."""
    async with python(local_supabase, key=local_supabase.secret_key) as backend:
        channel = await backend.join(f"clients-room:{owner.id}", private=True)
        assert channel.is_joined


class JavaScriptListener:
    """supabase-js in a Node process, told what to do over its stdin; see tests/js/client.mjs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._process = process
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._ids = itertools.count(1)

    async def read(self) -> None:
        """Sorts what the process says into answers and events."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said = json.loads(line)
            if "event" in said:
                self.heard.put_nowait(said)
            elif "error" in said:
                self._answers.pop(said["id"]).set_exception(AssertionError(said["error"]))
            else:
                self._answers.pop(said["id"]).set_result(said["ok"])

    async def do(self, name: str, **given: Any) -> Any:
        """Sends a command and waits for its answer."""
        assert self._process.stdin is not None
        number = next(self._ids)
        self._answers[number] = asyncio.get_running_loop().create_future()
        line = json.dumps({"id": number, "do": name, **given}) + "\n"
        self._process.stdin.write(line.encode())
        async with asyncio.timeout(PATIENCE):
            return await self._answers[number]

    async def next(self) -> dict[str, Any]:
        """Waits for the next broadcast."""
        async with asyncio.timeout(PATIENCE):
            while (said := await self.heard.get())["event"] != "broadcast":
                pass
            message: dict[str, Any] = said["message"]
            return message


@asynccontextmanager
async def javascript(local: LocalSupabase) -> AsyncIterator[JavaScriptListener]:
    """Starts a Node process with a supabase-js client."""
    node = shutil.which("node")
    if node is None or not (JS / "node_modules").is_dir():
        reason = "needs Node.js, and `npm ci` in tests/js"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "SUPABASE_URL": local.url,
        "SUPABASE_KEY": local.publishable_key,
    }
    process = await asyncio.create_subprocess_exec(
        node,
        str(JS / "client.mjs"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )
    assert process.stdin is not None
    listener = JavaScriptListener(process)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(listener.read(), name="test.js.read")
        try:
            yield listener
        finally:
            process.stdin.close()  # the program ends when its input does
            async with asyncio.timeout(PATIENCE):
                await process.wait()
                await reading


@pytest.mark.node
async def test_supabase_js_hears_public_broadcasts_of_client_http_and_database(
    local_supabase: LocalSupabase, db: psycopg.AsyncConnection[object]
) -> None:
    """Text frames and binary ones of protocol 2.0.0, acknowledged where asked for."""
    topic = f"clients:{uuid.uuid4()}"
    loud = {"broadcast": {"ack": True, "self": True}}
    async with javascript(local_supabase) as listener, python(local_supabase) as neighbour:
        await neighbour.join(topic)
        assert (await listener.do("join", topic=topic, config=loud))["status"] == "SUBSCRIBED"
        assert await listener.do("send", topic=topic, event="one", payload={"a": 1}) == "ok"
        for message in (await listener.next(), await neighbour.next()):
            assert (message["event"], message["payload"]) == ("one", {"a": 1})
        sent = await listener.do("httpSend", topic=topic, event="two", payload={"b": "é"})
        assert sent == {"success": True}
        for message in (await listener.next(), await neighbour.next()):
            assert (message["event"], message["payload"]) == ("two", {"b": "é"})
        await say(db, topic, "end", private=False)
        message = await listener.next()
        assert message["payload"] == {"id": message["meta"]["id"], "n": 1}


@pytest.mark.node
async def test_supabase_js_hears_its_private_channel_and_no_other(
    local_supabase: LocalSupabase, owner: Owner, db: psycopg.AsyncConnection[object]
) -> None:
    """Refused as a stranger, admitted as the owner, still there after a new token."""
    topic = f"clients-room:{owner.id}"
    private = {"private": True}
    async with javascript(local_supabase) as stranger, javascript(local_supabase) as member:
        await stranger.do("token", token=local_supabase.token(sub=uuid.uuid4()))
        refused = await stranger.do("join", topic=topic, config=private)
        assert refused["status"] == "CHANNEL_ERROR"
        assert "Unauthorized: You do not have permissions" in refused["reason"]
        await member.do("token", token=owner.token)
        assert (await member.do("join", topic=topic, config=private))["status"] == "SUBSCRIBED"
        await say(db, topic, "one", private=True)
        assert (await member.next())["event"] == "one"
        await member.do("token", token=local_supabase.token(sub=owner.id, expires_in=9000))
        await say(db, topic, "two", private=True)
        assert (await member.next())["event"] == "two"
        assert await member.do("leave", topic=topic) == "ok"
        assert all(said["event"] != "broadcast" for said in iter_queue(stranger.heard))


def iter_queue(queue: asyncio.Queue[dict[str, Any]]) -> list[dict[str, Any]]:
    """Gives what is queued right now."""
    return [queue.get_nowait() for _ in range(queue.qsize())]
