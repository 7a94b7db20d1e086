"""A to-do list on Supabase: the part of an application that its tests are about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
from postgrest import APIError
from realtime.types import RealtimeChannelOptions
from supabase import AsyncClient

_ATTEMPTS = 4


async def add(client: AsyncClient, text: str) -> str:
    """Add a line and return its id.

    Again and again where Supabase is busy or does not answer: the id is ours, so that a line whose
    acknowledgement got lost is not there twice.
    """
    id = str(uuid4())
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            await client.table("todos").upsert({"id": id, "text": text}).execute()
            break
        except (APIError, httpx.TransportError):
            if attempt == _ATTEMPTS:
                raise
            await asyncio.sleep(0.05 * 2**attempt)
    return id


@asynccontextmanager
async def followed(
    client: AsyncClient, user: str, show: Callable[[Mapping[str, Any]], None]
) -> AsyncIterator[None]:
    """Show every change of a user's list, first what is there already, inside the block.

    After a break the channel joins by itself, and the list is read again: Realtime may lose
    messages, the table does not.
    """
    joined = asyncio.Event()

    async def read() -> None:
        while True:
            await joined.wait()
            joined.clear()
            for todo in (await client.table("todos").select("id, text, done").execute()).data:
                show(dict(todo))  # type: ignore[arg-type]

    private: RealtimeChannelOptions = {
        "config": {"private": True, "broadcast": None, "presence": None}
    }
    channel = client.channel(f"todos:{user}", private)
    channel.on_broadcast("todo", lambda message: show(message["payload"]))
    await channel.subscribe(lambda state, _: joined.set() if state == "SUBSCRIBED" else None)
    reading = asyncio.create_task(read(), name="todos")
    try:
        yield
    finally:
        reading.cancel()
        await channel.unsubscribe()
