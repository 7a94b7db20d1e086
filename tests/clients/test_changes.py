"""`postgres_changes` as the official clients hear them from the local Supabase."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from conv_realtime.local import LocalSupabase
from tests.clients.client import Changed, Client
from tests.clients.test_conversation import CLIENTS, Opening
from tests.local.changes import OWNED, Table, table
from tests.project import Owner, SupabaseProject


@pytest.fixture
async def todos(local_supabase: LocalSupabase) -> AsyncIterator[Table]:
    """Rows that everybody sees if they are public, and else their owner alone."""
    async with table(local_supabase.db_url, OWNED) as made:
        await made.run("alter table @ replica identity full")
        yield made


@pytest.mark.parametrize("opening", CLIENTS)
async def test_a_client_hears_of_the_rows_that_its_user_may_see(
    local_supabase: LocalSupabase, owner: Owner, todos: Table, opening: Opening
) -> None:
    """All events, a filter, and what a new user sees on the same channel."""
    topic = f"changes:{uuid.uuid4()}"
    every = {"event": "*", "schema": "public", "table": todos.name}
    urgent = {"event": "UPDATE", "schema": "public", "table": todos.name, "filter": "title=eq.now"}
    async with opening(SupabaseProject.of(local_supabase)) as client:
        await client.sign_in(owner.token)
        assert (await client.join(topic, changes=[every])).status == "SUBSCRIBED"
        assert await client.inbox.next("system", topic) == "ok"
        other = f"{topic}:urgent"
        assert (await client.join(other, changes=[urgent])).status == "SUBSCRIBED"
        assert await client.inbox.next("system", other) == "ok"

        await todos.run("insert into @ values (1, 'a', %s, false, 1.5, '[1]')", owner.id)
        seen = await next_change(client, topic)
        row = {
            "id": 1,
            "title": "a",
            "owner": owner.id,
            "is_public": False,
            "n": 1.5,
            "data": [1],
        }
        assert seen == Changed("INSERT", todos.name, row, {})

        await todos.run("update @ set title = 'later' where id = 1")
        await todos.run("update @ set title = 'now' where id = 1")
        late, now = [await next_change(client, topic) for _ in range(2)]
        assert (late.new["title"], late.old["title"]) == ("later", "a")
        assert now == await next_change(client, other)

        await todos.run("delete from @ where id = 1")
        deleted = await next_change(client, topic)
        assert (deleted.type, deleted.new, deleted.old) == ("DELETE", {}, {"id": 1})

        await client.sign_in(local_supabase.token(sub=uuid.uuid4()))
        assert await client.inbox.next("system", topic) == "ok"
        await todos.run("insert into @ (id, owner) values (2, %s)", owner.id)
        await todos.run("insert into @ (id, is_public) values (3, true)")
        assert (await next_change(client, topic)).new["id"] == 3
        await client.leave(topic)


async def next_change(client: Client, topic: str) -> Changed:
    """Waits for the next change on a channel."""
    seen = await client.inbox.next("change", topic)
    assert isinstance(seen, Changed)
    return seen
