"""Values as JSON: what is written in Python is what `to_jsonb` writes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conv_realtime.local import LocalSupabase
from conv_realtime.local.realtime.changes.horizon import nearest
from conv_realtime.local.realtime.changes.message import payload
from tests.local.changes import Table, arrived, changes, subscribe, system, table
from tests.local.realtime_client import socket

SAMPLES = {
    "bool": ["true", "false"],
    "int2": ["-32768"],
    "int4": ["0", "-1"],
    "int8": ["9007199254740993", "-9223372036854775808"],
    "float4": ["1.5", "1e20", "-0", "1e-30", "0.1"],
    "float8": ["1.7976931348623157e308", "5e-324", "-2.5", "123456789.123456789"],
    "numeric": ["1.50", "12345678901234567890.123456789", "-0.000", "1e3", "1e-20"],
    "numeric(10,2)": ["1"],
    "text": ["", "quote\" \\ é 😀", "\t\n\r\\u0000", "\x01\x1f\x7f", "</script>"],
    "varchar(5)": ["abc"],
    "char(4)": ["ab"],
    '"char"': ["x"],
    "name": ["a"],
    "uuid": ["00000000-0000-0000-0000-00000000000A"],
    "date": ["2024-01-02", "infinity", "0044-03-15 BC", "12024-01-02"],
    "time": ["03:04:05", "03:04:05.678"],
    "timetz": ["03:04:05+02"],
    "timestamp": ["2024-01-02 03:04:05.678", "-infinity", "0044-03-15 10:00 BC"],
    "timestamptz": ["2024-01-02 03:04:05.678+02", "infinity", "0044-03-15 10:00+00 BC"],
    "interval": ["1 day 02:00:00", "-1 mons"],
    "json": ['{"a":1.50, "b":[null, 1e2]}'],
    "jsonb": ['{"bb": 1.50, "a": [null]}', "null", '"text"'],
    "inet": ["10.0.0.1/8"],
    "cidr": ["10.0.0.0/8"],
    "macaddr": ["08:00:2b:01:02:03"],
    "money": ["12.34"],
    "bit(3)": ["101"],
    "varbit": ["1010"],
    "oid": ["42"],
    "int4range": ["[1,5)"],
    "int4multirange": ["{[1,5),[7,9)}"],
    "tsvector": ["a b"],
    "point": ["(1,2)"],
    "int4[]": ["{1,2,NULL}", "{{1},{2}}", "{}"],
    "text[]": ['{a,"b,c",NULL,"q\\"q"}'],
    "numeric[]": ["{1.50}"],
    "timestamptz[]": ['{"2024-01-02 03:04:05+02"}'],
    "{name}_mood": ["sad", "o'k"],
    "{name}_mood[]": ["{sad,o'k}"],
    "{name}_positive": ["7"],
    "{name}_pair": ["(1,\"x,y\")"],
}  # fmt: skip


@pytest.fixture
async def typed(local_supabase: LocalSupabase) -> AsyncIterator[Table]:
    """A table with a column for each type, and types of its own."""
    columns = ", ".join(f"c{at} {kind}" for at, kind in enumerate(SAMPLES))
    definition = f"""
    create type {{name}}_mood as enum ('sad', 'o''k');
    create domain {{name}}_positive as int check (value > 0);
    create type {{name}}_pair as (a int, b text);
    create table {{name}} (id int primary key, {columns})
    """
    async with table(local_supabase.db_url, definition) as made:
        yield made
        await made.run("drop table @")
        await made.run("drop type @_mood, @_pair; drop domain @_positive")


async def test_every_value_is_written_as_postgresql_writes_it(
    local_supabase: LocalSupabase, typed: Table
) -> None:
    """Character by character, for each type that a table may have; bytea and NaN apart."""
    columns = [f"c{at}" for at in range(len(SAMPLES))]
    expected = []
    async with socket(local_supabase) as client:
        await subscribe(client, [typed.binding()])
        await typed.run("set timezone = 'UTC'")
        for number in range(max(map(len, SAMPLES.values()))):
            chosen = [some[number] if number < len(some) else None for some in SAMPLES.values()]
            kinds = ", ".join(f"%s::{kind.replace('{name}', '@')}" for kind in SAMPLES)
            await typed.run(f"insert into @ values ({number}, {kinds})", *chosen)
            parts = ", ".join(f"'{name}', {name}" for name in columns)
            query = f"select jsonb_build_object({parts}, 'id', id)::text from @ where id = {number}"
            expected.append((await typed.run(query))[0][0])
        await arrived(client, len(expected))
    start, end = '"record":', ',"columns":'
    told = [text.partition(start)[2].partition(end)[0] for text in client.texts if start in text]
    for ours, theirs in zip(told, expected, strict=True):
        for (name, mine), (_, other) in zip(fields(ours), fields(theirs), strict=True):
            assert mine == other, (name, list(SAMPLES)[int(name[1:])])


def fields(record: str) -> list[tuple[str, str]]:
    """Splits a record into its fields without losing how a number was written."""
    parsed = json.loads(record, parse_float=lambda text: f"#{text}", parse_int=lambda n: f"#{n}")
    return [(name, json.dumps(value)) for name, value in parsed.items()]


async def test_values_that_wal2json_does_not_carry_are_told_as_a_real_server_does(
    local_supabase: LocalSupabase,
) -> None:
    """Bytes are bare hex; what is no number is null."""
    definition = "create table {name} (id int primary key, b bytea, f float8, n numeric, g float4)"
    async with table(local_supabase.db_url, definition) as made, socket(local_supabase) as client:
        await subscribe(client, [made.binding()])
        await made.run("insert into @ values (1, '\\x00ff', 'NaN', 'Infinity', '-Infinity')")
        (one,) = await arrived(client, 1)
    assert one["data"]["record"] == {"id": 1, "b": "00ff", "f": None, "n": None, "g": None}


async def test_names_may_hold_what_sql_and_its_parameters_mean_something_by(
    local_supabase: LocalSupabase,
) -> None:
    """Percent signs, quotes, dots, blanks and a key of two columns."""
    definition = """
    create table {name} ("a %s" int, "b"".c" text, "d'e, é" text[], primary key ("a %s", "b"".c"));
    alter table {name} enable row level security;
    create policy p on {name} for select to anon using ("a %s" > 0)
    """
    filters = ["a %s=gt.0", 'b".c=like.x%', "d'e, é=eq.{1}"]
    async with table(local_supabase.db_url, definition) as made, socket(local_supabase) as client:
        await subscribe(client, [made.binding(filter=one) for one in filters[:2]])
        await made.run("insert into @ values (0, 'xy', '{1}'), (1, 'xy', '{1}')")
        (one,) = await arrived(client, 1)
    assert one["data"]["record"] == {"a %s": 1, 'b".c': "xy", "d'e, é": ["1"]}
    assert len(one["ids"]) == 2


@pytest.mark.parametrize(
    ("filter", "matches"),
    [
        ("n=eq.1.5", [1]),
        ("n=neq.1.5", [2, 3]),
        ("n=lt.10", [1, 2]),
        ("n=lte.9", [1, 2]),
        ("n=gt.9", [3]),
        ("n=gte.9", [2, 3]),
        ("n=in.(9, 10)", [2, 3]),
        ("n=not.in.(9,10)", [1]),
        ("t=eq.b", [2]),
        ("t=like.B%", []),
        ("t=ilike.B%", [2]),
        ("t=match.^[ab]$", [1, 2]),
        ("t=not.imatch.^[AB]$", [3]),
        ("u=is.null", [3, 4]),
        ("u=not.is.null", [1, 2]),
        ("u=isdistinct.2024-01-01", [2, 3, 4]),
        ("u=eq.2024-01-01 00:00:00+00", [1]),
        ("n=neq.1,t=neq.c", [1, 2]),
        ('t=in.("a","c")', [1, 3]),
        ("n=eq.", None),
    ],
)
async def test_a_filter_compares_as_the_column_s_type_does(
    local_supabase: LocalSupabase, filter: str, matches: list[int] | None
) -> None:
    """Numbers as numbers, times as times; a null matches nothing but `is` and `isdistinct`."""
    definition = "create table {name} (id int primary key, n numeric, t text, u timestamptz)"
    async with table(local_supabase.db_url, definition) as made, socket(local_supabase) as client:
        wanted = [made.binding(filter=filter), made.binding(filter="id=eq.99")]
        _, reply = await client.join("filter", postgres_changes=wanted)
        asked, end = (one["id"] for one in reply["response"]["postgres_changes"])
        assert (await system(client, "filter"))["status"] == ("error" if matches is None else "ok")
        await subscribe(client, [made.binding()], name="everything")
        await made.run(
            "insert into @ values (1, 1.50, 'a', '2024-01-01 00:00Z'),"
            " (2, 9, 'b', '2024-01-02 00:00Z'), (3, 10, 'c', null), (4, null, null, null)"
        )
        await made.run("insert into @ (id) values (99)")
        await arrived(client, 5, "realtime:everything")
        told: list[dict[str, Any]] = []
        while matches is not None and end not in (told or [{"ids": ()}])[-1]["ids"]:
            told = await arrived(client, len(told) + 1, "realtime:filter")
    rows = [one["data"]["record"]["id"] for one in told if asked in one["ids"]]
    assert [row for row in rows if row != 99] == (matches or [])
    assert matches is not None or not changes(client, "realtime:filter")


@given(st.integers(1 << 33, 1 << 60), st.integers(-(1 << 31) + 1, (1 << 31) - 1))
def test_a_full_transaction_id_is_found_from_its_lower_half(newest: int, ahead: int) -> None:
    """Commits come in another order than ids are given, so it may lie on either side."""
    full = newest + ahead
    assert nearest(full % (1 << 32), newest) == full


def test_a_payload_is_spelled_in_the_order_of_a_real_server() -> None:
    """Data, then ids."""
    assert payload("{}", (2, 1)) == b'{"data":{},"ids":[2,1]}'
