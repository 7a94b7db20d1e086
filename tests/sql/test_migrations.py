"""The migrations go into any Supabase project once, as its owner, and into nobody's tables."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import psycopg
import pytest

from conv_realtime.local import provision
from conv_realtime.sql import Migration, latest_version, migrations
from tests.sql.database import Database
from tests.sql.rows import conversation
from tests.sql.scratch import Scratch

RIGHTS = (
    "select relname, relacl::text from pg_class where relkind in ('r', 'S') and"
    " (relnamespace = 'conv_realtime'::regnamespace"
    " or obj_description(oid, 'pg_class') like 'conv\\_realtime:%%')"
    " union all select proname, proacl::text from pg_proc where"
    " pronamespace = 'conv_realtime'::regnamespace or proname in"
    " ('changes_since', 'schema_version', 'conversation_digests') order by 1, 2"
)


def apply(scratch: Scratch, name: str, files: list[Migration]) -> None:
    """Applies files one by one, each in a transaction, as the Supabase CLI does."""
    for migration in files:
        scratch.run(scratch.postgres(name), migration.sql)


def tables(scratch: Scratch, name: str) -> set[str]:
    """What stands in schema public."""
    with scratch.database(name).postgres() as request:
        rows = request.rows(
            "select relname from pg_class where relnamespace = 2200 and relkind='r'"
        )
    return {row["relname"] for row in rows}


def test_names_are_those_of_the_supabase_cli() -> None:
    """Fourteen digits, a name, in rising order."""
    names = [migration.filename for migration in migrations()]
    assert len(names) >= 6
    assert names == sorted(names)
    assert all(re.fullmatch(r"\d{14}_conv_realtime_[a-z_]+\.sql", name) for name in names)


def test_the_database_knows_its_version(db: Database, alice: str) -> None:
    """Each file enters itself; schema_version() is the newest."""
    with db.postgres() as request:
        rows = request.rows("select version from conv_realtime.versions order by 1")
    assert [row["version"] for row in rows] == [one.version for one in migrations()]
    with db.user(alice) as request:
        assert request.value("select public.schema_version()") == latest_version()


def test_only_the_last_file_touches_schema_realtime() -> None:
    """And it does nothing but drop and create policies on realtime.messages."""
    *others, last = migrations()
    statements = r"\b(create|drop|alter|grant|revoke|comment|truncate)\b[^;]*?\bon realtime\."
    for migration in others:
        assert not re.search(r"(?i)(table|function|trigger|view|type)\s+realtime\.", migration.sql)
        assert not re.search(statements, migration.sql), migration.filename
    code = re.sub(r"--[^\n]*", "", last.sql)
    kinds = [" ".join(one.split()[:2]) for one in code.split(";") if one.strip()]
    assert set(kinds) == {"drop policy", "create policy", "insert into"}


def test_a_second_run_changes_nothing(scratch: Scratch) -> None:
    """It stops at its first statement and says why."""
    name = scratch.migrated()
    with scratch.database(name).postgres() as request:
        before = request.rows(RIGHTS)
    with pytest.raises(psycopg.errors.DuplicateTable, match="already installed"):
        apply(scratch, name, migrations())
    with scratch.database(name).postgres() as request:
        assert request.rows(RIGHTS) == before


def test_the_file_of_policies_can_be_pasted_again(scratch: Scratch) -> None:
    """Whoever has lost the policies gets them back by it, and by it alone."""
    name = scratch.migrated()
    query = "select polname::text from pg_policy where polrelid = 'realtime.messages'::regclass"
    with scratch.database(name).postgres() as request:
        before = request.rows(query)
    assert len(before) == 3
    drop = 'drop policy "{}" on realtime.messages'
    scratch.run(scratch.postgres(name), *(drop.format(row["polname"]) for row in before))
    for _ in range(2):
        apply(scratch, name, migrations()[-1:])
    with scratch.database(name).postgres() as request:
        assert request.rows(query) == before
        assert request.value("select public.schema_version()") == latest_version()


@pytest.mark.parametrize("table", ["projects", "conversations", "messages"])
def test_a_table_of_somebody_else_is_left_alone(scratch: Scratch, table: str) -> None:
    """The migration stops and names it."""
    name = scratch.empty()
    scratch.run(scratch.postgres(name), f"create table public.{table} (id int primary key)")
    with pytest.raises(psycopg.errors.DuplicateTable, match=f"public.{table} exists and does not"):
        apply(scratch, name, migrations())
    assert tables(scratch, name) == {table}


@pytest.mark.parametrize("granting", [True, False], ids=["all granted", "nothing granted"])
def test_rights_do_not_depend_on_default_grants(scratch: Scratch, granting: bool) -> None:
    """Older Supabase projects grant new tables and functions to every API role, newer to none."""
    name = scratch.empty()
    scratch.grant_by_default(name, granting)
    apply(scratch, name, migrations())
    assert granted(scratch.database(name)) == granted(scratch.database(scratch.migrated()))


@pytest.mark.usefixtures("local_supabase")  # a project elsewhere has its own default privileges
def test_new_tables_are_granted_as_the_run_says(db: Database, default_grants: bool) -> None:
    """So that a run that means to be without grants is."""
    with db.postgres() as request:
        request.rows("create table public.fresh (id int)")
        request.rows("create function public.fresh() returns int language sql return 1")
        for right in ("has_table_privilege('anon', 'public.fresh', 'select')",
                      "has_function_privilege('anon', 'public.fresh()', 'execute')"):  # fmt: skip
            assert request.value(f"select {right}") is default_grants
        request.connection.rollback()


def granted(db: Database) -> list[dict[str, Any]]:
    """All rights on all that is ours, in an order that does not depend on how they came."""
    with db.postgres() as request:
        rows = request.rows(RIGHTS)
    return [
        {"name": row["relname"], "rights": sorted((row["relacl"] or "").strip("{}").split(","))}
        for row in rows
    ]


def test_a_project_without_realtime_publication_is_fine(scratch: Scratch) -> None:
    """Nothing is made for it; where it is, our tables are in it."""
    query = "select tablename from pg_publication_tables where schemaname = 'public' order by 1"
    without, with_it = scratch.empty(), scratch.migrated()
    scratch.run(scratch.boss(without), "drop publication supabase_realtime")
    apply(scratch, without, migrations())
    with scratch.database(without).postgres() as request:
        assert request.rows(query) == []
        assert request.rows("select from pg_publication where pubname = 'supabase_realtime'") == []
    with scratch.database(with_it).postgres() as request:
        found = [row["tablename"] for row in request.rows(query)]
    assert found == ["conversations", "messages", "projects"]


def test_a_publication_of_all_tables_is_left_alone(scratch: Scratch) -> None:
    """It has ours already, and a table cannot be added to it."""
    name = scratch.empty()
    scratch.run(
        scratch.boss(name),
        "drop publication supabase_realtime",
        "create publication supabase_realtime for all tables",
    )
    apply(scratch, name, migrations())
    assert "messages" in tables(scratch, name)


def test_the_local_supabase_records_them(scratch: Scratch) -> None:
    """As the Supabase CLI does, so that it goes on from there."""
    name = scratch.migrated()
    with scratch.database(name).postgres() as request:
        rows = request.rows(
            "select version, name from supabase_migrations.schema_migrations order by 1"
        )
    assert [(row["version"], row["name"]) for row in rows] == [
        (one.version, one.name) for one in migrations()
    ]
    assert asyncio.run(provision.migrate(scratch.postgres(name))) == []


def test_the_tables_work_in_a_fresh_project(scratch: Scratch, alice: str) -> None:
    """From the first row to the first change."""
    db = scratch.database(scratch.migrated())
    row = conversation(alice)
    with db.user(alice) as request:
        assert request.changes("start")["changes"] == []
        request.upsert("conversations", [row])
    with db.user(alice) as request:
        assert [one["row"]["id"] for one in request.changes("start")["changes"]] == [row["id"]]
