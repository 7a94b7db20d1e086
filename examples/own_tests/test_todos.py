"""The tests of a project of yours: pip install 'conv_realtime[local]' pytest pytest-asyncio

Each test has a Supabase of its own, made from supabase/migrations and supabase/seed.sql, within
some milliseconds: no Docker, no shared database, nothing to clean up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx
import pytest
import todos
from postgrest import APIError
from supabase import AsyncClient, AsyncClientOptions, acreate_client

from conv_realtime.testing import SupabaseLocal

ALICE, BOB = UUID(int=1), UUID(int=2)


@asynccontextmanager
async def signed_in(supabase: SupabaseLocal, user: UUID) -> AsyncIterator[AsyncClient]:
    """Open a client as a user; tokens are made, nobody has to sign up."""
    async with httpx.AsyncClient() as http:
        options = AsyncClientOptions(httpx_client=http, auto_refresh_token=False)
        client = await acreate_client(supabase.url, supabase.publishable_key, options)
        client.postgrest.auth(supabase.token(sub=user))
        await client.realtime.set_auth(supabase.token(sub=user))
        try:
            yield client
        finally:
            await client.realtime.close()


async def texts(client: AsyncClient) -> list[str]:
    """Read what a user's list says."""
    return [row["text"] for row in (await client.table("todos").select("text").execute()).data]  # type: ignore[index, call-overload, misc]


async def eventually(condition: Callable[[], Any]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_everybody_has_a_list_of_their_own(supabase_local: SupabaseLocal) -> None:
    """Row level security is really there, and so is the seed."""
    async with (
        signed_in(supabase_local, ALICE) as alice,
        signed_in(supabase_local, BOB) as bob,
    ):
        await todos.add(alice, "water the tomatoes")
        assert await texts(alice) == ["water the tomatoes"]
        assert await texts(bob) == []
        with pytest.raises(APIError, match="row-level security"):
            row = {"id": str(UUID(int=9)), "text": "x", "owner_id": str(ALICE)}
            await bob.table("todos").insert(row).execute()


async def test_a_list_is_followed_live(supabase_local: SupabaseLocal) -> None:
    """A change is heard on the private channel, and by nobody else."""
    seen: dict[str, str] = {}
    async with (
        signed_in(supabase_local, ALICE) as alice,
        signed_in(supabase_local, BOB) as bob,
        todos.followed(alice, str(ALICE), lambda todo: seen.update({todo["id"]: todo["text"]})),
    ):
        await todos.add(bob, "not for Alice")
        id = await todos.add(alice, "water the tomatoes")
        await eventually(lambda: id in seen)
        assert seen == {id: "water the tomatoes"}


async def test_a_line_is_there_once_whatever_goes_wrong(supabase_local: SupabaseLocal) -> None:
    """The gateway is busy; then the row is written and the acknowledgement gets lost."""
    faults = supabase_local.faults
    async with signed_in(supabase_local, ALICE) as alice:
        busy = faults.answer(503, method="POST", times=1, retry_after=1)
        lost = faults.disconnect(method="POST", times=1, done=True)
        await todos.add(alice, "water the tomatoes")
        assert (busy.hits, lost.hits) == (1, 1)
        assert await texts(alice) == ["water the tomatoes"]
        with faults.answer(504, path="/rest/v1/todos"), pytest.raises(APIError):
            await todos.add(alice, "never")


async def test_nothing_is_missed_while_the_connection_is_broken(
    supabase_local: SupabaseLocal,
) -> None:
    """Sockets break, messages get lost, and the list is right in the end."""
    seen: dict[str, str] = {}
    async with (
        signed_in(supabase_local, ALICE) as alice,
        signed_in(supabase_local, ALICE) as phone,
        todos.followed(alice, str(ALICE), lambda todo: seen.update({todo["id"]: todo["text"]})),
    ):
        first = await todos.add(phone, "heard")
        await eventually(lambda: first in seen)
        with supabase_local.faults.lose_messages() as lost:
            second = await todos.add(phone, "said into the void")
            await eventually(lambda: lost.hits)
        assert second not in seen
        assert supabase_local.faults.drop_sockets(f"todos:{ALICE}") == 1
        await eventually(lambda: second in seen)
        third = await todos.add(phone, "heard again")
        await eventually(lambda: third in seen)
