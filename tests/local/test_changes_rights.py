"""`postgres_changes` as an attacker sees them: other people's rows, columns and time."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from conv_realtime.local import LocalSupabase
from tests.conftest import Owner
from tests.local.changes import Table, arrived, changes, subscribe, system, table
from tests.local.realtime_client import Socket, socket

SECRETS = """
create table {name} (id int primary key, is_public boolean default false, secret text);
alter table {name} enable row level security;
create policy anon on {name} for select to anon using (is_public);
"""


@pytest.fixture
async def secrets(local_supabase: LocalSupabase) -> AsyncIterator[Table]:
    """Rows of which anon sees some, and one column never."""
    async with table(local_supabase.db_url, SECRETS) as made:
        await made.run("revoke all on @ from anon")
        await made.run("grant select (id, is_public) on @ to anon")
        yield made


def ids(client: Socket) -> list[int]:
    """The keys of the rows that a client has been told of, whatever happened to them."""
    rows = (frame.payload["data"] for frame in changes(client))
    return [(row.get("record") or row["old_record"])["id"] for row in rows]


async def test_rows_of_others_never_arrive(
    local_supabase: LocalSupabase, owner: Owner, todos: Table
) -> None:
    """Neither to a stranger, nor to anon, nor to a token with claims that only look alike."""
    stranger = str(uuid.uuid4())
    tokens = [
        local_supabase.token(sub=stranger),
        local_supabase.token(sub=stranger, user_metadata={"sub": owner.id}, email=owner.id),
        local_supabase.publishable_key,
    ]
    bindings = [todos.binding(), {"event": "*", "schema": "*"}]
    bindings += [todos.binding(filter=f"owner=eq.{owner.id}"), todos.binding(select=["title"])]
    async with socket(local_supabase) as client, socket(local_supabase) as owners:
        for token in tokens:
            await subscribe(client, bindings, token=token)
        topic, _ = await subscribe(owners, [todos.binding()], token=owner.token)
        for number in range(20):
            await todos.run("insert into @ (id, owner) values (%s, %s)", number, owner.id)
        await todos.run("update @ set title = 'mine'")
        assert len(await arrived(owners, 40, topic)) == 40
        await todos.run("insert into @ (id, is_public) values (99, true)")
        await arrived(client, 3)
        await client.settle()
    mine = [one for one in changes(client) if one.payload["data"]["table"] == todos.name]
    assert {one.payload["data"]["record"]["id"] for one in mine} == {99}


async def test_a_row_that_changes_hands_is_told_to_its_new_owner_alone(
    local_supabase: LocalSupabase, owner: Owner, todos: Table
) -> None:
    """The old owner is sent nothing, not even that it is gone."""
    heir = str(uuid.uuid4())
    async with socket(local_supabase) as old, socket(local_supabase) as new:
        await subscribe(old, [todos.binding()], token=owner.token)
        await subscribe(new, [todos.binding()], token=local_supabase.token(sub=heir))
        await todos.run("insert into @ (id, owner) values (1, %s)", owner.id)
        await todos.run("insert into @ (id, is_public) values (2, true)")
        await arrived(old, 2)
        await arrived(new, 1)  # who may see the first row was decided before it changes hands
        await todos.run("update @ set owner = %s where id = 1", heir)
        await todos.run("insert into @ (id, is_public) values (3, true)")
        await arrived(new, 3)
        await arrived(old, 3)
    assert (ids(old), ids(new)) == ([1, 2, 3], [2, 1, 3])
    assert [one.payload["data"]["type"] for one in changes(old)] == ["INSERT"] * 3


@pytest.mark.parametrize(
    "filter",
    [
        "title=eq.x'; drop table {t}; --",
        "title=eq.x') or true or ('' = '",
        "title=eq.$$||pg_sleep(9)||$$",
        "title=eq.%s{0}",
        'title=in.(x,"\'); drop table {t}; --")',
        'id"; drop table {t}; --=eq.1',
        "id=eq.1::int); drop table {t}; --",
        "title=isdistinct.\\'",
    ],
)
async def test_a_filter_is_never_read_as_sql(
    local_supabase: LocalSupabase, todos: Table, filter: str
) -> None:
    """It is refused, or it matches nothing; the table and the other channels stay."""
    wanted = todos.binding(filter=filter.replace("{t}", todos.name))
    async with socket(local_supabase) as client:
        await client.join("attack", postgres_changes=[wanted])
        await system(client, "attack")
        topic, _ = await subscribe(client, [todos.binding()])
        await todos.run("insert into @ (id, title, is_public) values (1, 'a', true)")
        await arrived(client, 1, topic)
        attacks = changes(client, "realtime:attack")
    assert len(attacks) == ("isdistinct" in filter)
    assert await todos.run("select id from @") == [(1,)]


@pytest.mark.parametrize("name", ['"; drop table {t}; --', "{t}' or true --", "{t}%s", "{t}%"])
async def test_a_table_name_is_never_read_as_sql(
    local_supabase: LocalSupabase, todos: Table, name: str
) -> None:
    """Only what LIKE takes it for."""
    wanted = todos.binding() | {"table": name.replace("{t}", todos.name)}
    async with socket(local_supabase) as client:
        await client.join("attack", postgres_changes=[wanted])
        told = await system(client, "attack")
    assert told["status"] == ("ok" if name == "{t}%" else "error")


async def test_a_filter_on_a_hidden_column_is_refused_now_and_later(
    local_supabase: LocalSupabase, secrets: Table
) -> None:
    """Also where the right to read it is withdrawn while the channel listens."""
    guess = secrets.binding(filter="secret=like.a%")
    async with socket(local_supabase) as client:
        await client.join("guess", postgres_changes=[guess])
        assert (await system(client, "guess"))["message"].endswith(
            "invalid column for filter secret"
        )
        await client.join("select", postgres_changes=[secrets.binding(select=["secret"])])
        told = await system(client, "select")
        assert told["message"].endswith("invalid column for select secret")
        await secrets.run("grant select (secret) on @ to anon")
        topic, _ = await subscribe(client, [guess])
        everything, _ = await subscribe(client, [secrets.binding()])
        await secrets.run("insert into @ values (1, true, 'abc')")
        await arrived(client, 1, topic)
        await secrets.run("revoke select (secret) on @ from anon")
        await secrets.run("insert into @ values (2, true, 'abc')")
        await arrived(client, 2, everything)
        await client.settle()
        assert len(changes(client, topic)) == 1
        seen = [frame.payload["data"]["record"] for frame in changes(client, everything)]
    assert "secret" not in seen[-1]


async def test_a_filter_tells_nothing_of_rows_that_are_hidden(
    local_supabase: LocalSupabase, secrets: Table
) -> None:
    """Not when they are written, and not when they are deleted under replica identity full.

    A deleted row goes to everybody by its key: a filter on the rest would tell what was in it.
    """
    await secrets.run("grant select (secret) on @ to anon")
    await secrets.run("alter table @ replica identity full")
    guesses = [secrets.binding(filter=f"secret=eq.{guess}") for guess in ("right", "wrong")]
    async with socket(local_supabase) as client:
        channels = [(await subscribe(client, [guess]))[0] for guess in guesses]
        await secrets.run("insert into @ values (1, false, 'right')")
        await secrets.run("update @ set id = 2")
        await secrets.run("delete from @")
        payloads = [await arrived(client, 1, topic) for topic in channels]
        await client.settle()
    assert [len(some) for some in payloads] == [1, 1]
    for some in payloads:
        assert (some[0]["data"]["type"], some[0]["data"]["old_record"]) == ("DELETE", {"id": 2})


async def test_a_deleted_row_can_be_told_by_its_key_alone(
    local_supabase: LocalSupabase, secrets: Table
) -> None:
    """A filter on the key holds for it; one on what is not in the log does not."""
    async with socket(local_supabase) as client:
        by_key, _ = await subscribe(client, [secrets.binding(filter="id=eq.1")])
        other, _ = await subscribe(client, [secrets.binding(filter="is_public=is.true")])
        await secrets.run("insert into @ values (1, false, 'a'), (2, false, 'b')")
        await secrets.run("delete from @")
        await arrived(client, 1, by_key)
        await secrets.run("insert into @ values (1, true, 'a')")
        await arrived(client, 2, by_key)
        await arrived(client, 1, other)
    assert [one.payload["data"]["type"] for one in changes(client, by_key)] == ["DELETE", "INSERT"]
    assert [one.payload["data"]["type"] for one in changes(client, other)] == ["INSERT"]


async def test_a_policy_cannot_write_and_cannot_become_somebody_else(
    local_supabase: LocalSupabase, todos: Table
) -> None:
    """Policies run as the user, without a way back to the role of the server."""
    await todos.run(
        """create function @_spy(t text) returns boolean language plpgsql as $$
        begin
          perform set_config('role', 'none', true);
          return t = current_user or t = session_user;
        end $$"""
    )
    await todos.run("create policy spy on @ for select to anon using (@_spy(title))")
    async with socket(local_supabase) as client:
        await subscribe(client, [todos.binding()])
        await todos.run(
            "insert into @ (id, title) values (1, 'supabase_admin'), (2, 'postgres'),"
            " (3, 'authenticator')"
        )
        await todos.run("insert into @ (id, is_public) values (4, true)")
        await arrived(client, 2)
    assert ids(client) == [3, 4]
    await todos.run("drop function @_spy cascade")
