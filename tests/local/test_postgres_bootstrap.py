"""The database is a Supabase project as its clients and migrations know it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import psycopg
import pytest

from conv_realtime.local import LocalSupabase

Connection = psycopg.AsyncConnection[tuple[object, ...]]


@pytest.fixture
async def db(local_supabase: LocalSupabase) -> AsyncIterator[Connection]:
    """A connection as `postgres` that is rolled back."""
    async with await psycopg.AsyncConnection.connect(local_supabase.db_url) as connection:
        yield connection
        await connection.rollback()


async def test_postgres_is_no_superuser_but_bypasses_rls(db: Connection) -> None:
    """`db_url` has the rights that Supabase gives its users, and no more."""
    rows = await db.execute(
        "select rolsuper, rolbypassrls, rolcreaterole from pg_roles where rolname = current_user"
    )
    assert await rows.fetchone() == (False, True, True)


async def test_send_adds_the_id_of_its_row(db: Connection) -> None:
    """`realtime.send` stores a broadcast whose payload names it."""
    topic = str(uuid.uuid4())
    await db.execute("""select realtime.send('{"a": 1}', 'said', %s)""", (topic,))
    query = "select payload ->> 'id' = id::text, event, private, extension from realtime.messages"
    rows = await db.execute(query + " where topic = %s", (topic,))
    assert await rows.fetchall() == [(True, "said", True, "broadcast")]


async def test_send_only_warns_when_it_cannot(db: Connection) -> None:
    """A payload that is no object costs a warning, never the caller's transaction."""
    warnings: list[str | None] = []
    db.add_notice_handler(lambda told: warnings.append(told.message_primary))
    await db.execute("select realtime.send('[1]', 'said', 'somewhere')")
    assert await (await db.execute("select 1")).fetchone() == (1,)
    assert [text for text in warnings if text and text.startswith("WarnSending")]


async def test_postgres_makes_and_drops_policies_on_broadcasts(db: Connection) -> None:
    """The one thing that migrations may do in schema realtime works."""
    await db.execute("create policy p on realtime.messages for select to anon using (true)")
    await db.execute("drop policy p on realtime.messages")


@pytest.mark.parametrize(
    "statement",
    [
        "alter table realtime.messages disable row level security",
        "drop table realtime.messages",
        "create table realtime.mine (a int)",
        "create function realtime.f() returns int language sql as 'select 1'",
        "create trigger t after insert on realtime.messages "
        "execute function suppress_redundant_updates_trigger()",
        "alter function realtime.topic() rename to subject",
        "set role supabase_realtime_admin",
        "drop event trigger local_realtime_guard",
        "create role boss superuser",
    ],
)
async def test_postgres_may_do_nothing_else_there(db: Connection, statement: str) -> None:
    """What hosted Supabase refuses is refused here, so that a migration fails here first."""
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await db.execute(statement.encode())


async def test_broadcast_changes_carries_both_rows(db: Connection) -> None:
    """A row trigger with `realtime.broadcast_changes` sends operation, record and old record."""
    topic = str(uuid.uuid4())
    await db.execute("create table public.things (id int primary key, name text)")
    await db.execute(f"""
        create function public.tell() returns trigger language plpgsql as $$ begin
          perform realtime.broadcast_changes('{topic}', tg_op, tg_op, tg_table_name,
            tg_table_schema, new, old);
          return null; end $$;
        create trigger tell after insert or update or delete on public.things
          for each row execute function public.tell();
        insert into public.things values (1, 'a');
        update public.things set name = 'b';
        delete from public.things;
    """)
    rows = await db.execute(
        "select payload - 'id' from realtime.messages where topic = %s order by event", (topic,)
    )
    one = {"table": "things", "schema": "public"}
    a, b = {"id": 1, "name": "a"}, {"id": 1, "name": "b"}
    assert [row[0] for row in await rows.fetchall()] == [
        one | {"operation": "DELETE", "record": None, "old_record": b},
        one | {"operation": "INSERT", "record": a, "old_record": None},
        one | {"operation": "UPDATE", "record": b, "old_record": a},
    ]


async def test_auth_functions_read_the_claims(db: Connection) -> None:
    """Policies and defaults learn from the request's claims who asks."""
    user = uuid.uuid4()
    claims = f'{{"sub": "{user}", "role": "authenticated", "email": "a@b"}}'
    await db.execute("select set_config('request.jwt.claims', %s, true)", (claims,))
    rows = await db.execute("select auth.uid(), auth.role(), auth.email(), auth.jwt() ->> 'sub'")
    assert await rows.fetchone() == (user, "authenticated", "a@b", str(user))


async def test_nobody_is_asking_outside_of_a_request(db: Connection) -> None:
    """Without claims the auth functions answer null instead of failing."""
    rows = await db.execute("select auth.uid(), auth.role(), auth.email(), auth.jwt()")
    assert await rows.fetchone() == (None, None, None, None)
