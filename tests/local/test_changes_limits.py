"""`postgres_changes` on a bad day: slow policies, slow readers, huge transactions, restarts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from websockets.asyncio.client import ClientConnection, connect

from conv_realtime.local import LocalSupabase
from conv_realtime.local.realtime.rules import Rules
from tests.local.changes import (
    PLAIN,
    Table,
    arrived,
    changes,
    subscribe,
    system,
    systems,
    table,
)
from tests.local.own_postgres import kill_postmaster, open_folder
from tests.local.own_realtime import serving
from tests.local.realtime_client import PATIENCE, socket

TRAPPED = """
create table {name} (id int primary key, v text);
alter table {name} enable row level security;
create function {name}_trap(who text, what text) returns boolean language plpgsql as $$
begin
  if who = what || ':stalls' then perform pg_sleep(600); end if;
  if who = what || ':fails' then raise exception 'the policy is broken'; end if;
  return true;
end $$;
create policy trap on {name} for select to authenticated
  using ({name}_trap(auth.jwt() ->> 'kind', v));
create policy anon on {name} for select to anon using (true);
"""
HURRIED = Rules(policy_seconds=0.3)


@pytest.fixture
async def trapped(local_supabase: LocalSupabase) -> AsyncIterator[Table]:
    """A table whose policy stalls or fails for some users and some rows."""
    async with table(local_supabase.db_url, TRAPPED) as made:
        yield made
        await made.run("drop function @_trap cascade")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("stalls", "57014 (query_canceled)"), ("fails", "P0001 (raise_exception)")],
)
async def test_a_policy_that_stalls_or_fails_harms_only_those_it_is_about(
    local_supabase: LocalSupabase, trapped: Table, kind: str, reason: str
) -> None:
    """They are told what they missed, and hear of the next row that can be checked."""
    victims = [local_supabase.token(kind=f"bad:{kind}", n=number) for number in range(6)]
    healthy = local_supabase.token(kind="healthy")
    async with (
        serving(local_supabase, HURRIED) as server,
        socket(server) as bad,
        socket(server) as good,
    ):
        for number, token in enumerate(victims):
            await subscribe(bad, [trapped.binding()], token=token, name=f"bad{number}")
        signed, _ = await subscribe(good, [trapped.binding()], token=healthy)
        anon, _ = await subscribe(good, [trapped.binding()])
        for number in range(3):
            await trapped.run("insert into @ values (%s, 'bad')", number)
        await arrived(good, 3, signed)
        await arrived(good, 3, anon)
        for number in range(len(victims)):
            told = await system(bad, f"bad{number}", 1)
            assert told["status"] == "error"
            assert told["message"].endswith(f"they were not sent: {reason}")
        assert changes(bad) == []
        await trapped.run("insert into @ values (9, 'good')")
        for number in range(len(victims)):
            (row,) = await arrived(bad, 1, f"realtime:bad{number}")
            assert row["data"]["record"]["id"] == 9


async def test_a_pattern_that_takes_for_ever_delays_its_own_channel_alone(
    local_supabase: LocalSupabase, plain: Table
) -> None:
    """Everybody with the publishable key has the same claims; patterns are matched apart."""
    nested = r"v=match.^(.+)(.+)(.+)(.+)\4\3\2\1$"
    text = "".join(f"{chr(97 + n % 23)}{n}" for n in range(300))
    async with (
        serving(local_supabase, HURRIED) as server,
        socket(server) as attacker,
        socket(server) as client,
    ):
        await subscribe(attacker, [plain.binding(filter=nested)], name="attack")
        await subscribe(client, [plain.binding(filter="id=gte.0")])
        for number in range(3):
            await plain.run("insert into @ values (%s, %s)", number, text)
        assert len(await arrived(client, 3)) == 3
        assert "57014" in (await system(attacker, "attack", 1))["message"]
        assert changes(attacker) == []


async def test_who_is_too_far_behind_is_told_and_nobody_waits(
    local_supabase: LocalSupabase, trapped: Table
) -> None:
    """What has queued up for a policy that stalls is dropped when it would hold the others up."""
    rows = 8_000
    async with (
        serving(local_supabase, Rules(policy_seconds=1.0)) as server,
        socket(server) as bad,
        socket(server) as good,
    ):
        token = local_supabase.token(kind="bad:stalls")
        await subscribe(bad, [trapped.binding()], token=token, name="bad")
        await subscribe(good, [trapped.binding()])
        await trapped.run("insert into @ select n, 'bad' from generate_series(1, %s) n", rows)
        assert len(await arrived(good, rows)) == rows
        await trapped.run("insert into @ values (0, 'good')")
        (row,) = await arrived(bad, 1)
        assert row["data"]["record"]["id"] == 0
        told = {one["message"].partition(":")[0] for one in systems(bad, "bad")[1:]}
        assert "Too far behind, some changes were not sent" in told


async def test_a_huge_transaction_arrives_whole_while_broadcasts_go_on(
    local_supabase: LocalSupabase, trapped: Table
) -> None:
    """Nothing waits for it that has nothing to do with it."""
    rows = 20_000
    async with socket(local_supabase) as client, socket(local_supabase) as other:
        await subscribe(client, [trapped.binding()])
        await other.join("pgc:beside")
        await trapped.run(
            f"insert into @ select n, repeat('x', 200) from generate_series(1, {rows}) n"
        )
        await trapped.run("select realtime.send('{}', 'beside', 'pgc:beside', false)")
        await other.wait(lambda frame: frame.event == "binary")
        assert len(changes(client)) < rows
        payloads = await arrived(client, rows)
    assert [one["data"]["record"]["id"] for one in payloads] == list(range(1, rows + 1))


@asynccontextmanager
async def unhurried(server: Any, table: Table) -> AsyncIterator[ClientConnection]:
    """Gives a socket that is to hear of a table's changes, and reads no further by itself."""
    join = '["1","1","realtime:slow","phx_join",{{"config":{{"postgres_changes":[{}]}}}}]'
    wanted = f'{{"event":"*","schema":"public","table":"{table.name}"}}'
    url = f"{server.url.replace('http', 'ws')}/realtime/v1/websocket"
    query = f"?apikey={server.publishable_key}&vsn=2.0.0"
    async with connect(url + query, max_queue=1, compression=None, close_timeout=1) as slow:
        await slow.send(join.format(wanted))
        while b"Subscribed" not in bytes(await slow.recv(decode=False)):
            pass
        yield slow


@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_socket_that_does_not_read_is_dropped_and_the_others_hear_everything(
    local_supabase: LocalSupabase, plain: Table, wrapped: bool
) -> None:
    """They share a group: it waits for a reader that is slow, but not for one that stands still."""
    rules = Rules(max_buffered_bytes=3 << 20)
    async with serving(local_supabase, rules, wrapped=wrapped) as server:
        async with socket(server) as healthy, unhurried(server, plain):
            await subscribe(healthy, [plain.binding()])
            await plain.run(
                "insert into @ select n, repeat('x', 100000) from generate_series(1, 120) n"
            )
            assert len(await arrived(healthy, 120)) == 120


@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_burst_does_not_overrun_a_socket_that_reads_slowly(
    local_supabase: LocalSupabase, plain: Table, wrapped: bool
) -> None:
    """It gets several times what may wait for it, because the stream waits."""
    rules = Rules(max_buffered_bytes=4 << 20)
    async with serving(local_supabase, rules, wrapped=wrapped) as server:
        async with unhurried(server, plain) as slow:
            await plain.run(
                "insert into @ select n, repeat('x', 100000) from generate_series(1, 200) n"
            )
            async with asyncio.timeout(PATIENCE):
                for number in range(1, 201):
                    await asyncio.sleep(0.002)
                    frame = json.loads(await slow.recv())
                    assert frame[4]["data"]["record"]["id"] == number


async def test_changes_go_on_after_a_restart_of_postgres_and_it_is_told() -> None:
    """By itself, as on a real server; unlike there, the channel is told, and can read again."""
    with open_folder() as folder:
        async with LocalSupabase(folder, port=0) as local:
            async with table(local.db_url, PLAIN) as plain:
                async with socket(local) as client:
                    topic, _ = await subscribe(client, [plain.binding()], name="survivor")
                    await plain.run("insert into @ values (1, 'before')")
                    await arrived(client, 1, topic)
                    kill_postmaster(local.postgres.dsn())
                    told = await system(client, "survivor", 1)
                    assert (told["status"], told["message"]) == ("ok", "Subscribed to PostgreSQL")
                    async with await psycopg.AsyncConnection.connect(
                        local.db_url, autocommit=True
                    ) as db:
                        await db.execute(f"insert into {plain.name} values (2, 'after')".encode())
                        payloads = await arrived(client, 2, topic)
    assert [one["data"]["record"]["v"] for one in payloads] == ["before", "after"]


async def test_a_channel_is_told_when_other_tables_are_published(
    local_supabase: LocalSupabase, plain: Table
) -> None:
    """An error for a table that is gone, and the old words when it is back."""
    async with (
        serving(local_supabase, Rules(publication_seconds=0.05)) as server,
        socket(server) as client,
    ):
        topic, _ = await subscribe(client, [plain.binding()], name="table")
        await plain.run("alter publication supabase_realtime drop table @")
        gone = await system(client, "table", 1)
        assert (gone["status"], plain.name in gone["message"]) == ("error", True)
        assert "Please check Realtime is enabled" in gone["message"]
        await plain.run("insert into @ values (1, 'unheard')")
        await plain.run("alter publication supabase_realtime add table @")
        assert (await system(client, "table", 2))["status"] == "ok"
        await plain.run("insert into @ values (2, 'heard')")
        (row,) = await arrived(client, 1, topic)
    assert row["data"]["record"]["id"] == 2


async def test_a_publication_that_is_made_anew_goes_on() -> None:
    """Supabase's guides drop and create it: what is published then is heard of."""
    with open_folder() as folder:
        async with LocalSupabase(folder, port=0) as local, table(local.db_url, PLAIN) as plain:
            async with socket(local) as client:
                topic, _ = await subscribe(client, [plain.binding()], name="anew")
                await plain.run("drop publication supabase_realtime")
                await plain.run("insert into @ values (1, 'unheard')")
                await plain.run("create publication supabase_realtime for table @")
                await plain.run("insert into @ values (2, 'heard')")
                async with asyncio.timeout(PATIENCE):
                    number = 2
                    while not changes(client, topic):
                        number += 1
                        await plain.run("insert into @ values (%s, 'heard')", number)
                        await plain.run("select pg_sleep(0.05)")
        assert "unheard" not in str([one.payload for one in changes(client, topic)])
