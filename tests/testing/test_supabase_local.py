"""The fixture `supabase_local`: a project a test, as people use it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import threading
import unittest
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import jwt
import psycopg
import pytest
from supabase import ClientOptions, create_client

from conv_realtime import testing
from conv_realtime.errors import ConfigError, MigrationError
from conv_realtime.local.databases import Databases
from conv_realtime.local.hosting import ProjectHost
from conv_realtime.local.postgres.placement import place
from conv_realtime.testing import SupabaseLocal, SupabaseServer
from conv_realtime.testing.folders import roomy, server_folder
from conv_realtime.testing.threads import InThread, LoopThread

NOTES = """
create table notes (
  id bigint generated always as identity primary key,
  owner_id uuid not null default auth.uid() references auth.users,
  text text not null
);
alter table notes enable row level security;
create policy "own notes" on notes for all to authenticated
  using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));
"""


@pytest.fixture(scope="module")
def project_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Supabase project's folder: a migration of its own, a file that is none, and a seed."""
    folder = tmp_path_factory.mktemp("supabase")
    (folder / "migrations").mkdir()
    (folder / "migrations" / "20300101000000_notes.sql").write_text(NOTES)
    (folder / "migrations" / "README.md").write_text("no migration")
    (folder / "seed.sql").write_text(
        "insert into notes (owner_id, text) select id, 'sown' from auth.users;"
    )
    return folder


def rest(supabase: SupabaseLocal, key: str | None = None) -> httpx.Client:
    """A client of the Data API."""
    headers = {"apikey": key or supabase.secret_key}
    return httpx.Client(base_url=f"{supabase.url}/rest/v1", headers=headers)


def test_the_official_client_works_without_a_loop(supabase_local: SupabaseLocal) -> None:
    """A blocking test has a Supabase, with conv_realtime's tables where nothing else was said."""
    with httpx.Client() as http:
        options = ClientOptions(httpx_client=http, auto_refresh_token=False)
        client = create_client(supabase_local.url, supabase_local.secret_key, options)
        assert client.table("conversations").select("id").execute().data == []
        assert client.rpc("schema_version", {}).execute().data


async def test_a_test_that_blocks_its_loop_is_answered_all_the_same(
    supabase_local: SupabaseLocal,
) -> None:
    """The server does not live in the test's loop."""
    with rest(supabase_local) as client:
        assert client.get("/messages").json() == []


def test_tokens_are_of_whom_they_say(supabase_local: SupabaseLocal) -> None:
    """Subject, role, life and other claims; no two tokens are the same."""
    claims = {"algorithms": ["HS256"], "audience": "authenticated"}
    said = jwt.decode(
        supabase_local.token(expires_in=60, app_metadata={"plan": "pro"}),
        supabase_local.jwt_secret,
        **claims,  # type: ignore[arg-type]
    )
    assert said["sub"] == supabase_local.owner_id
    assert said["exp"] - said["iat"] == 60
    assert said["app_metadata"] == {"plan": "pro"}
    assert supabase_local.token() != supabase_local.token()
    with rest(supabase_local, supabase_local.token(role="service_role")) as client:
        assert client.get("/messages").status_code == 200
    with rest(supabase_local, supabase_local.token(expires_in=-60)) as client:
        assert client.get("/messages").json()["code"] == "PGRST303"


def test_secrets_are_not_shown(supabase_local: SupabaseLocal) -> None:
    """What a failing test prints holds no key."""
    assert supabase_local.secret_key not in repr(supabase_local)
    assert supabase_local.url in repr(supabase_local)


@pytest.mark.parametrize("attempt", [1, 2])
def test_nothing_is_left_of_another_test(supabase_local: SupabaseLocal, attempt: int) -> None:
    """Rows, tables and owners of one test are not there in the next."""
    with psycopg.connect(supabase_local.db_url) as connection:
        connection.execute("create table once (id int)")
    with rest(supabase_local) as client:
        assert client.post("/once", json={"id": attempt}).status_code == 201
        assert client.get("/once").json() == [{"id": attempt}]


def test_projects_of_one_server_do_not_know_each_other(
    supabase_local: SupabaseLocal, supabase_local_server: SupabaseServer
) -> None:
    """Tables, keys and URLs are of one project alone."""
    with supabase_local_server.project() as other:
        assert other.url != supabase_local.url
        with psycopg.connect(other.db_url) as connection:
            connection.execute("create table here (id int)")
        with rest(supabase_local) as client:
            assert client.get("/here").status_code == 404
        with rest(other, supabase_local.secret_key) as client:
            assert client.get("/here").json()["code"] == "PGRST301"
    with pytest.raises(httpx.ConnectError), rest(other) as client:
        client.get("/here")


def test_a_project_of_ones_own(supabase_local_server: SupabaseServer, project_files: Path) -> None:
    """Its migrations and its seed are there, its policies hold, and nothing of ours is there."""
    with supabase_local_server.project(
        migrations=project_files / "migrations", seed=project_files / "seed.sql"
    ) as supabase:
        with rest(supabase, supabase.token()) as client:
            assert [row["text"] for row in client.get("/notes").json()] == ["sown"]
            assert client.post("/notes", json={"text": "mine"}).status_code == 201
        with rest(supabase, supabase.token(sub=UUID(int=1))) as client:
            assert client.get("/notes").json() == []
        with rest(supabase) as client:
            assert client.get("/conversations").status_code == 404
        with psycopg.connect(supabase.db_url) as connection:
            ledger = "select name from supabase_migrations.schema_migrations"
            assert connection.execute(ledger).fetchall() == [("notes",)]


def test_a_project_with_both_schemas(
    supabase_local_server: SupabaseServer, project_files: Path
) -> None:
    """Who writes our migrations into their folder, or asks for them, has both."""
    folder = project_files / "migrations"
    with supabase_local_server.project(migrations=folder, schema=True) as supabase:
        with rest(supabase) as client:
            assert client.get("/notes").json() == client.get("/conversations").json() == []


def test_a_folder_that_holds_our_migrations_too_gets_them_once(
    supabase_local_server: SupabaseServer, tmp_path: Path
) -> None:
    """As `conv-realtime migrations supabase/migrations` writes them."""
    from conv_realtime.sql import migrations

    for migration in migrations():
        (tmp_path / migration.filename).write_text(migration.sql)
    for schema in (False, True):
        with supabase_local_server.project(migrations=tmp_path, schema=schema) as supabase:
            with rest(supabase) as client:
                assert client.get("/conversations").json() == []


def test_a_migration_that_fails_is_named_each_time(
    supabase_local_server: SupabaseServer, tmp_path: Path
) -> None:
    """Every test that needs it says which one and why."""
    (tmp_path / "1_bad.sql").write_text("create table x (); select 1 / 0;")
    for _ in range(2):
        with pytest.raises(MigrationError, match=r"1_bad.*division by zero"):
            supabase_local_server.project(migrations=tmp_path).__enter__()


def test_a_folder_or_a_seed_that_is_not_there_is_named(
    supabase_local_server: SupabaseServer, tmp_path: Path
) -> None:
    """Not an empty project in silence."""
    missing = tmp_path / "missing"
    with pytest.raises(ConfigError, match="missing"):
        supabase_local_server.project(migrations=missing).__enter__()
    with pytest.raises(ConfigError, match="missing"):
        supabase_local_server.project(seed=missing).__enter__()


def test_a_loop_that_cannot_be_made_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a thread that has ended."""

    def full() -> asyncio.AbstractEventLoop:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(asyncio, "new_event_loop", full)
    monkeypatch.setattr(asyncio.events, "new_event_loop", full)
    with pytest.raises(OSError, match="Too many open files"):
        LoopThread("loopless").__enter__()


def test_faults_that_cannot_be_are_refused(supabase_local: SupabaseLocal) -> None:
    """At the call, and not in the server when something happens."""
    with pytest.raises(ValueError, match="every must be 1 or more"):
        supabase_local.faults.lose_messages(every=0)
    with pytest.raises(ValueError, match="bytes_kept must be 0 or more"):
        supabase_local.faults.cut(-1)


async def test_without_pytest() -> None:
    """A server with one project for a script, for either kind of block; nothing stays."""
    async with testing.supabase_local() as supabase:
        async with httpx.AsyncClient(headers={"apikey": supabase.secret_key}) as client:
            assert (await client.get(f"{supabase.url}/rest/v1/messages")).json() == []
    with testing.supabase_local(schema=False) as supabase:
        with rest(supabase) as sync_client:
            assert sync_client.get("/messages").status_code == 404


def test_data_that_had_to_lie_elsewhere_are_removed(tmp_path: Path) -> None:
    """Under root the folder may be closed to PostgreSQL's account."""
    tmp_path.chmod(0o700)
    with server_folder(tmp_path) as folder:
        home = place(folder).data.parent
        assert home.is_dir()
    assert not home.exists()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """Unless its PostgreSQL still runs, or it has only just begun."""
    folders = {name: tmp_path / f"conv_realtime-test-{name}" for name in ("old", "used", "young")}
    for folder in folders.values():
        (folder / "supabase").mkdir(parents=True)
        (folder / "supabase" / "lock").touch()
    for name in ("old", "used"):
        os.utime(folders[name], (1, 1))
    with (folders["used"] / "supabase" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with server_folder(tmp_path):
            assert [name for name, folder in folders.items() if folder.exists()] == [
                "used",
                "young",
            ]


def test_a_link_to_data_of_ours_removes_nothing(tmp_path: Path) -> None:
    """The parent may be open to everybody, as `/dev/shm` is."""
    data, parent = tmp_path / "data", tmp_path / "parent"
    kept = data / "supabase" / "elsewhere"
    kept.parent.mkdir(parents=True)
    (data / "rows").mkdir()
    kept.write_text(str(data / "rows"))
    os.utime(data, (1, 1))
    parent.mkdir()
    (parent / "conv_realtime-test-link").symlink_to(data)
    os.utime(parent / "conv_realtime-test-link", (1, 1), follow_symlinks=False)
    with server_folder(parent):
        assert kept.exists()
        assert (data / "rows").exists()


async def test_several_projects_without_pytest(supabase_local_server: SupabaseServer) -> None:
    """`async with` gives projects side by side."""
    async with supabase_local_server.project() as one, supabase_local_server.project() as two:
        async with httpx.AsyncClient() as client:
            for supabase in (one, two):
                headers = {"apikey": supabase.secret_key}
                answer = await client.get(f"{supabase.url}/rest/v1/messages", headers=headers)
                assert answer.status_code == 200


async def test_giving_up_while_it_starts_leaves_nothing(
    supabase_local_server: SupabaseServer,
) -> None:
    """A test that is cancelled in the beginning has no project left behind."""
    before = await databases(supabase_local_server)  # also some that are just being removed
    for turns in range(12):
        entering = asyncio.create_task(entered(supabase_local_server))
        await asyncio.sleep(turns * 0.005)
        entering.cancel()
        await asyncio.gather(entering, return_exceptions=True)
    async with asyncio.timeout(60):
        while await databases(supabase_local_server) - before:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("leaving", [False, True])
async def test_who_is_given_up_is_waited_for(leaving: bool) -> None:
    """A server that is left next would end PostgreSQL under it."""
    began, given_up, told = threading.Event(), threading.Event(), list[str]()

    @contextlib.asynccontextmanager
    async def slow() -> AsyncIterator[None]:
        try:
            if not leaving:
                began.set()
                await asyncio.Event().wait()
            yield
        finally:
            began.set()
            await asyncio.to_thread(given_up.wait, 30)
            await asyncio.sleep(0.05)
            told.append("ended")

    async def use(thread: LoopThread) -> None:
        async with InThread(thread, slow()):
            pass

    with LoopThread("given up") as thread:
        using = asyncio.create_task(use(thread), name="test.using")
        assert await asyncio.to_thread(began.wait, 10)
        using.cancel()
        given_up.set()
        await asyncio.wait({using}, timeout=30)
        assert using.cancelled()
        assert told == ["ended"]


async def test_giving_up_while_it_ends_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread may hear that it is given up when it has begun to drop its database."""
    dropping, drop = asyncio.Event(), Databases.drop

    async def slowly(self: Databases, name: str) -> None:
        dropping.set()
        await asyncio.sleep(0.05)
        await drop(self, name)

    monkeypatch.setattr(Databases, "drop", slowly)
    with server_folder(roomy()) as folder:
        async with ProjectHost(folder) as host:
            project = host.project(await host.template([]))
            await project.__aenter__()
            leaving = asyncio.create_task(project.__aexit__(None, None, None))
            await dropping.wait()
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            async with await psycopg.AsyncConnection.connect(host.postgres.dsn()) as connection:
                rows = await connection.execute("select datname from pg_database")
                names = {name for (name,) in await rows.fetchall()}
    assert not [name for name in names if name.startswith("project")]


async def test_two_who_find_no_connection_make_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second would replace the first, which nobody closes then."""
    made, connect = list[str](), psycopg.AsyncConnection.connect

    async def counted(dsn: str, **options: Any) -> Any:
        made.append(dsn)
        return await connect(dsn, **options)

    with server_folder(roomy()) as folder:
        async with ProjectHost(folder) as host:
            databases = Databases(host.postgres)
            monkeypatch.setattr(psycopg.AsyncConnection, "connect", counted)
            await asyncio.gather(databases.drop("one"), databases.drop("two"))
            await databases.close()
    assert made == [host.postgres.dsn()]


async def test_projects_begin_side_by_side(
    supabase_local_server: SupabaseServer, tmp_path: Path
) -> None:
    """What they are made of is made once, however many ask for it first."""
    (tmp_path / "1_both.sql").write_text("create table both_have (id int);")
    async with asyncio.timeout(60):
        await asyncio.gather(*(entered(supabase_local_server, tmp_path) for _ in range(3)))


async def test_migrations_that_were_given_up_are_tried_again(
    supabase_local_server: SupabaseServer, tmp_path: Path
) -> None:
    """The first test that needed them was cancelled, and nothing half made is in the way."""
    (tmp_path / "1_slow.sql").write_text("create table slow (id int); select pg_sleep(0.5);")
    watching = "select from pg_stat_activity where datname like 'template%%' and query ~ 'slow'"
    async with supabase_local_server.project() as supabase, asyncio.timeout(60):
        async with await psycopg.AsyncConnection.connect(
            supabase.db_url, autocommit=True
        ) as connection:
            entering = asyncio.create_task(entered(supabase_local_server, tmp_path))
            while not (await connection.execute(watching)).rowcount:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        entering.cancel()
        await asyncio.gather(entering, return_exceptions=True)
        async with supabase_local_server.project(migrations=tmp_path) as again:
            with rest(again) as client:
                assert client.get("/slow").json() == []


def test_an_owner_of_ones_own_is_a_user(
    supabase_local_server: SupabaseServer, project_files: Path
) -> None:
    """Rows may refer to it, as to every project's owner."""
    owner = UUID("22222222-2222-4222-8222-222222222222")
    migrations = project_files / "migrations"
    with supabase_local_server.project(migrations=migrations, owner_id=owner) as supabase:
        with rest(supabase, supabase.token()) as client:
            assert client.post("/notes", json={"text": "mine"}).status_code == 201
    with pytest.raises(ConfigError, match="alice is not a UUID"):
        supabase_local_server.project(owner_id="alice").__enter__()


async def entered(server: SupabaseServer, migrations: Path | None = None) -> None:
    """Opens a project and closes it."""
    async with server.project(migrations=migrations):
        pass


async def databases(server: SupabaseServer) -> set[str]:
    """The names of all databases, read through one of them."""
    async with server.project() as supabase:
        own = supabase.db_url.rpartition("/")[2]
        async with await psycopg.AsyncConnection.connect(supabase.db_url) as connection:
            rows: Any = await connection.execute("select datname from pg_database")
            return {name for (name,) in await rows.fetchall()} - {own}


class TestWithUnittest(unittest.TestCase):
    """The same for people who write unittest."""

    server: SupabaseServer

    @classmethod
    def setUpClass(cls) -> None:
        """One server for the class."""
        cls.server = cls.enterClassContext(SupabaseServer())

    def setUp(self) -> None:
        """One project a test."""
        self.supabase = self.enterContext(self.server.project())

    def test_it_answers(self) -> None:
        """The Data API is there."""
        with rest(self.supabase) as client:
            self.assertEqual(client.get("/messages").json(), [])
