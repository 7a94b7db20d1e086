"""`postgres_changes`, frame by frame, as captured on a real server."""

from __future__ import annotations

import asyncio
import json
import random
import re
import threading
import uuid
from contextlib import suppress

import psycopg
import pytest

from conv_realtime.local import LocalSupabase
from conv_realtime.local.realtime.changes import service
from conv_realtime.local.realtime.changes.admission import Published
from conv_realtime.local.realtime.frames import Version
from tests.conftest import Owner
from tests.local.changes import (
    OWNED,
    PLAIN,
    Table,
    arrived,
    changes,
    subscribe,
    system,
    systems,
    table,
)
from tests.local.realtime_client import PATIENCE, Received, socket

BOTH = pytest.mark.parametrize("version", list(Version))


@BOTH
async def test_rows_arrive_as_on_a_real_server(
    local_supabase: LocalSupabase, owner: Owner, todos: Table, plain: Table, version: Version
) -> None:
    """The fields, their types, the numbers, and the ids in the order of a real server."""
    wanted = [
        todos.binding(),
        todos.binding("INSERT", filter="title=eq.pub"),
        plain.binding(),
    ]
    async with socket(local_supabase, version) as client:
        topic, ids = await subscribe(client, wanted, token=owner.token)
        steps = [
            (todos, f"insert into @ values (1, 'priv', '{owner.id}', false, 1.50, '[1]')", 1),
            (todos, "insert into @ (id, title, is_public) values (2, 'pub', true)", 1),
            (todos, "update @ set title = 'upd'", 2),
            (todos, "update @ set is_public = false where id = 2", 0),
            (todos, "delete from @", 2),
            (plain, "insert into @ values (1, 'a')", 1),
            (plain, "update @ set id = 2", 1),
            (plain, "delete from @", 1),
            (plain, "insert into @ values (10, 'a'), (11, 'b')", 2),
            (plain, "truncate @", 0),
            (plain, "insert into @ values (12, 'end')", 1),
        ]
        count = 0
        for where, statement, sent in steps:
            await where.run(statement)
            count += sent
            payloads = await arrived(
                client, count, topic
            )  # policies are asked for the row as it is
    told = [
        (one["data"]["type"], one["data"].get("record"), one["data"].get("old_record"), one["ids"])
        for one in payloads
    ]
    null = {"owner": None, "n": None, "data": None}
    first, second, third = ids
    assert told == [
        (
            "INSERT",
            {
                "id": 1,
                "title": "priv",
                "owner": owner.id,
                "is_public": False,
                "n": 1.5,
                "data": [1],
            },
            None,
            [first],
        ),
        ("INSERT", {"id": 2, "title": "pub", "is_public": True, **null}, None, [second, first]),
        (
            "UPDATE",
            {
                "id": 1,
                "title": "upd",
                "owner": owner.id,
                "is_public": False,
                "n": 1.5,
                "data": [1],
            },
            {"id": 1},
            [first],
        ),
        ("UPDATE", {"id": 2, "title": "upd", "is_public": True, **null}, {"id": 2}, [first]),
        ("DELETE", None, {"id": 1}, [first]),
        ("DELETE", None, {"id": 2}, [first]),
        ("INSERT", {"id": 1, "v": "a"}, None, [third]),
        ("UPDATE", {"id": 2, "v": "a"}, {"id": 1}, [third]),
        ("DELETE", None, {"id": 2}, [third]),
        ("INSERT", {"id": 10, "v": "a"}, None, [third]),
        ("INSERT", {"id": 11, "v": "b"}, None, [third]),
        ("INSERT", {"id": 12, "v": "end"}, None, [third]),
    ]


@BOTH
async def test_a_frame_is_spelled_as_on_a_real_server(
    local_supabase: LocalSupabase, todos: Table, version: Version
) -> None:
    """Byte by byte, but for what differs from one run to the next."""
    async with socket(local_supabase, version) as client:
        await subscribe(client, [todos.binding()], name="pgc:spelled")
        await todos.run("insert into @ values (1, 'é\"', null, true, 1.50, '{\"k\": [1]}')")
        await arrived(client, 1)
        text = client.texts[-1]
    fields = json.loads(text)
    payload = fields["payload"] if version is Version.V1 else fields[4]
    data = (
        f'{{"data":{{"table":"{todos.name}","type":"INSERT","record":{{"n": 1.50, "id": 1, '
        '"data": {"k": [1]}, "owner": null, "title": "é\\"", "is_public": true},"columns":'
        '[{"name": "id", "type": "int8"}, {"name": "title", "type": "text"}, '
        '{"name": "owner", "type": "uuid"}, {"name": "is_public", "type": "bool"}, '
        '{"name": "n", "type": "numeric"}, {"name": "data", "type": "jsonb"}],"errors":null,'
        f'"schema":"public","commit_timestamp":"{payload["data"]["commit_timestamp"]}"}},'
        f'"ids":{json.dumps(payload["ids"])}}}'
    )
    topic = '"realtime:pgc:spelled"'
    assert text == (
        f'{{"ref":null,"event":"postgres_changes","payload":{data},"topic":{topic}}}'
        if version is Version.V1
        else f'[null,null,{topic},"postgres_changes",{data}]'
    )
    committed = payload["data"]["commit_timestamp"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", committed)


async def test_an_update_tells_the_old_row_under_replica_identity_full(
    local_supabase: LocalSupabase, todos: Table, plain: Table
) -> None:
    """A deleted row only where there are no policies that could have hidden it."""
    for one in (todos, plain):
        await one.run("alter table @ replica identity full")
    async with socket(local_supabase) as client:
        await subscribe(client, [todos.binding("UPDATE"), todos.binding("DELETE"), plain.binding()])
        await todos.run("insert into @ (id, title, is_public) values (1, 'old', true)")
        await todos.run("update @ set title = 'new'")
        (update,) = await arrived(client, 1)
        await todos.run("delete from @")
        await plain.run("insert into @ values (1, 'a')")
        await plain.run("delete from @")
        _, delete, _, plain_delete = await arrived(client, 4)
    old = {"id": 1, "title": "old", "is_public": True, "owner": None, "n": None, "data": None}
    assert update["data"]["old_record"] == old
    assert update["data"]["record"] == old | {"title": "new"}
    assert delete["data"]["old_record"] == {"id": 1}
    assert plain_delete["data"]["old_record"] == {"id": 1, "v": "a"}


async def test_a_large_value_that_did_not_change_is_missing(
    local_supabase: LocalSupabase, plain: Table
) -> None:
    """It is not in the log, but for replica identity full, where the old row has it."""
    await plain.run("alter table @ alter v set storage external, add w int")
    async with socket(local_supabase) as client:
        await subscribe(client, [plain.binding("UPDATE")])
        await plain.run("insert into @ values (1, repeat('x', 5000), 1)")
        await plain.run("update @ set w = 2")
        await plain.run("alter table @ replica identity full")
        await plain.run("update @ set w = 3")
        first, second = await arrived(client, 2)
    assert first["data"]["record"] == {"id": 1, "w": 2}
    assert [one["name"] for one in first["data"]["columns"]] == ["id", "v", "w"]
    assert second["data"]["record"] == {"id": 1, "w": 3, "v": "x" * 5000}


async def test_columns_that_are_not_granted_are_not_told(
    local_supabase: LocalSupabase, plain: Table
) -> None:
    """Without the key there is an error instead of the row."""
    await plain.run("alter table @ add secret text")
    await plain.run("revoke all on @ from anon")
    await plain.run("grant select (id, v) on @ to anon")
    async with socket(local_supabase) as client:
        await subscribe(client, [plain.binding()])
        await plain.run("insert into @ values (1, 'a', 'hidden')")
        (granted,) = await arrived(client, 1)
        await plain.run("revoke select (id) on @ from anon")
        await plain.run("update @ set v = 'b'")
        await plain.run("delete from @")
        _, refused, deleted = await arrived(client, 3)
    assert granted["data"]["record"] == {"id": 1, "v": "a"}
    assert [one["name"] for one in granted["data"]["columns"]] == ["id", "v"]
    assert refused["data"] == {
        "table": plain.name,
        "type": "UPDATE",
        "record": {},
        "columns": [],
        "errors": ["Error 401: Unauthorized"],
        "schema": "public",
        "commit_timestamp": None,
        "old_record": {},
    }
    assert (deleted["data"]["errors"], deleted["data"]["old_record"]) == (None, {})


async def test_a_table_without_a_key_tells_an_error(
    local_supabase: LocalSupabase, plain: Table
) -> None:
    """There is no way to look for its rows."""
    await plain.run("alter table @ drop constraint @_pkey")
    async with socket(local_supabase) as client:
        await subscribe(client, [plain.binding()])
        await plain.run("insert into @ values (1, 'a')")
        (payload,) = await arrived(client, 1)
    assert payload["data"] == {
        "table": plain.name,
        "type": "INSERT",
        "record": {},
        "columns": [],
        "errors": ["Error 400: Bad Request, no primary key"],
        "schema": "public",
        "commit_timestamp": None,
    }


async def test_chosen_columns_come_with_the_key_in_a_frame_of_their_own(
    local_supabase: LocalSupabase, todos: Table
) -> None:
    """One binding for all columns and two for some: two frames, the whole row first."""
    wanted = [
        todos.binding(select=["title"]),
        todos.binding(),
        todos.binding("INSERT", select=["title", "id"]),
    ]
    async with socket(local_supabase) as client:
        _, (some, whole, others) = await subscribe(client, wanted)
        await todos.run("insert into @ (id, title, is_public) values (1, 'a', true)")
        first, *rest = await arrived(client, 3)
    assert (first["ids"], len(first["data"]["record"])) == ([whole], 6)
    assert [one["ids"] for one in rest] == [[others], [some]]
    assert all(one["data"]["record"] == {"id": 1, "title": "a"} for one in rest)
    assert all(len(one["data"]["columns"]) == 2 for one in rest)


async def test_a_row_above_a_mebibyte_loses_its_large_values(
    local_supabase: LocalSupabase, plain: Table
) -> None:
    """With an error that says so; nulls vanish, too, as on a real server."""
    await plain.run("alter table @ add w text, add nothing text")
    async with socket(local_supabase) as client:
        await subscribe(client, [plain.binding()])
        await plain.run("insert into @ values (1, 'small', repeat('x', 1100000))")
        await plain.run("insert into @ values (2, 'small', repeat('x', 1000000))")
        large, whole = await arrived(client, 2)
    assert large["data"]["record"] == {"id": 1, "v": "small"}
    assert large["data"]["errors"] == ["Error 413: Payload Too Large"]
    assert (len(whole["data"]["record"]["w"]), whole["data"]["errors"]) == (1_000_000, None)


async def test_a_join_without_config_hears_the_old_form(
    local_supabase: LocalSupabase, plain: Table
) -> None:
    """Schema, table and filter are the topic; the event is the kind of change."""
    name = f"public:{plain.name}:id=gt.1"
    async with socket(local_supabase) as client:
        ref = await client.send(f"realtime:{name}", "phx_join", {})
        assert (await client.reply(ref))["status"] == "ok"
        assert (await system(client, name))["status"] == "ok"
        await plain.run("insert into @ values (1, 'a'), (2, 'b')")
        frame = await client.event(f"realtime:{name}", "INSERT")
    assert frame.payload["record"] == {"id": 2, "v": "b"}


async def test_a_new_token_changes_what_is_seen(
    local_supabase: LocalSupabase, owner: Owner, todos: Table
) -> None:
    """From its arrival on, and it is confirmed; the same one again is not."""
    name = f"pgc:{uuid.uuid4()}"
    stranger = local_supabase.token(sub=uuid.uuid4())
    rows = "insert into @ (title, owner, is_public) values (%s, %s, false), (%s, null, true)"
    async with socket(local_supabase) as client:
        topic, _ = await subscribe(client, [todos.binding()], name=name)
        await todos.run(rows, "as anon", owner.id, "one")
        await arrived(client, 1)
        await client.send(topic, "access_token", {"access_token": owner.token})
        assert (await system(client, name, 1))["status"] == "ok"
        await todos.run(rows, "as owner", owner.id, "two")
        await arrived(client, 3)
        await client.send(topic, "access_token", {"access_token": owner.token})
        await client.send(topic, "access_token", {"access_token": stranger})
        assert (await system(client, name, 2))["status"] == "ok"
        await todos.run(rows, "as a stranger", owner.id, "three")
        payloads = await arrived(client, 4)
        assert len(systems(client, name)) == 3
    titles = [one["data"]["record"]["title"] for one in payloads]
    assert titles == ["one", "as owner", "two", "three"]


async def test_a_new_token_loses_nothing_that_is_on_its_way(
    local_supabase: LocalSupabase, owner: Owner, todos: Table
) -> None:
    """Clients renew theirs every hour, whatever arrives meanwhile."""
    rows, insert = (
        3000,
        "insert into @ (id, owner) select n, %s from generate_series(%s::int, %s::int) n",
    )
    async with socket(local_supabase) as client:
        topic, _ = await subscribe(client, [todos.binding()], token=owner.token)
        for first in range(1, rows, 100):
            await todos.run(insert, owner.id, first, first + 99)
            token = local_supabase.token(sub=owner.id, expires_in=3600 + first)
            await client.send(topic, "access_token", {"access_token": token})
        payloads = await arrived(client, rows)
    ids = [one["data"]["record"]["id"] for one in payloads]
    assert sorted(ids) == list(range(1, rows + 1))


async def test_who_leaves_hears_no_more_and_may_come_back(
    local_supabase: LocalSupabase, plain: Table
) -> None:
    """Another channel of the same socket goes on; joining twice replaces the first."""
    async with socket(local_supabase) as client:
        left, _ = await subscribe(client, [plain.binding()], name="pgc:left")
        stays, _ = await subscribe(client, [plain.binding()], name="pgc:stays")
        await client.reply(await client.send(left, "phx_leave", {}))
        await plain.run("insert into @ values (1, 'a')")
        await arrived(client, 1, stays)
        assert changes(client, left) == []
        await client.join("pgc:left", postgres_changes=[plain.binding("DELETE")])
        await client.join("pgc:left", postgres_changes=[plain.binding("INSERT")])
        await system(client, "pgc:left", 1)
        await plain.run("insert into @ values (2, 'b')")
        await plain.run("delete from @")
        await arrived(client, 4, stays)
    assert [one.payload["data"]["record"] for one in changes(client, left)] == [{"id": 2, "v": "b"}]


async def test_a_channel_that_left_before_it_was_admitted_ends_nothing(
    local_supabase: LocalSupabase, plain: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the driver keeps to itself that it was cancelled, as psycopg can."""
    asked, answered = threading.Event(), threading.Event()

    async def deaf(*_: object) -> Published:
        asked.set()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(PATIENCE)
        answered.set()
        return {}

    async with socket(local_supabase) as client:
        stays, _ = await subscribe(client, [plain.binding()])
        with monkeypatch.context() as driver:
            driver.setattr(service, "admit", deaf)
            await client.join("pgc:left", postgres_changes=[plain.binding()])
            assert await asyncio.to_thread(asked.wait, PATIENCE)
            await client.reply(await client.send("realtime:pgc:left", "phx_leave", {}))
            assert await asyncio.to_thread(answered.wait, PATIENCE)
        await subscribe(client, [plain.binding()], name="pgc:next")
        await plain.run("insert into @ values (1, 'a')")
        await arrived(client, 1, stays)
    assert not changes(client, "realtime:pgc:left")
    assert not systems(client, "pgc:left")


async def test_nothing_written_after_the_confirmation_is_lost(
    local_supabase: LocalSupabase, todos: Table
) -> None:
    """Row after row, each in a transaction of its own, of a table with policies."""
    rows = 200
    async with socket(local_supabase) as client:
        await subscribe(client, [todos.binding()])
        for number in range(rows):
            await todos.run("insert into @ (id, is_public) values (%s, true)", number)
        payloads = await arrived(client, rows)
    assert [one["data"]["record"]["id"] for one in payloads] == list(range(rows))


async def test_a_private_channel_hears_changes_too(
    local_supabase: LocalSupabase, plain: Table
) -> None:
    """The channel's kind makes no difference to them."""
    async with socket(local_supabase, key=local_supabase.secret_key) as client:
        await subscribe(client, [plain.binding()], private=True)
        await plain.run("insert into @ values (1, 'a')")
        await arrived(client, 1)


async def test_tables_come_and_go_while_a_channel_listens(
    local_supabase: LocalSupabase, plain: Table
) -> None:
    """A table that is published later is heard of by who asked for all of them."""
    async with (
        table(local_supabase.db_url, PLAIN, published=False) as later,
        socket(local_supabase) as client,
    ):
        topic, _ = await subscribe(client, [{"event": "INSERT", "schema": "public"}])
        await later.run("insert into @ values (1, 'unheard')")
        await later.run("alter publication supabase_realtime add table @")
        await later.run("insert into @ values (2, 'heard')")
        await later.run("alter publication supabase_realtime drop table @")
        await later.run("insert into @ values (3, 'unheard')")
        await plain.run("insert into @ values (4, 'end')")
        async with asyncio.timeout(PATIENCE):
            while not any(one.payload["data"]["table"] == plain.name for one in changes(client)):
                await client.next_arrival()
    heard = [one.payload["data"] for one in changes(client, topic)]
    assert [one["record"]["id"] for one in heard if one["table"] == later.name] == [2]


@pytest.mark.parametrize("definition", [OWNED, PLAIN])
async def test_a_row_that_is_gone_or_hidden_by_now_is_told_as_on_a_real_server(
    local_supabase: LocalSupabase, definition: str
) -> None:
    """Policies are asked about the row as it is; without policies nobody is asked.

    All of it in one transaction, so that no check can come in between.
    """
    key = "is_public, id" if definition is OWNED else "v, id"
    private, public = ("false", "true") if definition is OWNED else ("'a'", "'b'")
    column = key.partition(",")[0]
    async with (
        table(local_supabase.db_url, definition) as made,
        socket(local_supabase) as client,
    ):
        await subscribe(client, [made.binding()])
        async with made.db.transaction():
            await made.run(f"insert into @ ({key}) values ({public}, 1)")
            await made.run("delete from @ where id = 1")
            await made.run(f"insert into @ ({key}) values ({private}, 2)")
            await made.run(f"update @ set {column} = {public} where id = 2")
            await made.run(f"insert into @ ({key}) values ({public}, 3)")
            await made.run(f"update @ set {column} = {private} where id = 3")
        await made.run(f"insert into @ ({key}) values ({public}, 4)")
        count = 4 if definition is OWNED else 7
        payloads = [one["data"] for one in await arrived(client, count)]
    told = [(one["type"], (one.get("record") or one["old_record"])["id"]) for one in payloads]
    seen = [("DELETE", 1), ("INSERT", 2), ("UPDATE", 2)]
    unseen = [("INSERT", 1)], [("INSERT", 3), ("UPDATE", 3)]
    if definition is OWNED:
        assert told == [*seen, ("INSERT", 4)]
    else:
        assert told == [*unseen[0], *seen, *unseen[1], ("INSERT", 4)]


async def test_rows_of_writers_that_commit_at_once_arrive_once_each(
    local_supabase: LocalSupabase, todos: Table
) -> None:
    """Decoding is ahead of visibility there: who asks too early does not find the row."""
    writers, rows = 8, 40

    async def write(first: int) -> None:
        async with await psycopg.AsyncConnection.connect(
            local_supabase.db_url, autocommit=True
        ) as db:
            statement = f"insert into {todos.name} (id, is_public) values (%s, true)".encode()
            for number in range(first, first + rows):
                await db.execute(statement, (number,))

    async with socket(local_supabase) as client:
        await subscribe(client, [todos.binding()])
        async with asyncio.TaskGroup() as group:
            for writer in range(writers):
                group.create_task(write(writer * rows))
        payloads = await arrived(client, writers * rows)
    ids = [one["data"]["record"]["id"] for one in payloads]
    assert sorted(ids) == list(range(writers * rows))
    for writer in range(writers):
        mine = range(writer * rows, (writer + 1) * rows)
        assert [number for number in ids if number in mine] == list(mine)


async def test_a_copy_that_follows_the_changes_equals_the_table(
    local_supabase: LocalSupabase, plain: Table
) -> None:
    """Any mixture of transactions, some of them rolled back, with keys that change."""
    chance = random.Random(7)
    copy: dict[int, str | None] = {}
    async with socket(local_supabase) as client:
        await subscribe(client, [plain.binding()])
        for _ in range(60):
            async with plain.db.transaction(force_rollback=chance.random() < 0.2):
                for _ in range(chance.randrange(1, 6)):
                    await plain.run(
                        chance.choice(
                            [
                                "insert into @ values (%(a)s, %(v)s)"
                                " on conflict (id) do update set v = excluded.v",
                                "update @ set v = %(v)s where id between %(a)s and %(b)s",
                                "update @ set id = id + 1000 where id = %(a)s and id < 1000",
                                "delete from @ where id in (%(a)s, %(b)s, 1000 + %(a)s)",
                            ]
                        ),
                        a=chance.randrange(20),
                        b=chance.randrange(20),
                        v=chance.choice(["x", "é", None]),
                    )
        await plain.run("insert into @ values (-1, 'end')")
        expected = {key: value for key, value in await plain.run("select id, v from @")}
        await client.wait(lambda frame: '"id": -1' in frame_record(frame))
    for change in changes(client):
        data = change.payload["data"]
        if data["type"] != "INSERT":
            copy.pop(data["old_record"]["id"])
        if data["type"] != "DELETE":
            copy[data["record"]["id"]] = data["record"]["v"]
    assert copy == expected


def frame_record(frame: Received) -> str:
    """The record of a change as JSON, else nothing."""
    is_change = frame.event == "postgres_changes"
    return json.dumps(frame.payload["data"].get("record")) if is_change else ""
