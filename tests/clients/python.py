"""supabase-py in the shared conversation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
from postgrest import APIError
from realtime import AsyncRealtimeChannel
from supabase import AsyncClient, acreate_client
from supabase.lib.client_options import AsyncClientOptions

from tests.clients.client import Answer, Changed, Heard, Inbox, Joined, Row, channel_config
from tests.project import SupabaseProject


class PythonClient:
    """See `Client`."""

    def __init__(self, client: AsyncClient) -> None:
        self.inbox = Inbox()
        self._client = client
        self._channels: dict[str, AsyncRealtimeChannel] = {}

    async def sign_in(self, token: str) -> None:
        self._client.postgrest.auth(token)
        await self._client.realtime.set_auth(token)

    async def select(
        self, table: str, columns: str, where: Mapping[str, Any], order: str
    ) -> Answer:
        query = self._client.table(table).select(columns).order(order)
        for column, value in where.items():
            query = query.eq(column, value)
        return await _answer(query)

    async def upsert(self, table: str, rows: Sequence[Row]) -> Answer:
        return await _answer(self._client.table(table).upsert(list(rows)))

    async def rpc(self, name: str, **given: Any) -> Answer:
        return await _answer(self._client.rpc(name, given))

    async def join(
        self,
        topic: str,
        *,
        private: bool = False,
        echo: bool = False,
        events: Sequence[str] = (),
        changes: Sequence[Mapping[str, str]] = (),
    ) -> Joined:
        config = channel_config(private=private, echo=echo)
        channel = self._client.channel(topic, cast(Any, {"config": config}))
        self._channels[topic] = channel
        for event in events:
            channel.on_broadcast(event, lambda told: self._hear(topic, cast(Row, told)))
        for change in changes:
            channel.on_postgres_changes(
                cast(Any, change["event"]),
                lambda told: self._see(topic, cast(Row, told)),
                change.get("table"),
                change.get("schema"),
                change.get("filter"),
            )
        channel.on_system(lambda told: self._note(topic, cast(Row, dict(told))))
        outcomes: list[Joined] = []

        def told(status: Any, error: Exception | None) -> None:
            if outcomes:
                self.inbox.put("status", topic, str(status.value))
            else:
                outcomes.append(Joined(str(status.value), str(error) if error else None))

        await channel.subscribe(told)
        return outcomes[0]

    async def send(self, topic: str, event: str, payload: Row) -> None:
        await self._channels[topic].send_broadcast(event, payload)

    async def http_send(self, topic: str, event: str, payload: Row) -> None:
        await self._channels[topic].http_send(event, payload)

    async def leave(self, topic: str) -> None:
        await self._client.remove_channel(self._channels.pop(topic))

    def _hear(self, topic: str, told: Row) -> None:
        heard = Heard(told["event"], told["payload"], told.get("meta"))
        self.inbox.put("broadcast", topic, heard)

    def _see(self, topic: str, told: Row) -> None:
        data = told["data"]
        old = data.get("old_record") or {}
        kind = str(getattr(data["type"], "value", data["type"]))
        self.inbox.put("change", topic, Changed(kind, data["table"], data.get("record") or {}, old))

    def _note(self, topic: str, told: Row) -> None:
        if told.get("extension") == "postgres_changes":
            self.inbox.put("system", topic, told["status"])


async def _answer(request: Any) -> Answer:
    try:
        return Answer((await request.execute()).data)
    except APIError as error:
        return Answer(None, error.code)


@asynccontextmanager
async def python(project: SupabaseProject) -> AsyncIterator[PythonClient]:
    """Opens a supabase-py client."""
    async with httpx.AsyncClient() as http:
        options = AsyncClientOptions(httpx_client=http, auto_refresh_token=False)
        client = await acreate_client(project.url, project.publishable_key, options)
        try:
            yield PythonClient(client)
        finally:
            await client.realtime.close()
