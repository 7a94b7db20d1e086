"""A bare Realtime client for tests: it shows every frame and hides nothing."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from conv_realtime.local import LocalSupabase
from conv_realtime.local.realtime.frames import Version
from conv_realtime.testing import SupabaseLocal
from tests.project import SupabaseProject

PATIENCE = 20.0


@dataclass(frozen=True)
class Received:
    """A frame from the server; a binary one has its bytes as payload and no topic."""

    topic: str
    event: str
    payload: Any
    ref: Any
    join_ref: Any


class Socket:
    """One connection; `received` keeps all frames in their order, `texts` those that are text."""

    def __init__(self, connection: ClientConnection, version: Version) -> None:
        self.connection = connection
        self.version = version
        self.received: list[Received] = []
        self.texts: list[str] = []
        self._refs = itertools.count(1)
        self._arrived = asyncio.Event()

    async def read(self) -> None:
        """Reads until the connection closes."""
        try:
            async for data in self.connection:
                self.received.append(self._parsed(data))
                self._arrived.set()
        except ConnectionClosed:
            pass
        self._arrived.set()

    def _parsed(self, data: str | bytes) -> Received:
        if isinstance(data, bytes):
            return Received("", "binary", data, None, None)
        self.texts.append(data)
        frame = json.loads(data)
        if self.version is Version.V1:
            assert "join_ref" not in frame
            return Received(frame["topic"], frame["event"], frame["payload"], frame["ref"], None)
        join_ref, ref, topic, event, payload = frame
        return Received(topic, event, payload, ref, join_ref)

    async def send(
        self, topic: str, event: str, payload: Any, *, join_ref: str | None = None
    ) -> str:
        """Sends a frame and gives its ref."""
        ref = str(next(self._refs))
        if event == "phx_join":
            join_ref = ref
        if self.version is Version.V2:
            await self.connection.send(json.dumps([join_ref, ref, topic, event, payload]))
        else:
            frame = {"topic": topic, "event": event, "payload": payload, "ref": ref}
            await self.connection.send(json.dumps(frame | {"join_ref": join_ref}))
        return ref

    async def wait(self, wanted: Callable[[Received], bool]) -> Received:
        """Waits for a frame, old or new."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for frame in self.received:
                    if wanted(frame):
                        return frame
                self._arrived.clear()
                await self._arrived.wait()

    async def next_arrival(self) -> None:
        """Waits for any further frame."""
        self._arrived.clear()
        await self._arrived.wait()

    async def reply(self, ref: str) -> Any:
        """Waits for the reply to a ref and gives its payload."""
        frame = await self.wait(lambda frame: frame.event == "phx_reply" and frame.ref == ref)
        return frame.payload

    async def event(self, topic: str, event: str) -> Received:
        """Waits for the first frame of this event on a topic."""
        return await self.wait(lambda frame: (frame.topic, frame.event) == (topic, event))

    async def join(
        self, name: str, *, token: str | None = None, **config: Any
    ) -> tuple[str, dict[str, Any]]:
        """Joins a channel; gives the ref and the reply's payload."""
        payload: dict[str, Any] = {"config": config}
        if token is not None:
            payload["access_token"] = token
        ref = await self.send(f"realtime:{name}", "phx_join", payload)
        return ref, await self.reply(ref)

    async def settle(self) -> None:
        """Returns when everything sent before has been handled: frames are answered in order."""
        await self.reply(await self.send("phoenix", "heartbeat", {}))


@asynccontextmanager
async def socket(
    local: LocalSupabase | SupabaseProject | SupabaseLocal,
    version: Version = Version.V2,
    *,
    key: str | None = None,
) -> AsyncIterator[Socket]:
    """Opens a connection with the publishable key, or another."""
    url = f"{local.url.replace('http', 'ws')}/realtime/v1/websocket"
    query = f"?apikey={key or local.publishable_key}&vsn={version}"
    async with connect(url + query, compression=None, max_size=None) as connection:
        opened = Socket(connection, version)
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(opened.read(), name="test.realtime.read")
            try:
                yield opened
            finally:
                reading.cancel()


@asynccontextmanager
async def with_policies(
    local: LocalSupabase, policies: str
) -> AsyncIterator[psycopg.AsyncConnection[object]]:
    """A connection as `postgres`, with `policies` made unless an earlier test has made them."""
    connection = await psycopg.AsyncConnection.connect(local.db_url, autocommit=True)
    async with connection:
        try:
            async with connection.transaction():
                await connection.execute(policies.encode())
        except psycopg.errors.DuplicateObject:
            pass
        yield connection
