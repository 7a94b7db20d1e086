"""`postgres_changes`, frame by frame, as captured on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from conv_realtime.local import LocalSupabase
from conv_realtime.local.realtime.frames import Version
from tests.conftest import Owner
from tests.local.changes import OWNED, PLAIN, Table, arrived, subscribe, table
from tests.local.realtime_client import socket

BOTH = pytest.mark.parametrize("version", list(Version))


@pytest.fixture
async def todos(local_supabase: LocalSupabase) -> AsyncIterator[Table]:
    """Rows that everybody sees if they are public, and else their owner alone."""
    async with table(local_supabase.db_url, OWNED) as made:
        yield made


@pytest.fixture
async def plain(local_supabase: LocalSupabase) -> AsyncIterator[Table]:
    """A table without row level security."""
    async with table(local_supabase.db_url, PLAIN) as made:
        yield made


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
