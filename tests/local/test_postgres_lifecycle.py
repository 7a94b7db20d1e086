"""PostgreSQL starts anywhere, survives anything, and never outlives its owner."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from conv_realtime.errors import ConfigError
from conv_realtime.local.postgres import placement, server
from conv_realtime.local.postgres.binaries import copy_for_others, find_binaries
from conv_realtime.local.postgres.cluster import remembered_port
from conv_realtime.local.postgres.lock import FolderLock
from conv_realtime.local.postgres.server import Postgres
from conv_realtime.shared_files import is_locked

HOLDER = Path(__file__).with_name("holder.py")
PATIENCE = 20.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every account may pass, as most users' state directories are for their own."""
    made = Path(tempfile.mkdtemp(prefix="conv_rt_pg-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def alive(pid: int) -> bool:
    """Says whether a process runs; one that has ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def until_gone(pid: int) -> None:
    """Waits until a process has ended."""
    began = time.monotonic()
    while alive(pid):
        assert time.monotonic() - began < PATIENCE, f"process {pid} is still there"
        time.sleep(0.01)


class Holder:
    """A process with a PostgreSQL, which it tells about."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, HOLDER, folder],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert self.process.stdout is not None
        told: dict[str, Any] = json.loads(self.process.stdout.readline())
        self.postgres: int = told["postgres"]
        self.guard: int = told["guard"]
        self.dsn: str = told["dsn"]

    def kill(self) -> None:
        """Kills it as a crash would."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def execute(dsn: str, query: str) -> list[tuple[object, ...]]:
    """Runs one statement in a transaction that is committed."""
    with psycopg.connect(dsn) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


async def test_starts_empty_and_keeps_its_data(folder: Path) -> None:
    """What one run has committed, the next one finds, on the same TCP port."""
    async with Postgres(folder) as postgres:
        port = postgres.port
        await asyncio.to_thread(execute, postgres.dsn(), "create table kept as select 7 as n")
    async with Postgres(folder) as postgres:
        assert postgres.port == port
        assert await asyncio.to_thread(execute, postgres.dsn(), "table kept") == [(7,)]


async def test_is_set_up_for_realtime_and_for_no_loss(folder: Path) -> None:
    """Logical decoding is on, commits wait for the disk, times and text are portable."""
    names = ("wal_level", "synchronous_commit", "fsync", "full_page_writes", "TimeZone")
    async with Postgres(folder) as postgres:
        query = " union all ".join(f"select current_setting('{name}')" for name in names)
        rows = await asyncio.to_thread(execute, postgres.dsn(), query)
        assert [row[0] for row in rows] == ["logical", "on", "on", "on", "UTC"]
        lowered = await asyncio.to_thread(execute, postgres.dsn(), "select lower('ÄÉ')")
        assert lowered == [("äé",)]


async def test_listens_on_loopback_and_wants_a_password_there(folder: Path) -> None:
    """Other accounts of the machine reach the TCP port, so it asks for a password."""
    async with Postgres(folder) as postgres:
        address = await asyncio.to_thread(execute, postgres.dsn(), "show listen_addresses")
        assert address == [("127.0.0.1",)]
        url = f"postgresql://supabase_admin@127.0.0.1:{postgres.port}/postgres"
        with pytest.raises(psycopg.OperationalError, match="password"):
            await asyncio.to_thread(execute, url, "select 1")
        rows = await asyncio.to_thread(execute, postgres.dsn(), "show unix_socket_directories")
        assert os.stat(str(rows[0][0])).st_mode & 0o077 == 0


async def test_a_second_instance_is_refused_by_name(folder: Path) -> None:
    """The error names the process that uses the folder."""
    async with Postgres(folder):
        with pytest.raises(ConfigError, match=f"process {os.getpid()}"):
            await Postgres(folder).__aenter__()


def test_ends_with_its_owner(folder: Path) -> None:
    """After `kill -9` of the owner PostgreSQL is gone within seconds, and the folder is free."""
    holder = Holder(folder)
    holder.kill()
    until_gone(holder.postgres)
    again = Holder(folder)
    again.kill()
    until_gone(again.postgres)


if sys.platform.startswith("linux"):  # elsewhere the next start stops the orphan

    def test_ends_with_owner_and_guard(folder: Path) -> None:
        """Killing the owner and the guard at once leaves no PostgreSQL behind either."""
        holder = Holder(folder)
        os.kill(holder.guard, signal.SIGKILL)
        holder.kill()
        until_gone(holder.postgres)


def test_no_acknowledged_row_is_lost_when_all_are_killed(folder: Path) -> None:
    """Owner, guard and PostgreSQL are killed in mid-work: every committed row is there again."""
    holder = Holder(folder)
    execute(holder.dsn, "create table counted (n int primary key)")
    for n in range(50):
        execute(holder.dsn, f"insert into counted values ({n})")
    for pid in (holder.guard, holder.postgres):
        os.kill(pid, signal.SIGKILL)
    holder.kill()
    until_gone(holder.postgres)
    again = Holder(folder)
    try:
        assert execute(again.dsn, "select count(*) from counted") == [(50,)]
    finally:
        again.kill()
        until_gone(again.postgres)


@pytest.mark.parametrize("victim", ["postgres", "guard"])
async def test_a_dead_server_is_started_again(folder: Path, victim: str) -> None:
    """When PostgreSQL or its guard is killed, both run again on the same socket."""
    async with Postgres(folder) as postgres:
        await asyncio.to_thread(execute, postgres.dsn(), "create table kept as select 7 as n")
        before = postgres.pid
        pid = postgres.pid if victim == "postgres" else postgres.guard_pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            while postgres.pid == before:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.01)
        assert await asyncio.to_thread(execute, postgres.dsn(), "table kept") == [(7,)]


async def test_a_stale_pid_file_of_another_process_is_no_obstacle(folder: Path) -> None:
    """After a crash of the machine the pid may belong to somebody else, here to this test."""
    async with Postgres(folder) as postgres:
        data = await asyncio.to_thread(execute, postgres.dsn(), "show data_directory")
    stale = Path(str(data[0][0])) / "postmaster.pid"
    stale.write_text(f"{os.getpid()}\n{stale.parent}\n1\n5432\n/nowhere\n127.0.0.1\n0 0\nready\n")
    async with Postgres(folder) as postgres:
        assert await asyncio.to_thread(execute, postgres.dsn(), "select 1") == [(1,)]


@pytest.mark.parametrize("left", [b"", bytes(64), b"\xff\xfe\n", b"99999999999\n"])
async def test_a_pid_file_that_names_nobody_is_no_obstacle(folder: Path, left: bytes) -> None:
    """A power cut leaves it empty or full of zeros; PostgreSQL alone would not start."""
    async with Postgres(folder) as postgres:
        data = await asyncio.to_thread(execute, postgres.dsn(), "show data_directory")
    (Path(str(data[0][0])) / "postmaster.pid").write_bytes(left)
    async with Postgres(folder) as postgres:
        assert await asyncio.to_thread(execute, postgres.dsn(), "select 1") == [(1,)]


@pytest.mark.parametrize("kept", ["80", "99999", "-1", "4a"])
def test_a_port_that_nobody_can_have_is_replaced(folder: Path, kept: str) -> None:
    """The file of the last port may have been spoilt; PostgreSQL would end without a socket."""
    (folder / "port").write_text(kept)
    assert remembered_port(folder, 0) == int((folder / "port").read_text()) >= 1024


async def test_a_port_that_others_take_while_it_starts_is_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was free when it was chosen, and PostgreSQL needs a moment until it listens."""
    taken: list[int] = []
    start = Postgres._start
    with contextlib.ExitStack() as others:

        async def too_late(self: Postgres, lock: FolderLock) -> Any:
            if not taken:
                others.enter_context(socket.create_server(("127.0.0.1", self.port)))
                taken.append(self.port)
            return await start(self, lock)

        monkeypatch.setattr(Postgres, "_start", too_late)
        async with Postgres(folder) as postgres:
            assert postgres.port not in taken
            assert (folder / "port").read_text() == str(postgres.port)
            assert await asyncio.to_thread(execute, postgres.dsn(), "select 1") == [(1,)]


async def test_an_interrupted_initialisation_is_begun_again(folder: Path) -> None:
    """A half-made data directory is never taken for a whole one."""
    (folder / "pgdata.new" / "base").mkdir(parents=True)
    async with Postgres(folder) as postgres:
        assert await asyncio.to_thread(execute, postgres.dsn(), "select 1") == [(1,)]


async def test_a_first_start_waits_for_what_a_killed_one_left(folder: Path) -> None:
    """`initdb` goes on after a `kill -9`: two would work on one directory."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    killed = await asyncio.create_subprocess_exec(sys.executable, HOLDER, folder, env=environment)
    deadline = time.monotonic() + PATIENCE
    while not (folder / "pgdata.new" / "PG_VERSION").exists():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)
    killed.kill()
    await killed.wait()
    assert is_locked(folder / "lock")
    async with Postgres(folder) as postgres:
        assert await asyncio.to_thread(execute, postgres.dsn(), "select 1") == [(1,)]


async def test_a_long_path_still_has_a_socket(folder: Path) -> None:
    """Socket paths end at 103 bytes; folders do not."""
    deep = folder / ("d" * 120)
    async with Postgres(deep) as postgres:
        assert await asyncio.to_thread(execute, postgres.dsn(), "select 1") == [(1,)]


async def test_errors_leave_no_values_in_the_log(folder: Path) -> None:
    """What the server logs holds neither statements nor values, which are conversations."""
    async with Postgres(folder) as postgres:
        for query in ("select 'secret words'::int", "selec 'secret words'"):
            with pytest.raises(psycopg.Error):
                await asyncio.to_thread(execute, postgres.dsn(), query)
    logged = (folder / "postgres.log").read_text()
    assert "ready to accept connections" in logged
    assert "secret" not in logged


def test_a_normal_user_uses_the_folder_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without root nothing is switched and nothing is kept elsewhere."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = placement.place(folder)
    assert (found.account, found.data) == (None, folder / "pgdata")


@pytest.fixture
def shelf(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shelf of the test's own in place of `/var/lib/conv_realtime`."""
    monkeypatch.setattr(placement, "SHELF", folder / "shelf")
    return folder / "shelf"


if os.geteuid() == 0:  # nobody else switches accounts; a skipped test would fail CI

    async def test_root_with_a_closed_home_keeps_the_data_elsewhere(
        folder: Path, shelf: Path
    ) -> None:
        """PostgreSQL runs as another account; the home stays closed and is not entered."""
        home = folder / "home"
        home.mkdir(mode=0o700)
        for _ in range(2):
            async with Postgres(home / "state") as postgres:
                data = await asyncio.to_thread(execute, postgres.dsn(), "show data_directory")
                assert Path(str(data[0][0])).is_relative_to(shelf)
                owner = os.stat(f"/proc/{postgres.pid}").st_uid
                assert pwd.getpwuid(owner).pw_name in ("postgres", "nobody")
        assert os.stat(home).st_mode & 0o777 == 0o700
        assert len(os.listdir(shelf)) == 1


if os.geteuid() == 0:  # nobody else switches accounts; a skipped test would fail CI

    async def test_root_with_closed_binaries_runs_a_copy(
        folder: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Programs that the account cannot reach are copied, with their libraries, once."""
        closed = folder / "closed"
        closed.mkdir(mode=0o700)
        original = find_binaries()
        package = original.parents[1]
        hidden = copy_for_others(original, closed)
        assert not placement.reachable(hidden, placement.Account(65534, 65534))
        monkeypatch.setenv("CONV_REALTIME_PG_BIN", str(hidden))
        async with Postgres(folder / "state") as postgres:
            program = os.readlink(f"/proc/{postgres.pid}/exe")
            assert Path(program).is_relative_to(shelf)
        assert package.name in program


def test_missing_binaries_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error says which variable points to nothing."""
    monkeypatch.setenv("CONV_REALTIME_PG_BIN", str(tmp_path))
    with pytest.raises(ConfigError, match="CONV_REALTIME_PG_BIN"):
        find_binaries()


async def test_a_start_that_is_cancelled_gives_the_folder_up_when_nobody_works_in_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one could begin there, while the first still makes its cluster."""
    began, go_on = threading.Event(), threading.Event()

    def slowly(*_: object, **__: object) -> None:
        began.set()
        go_on.wait(30)

    monkeypatch.setattr(server, "prepare", slowly)
    starting = asyncio.create_task(Postgres(folder).__aenter__())
    assert await asyncio.to_thread(began.wait, 30)
    starting.cancel()
    await asyncio.wait({starting}, timeout=0.2)
    held = is_locked(folder / "lock")
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert held and not is_locked(folder / "lock")


async def test_an_end_that_is_cancelled_waits_for_postgres(folder: Path) -> None:
    """Its pipe and its process would be left to the garbage collector."""
    running = Postgres(folder)
    await running.__aenter__()
    child = running._child
    assert child is not None and child.pid is not None and child._process.stdin is not None
    leaving = asyncio.create_task(running.__aexit__(None, None, None), name="test.leaving")
    while not child._process.stdin.closed:  # noqa: ASYNC110
        await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait({leaving})
    assert not alive(child.pid)
    assert not alive(child.guard_pid)
    assert not is_locked(folder / "lock")
