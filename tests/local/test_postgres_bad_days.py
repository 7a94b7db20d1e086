"""Full disks, foreign data, other versions: a message that says what to do, and no lost row."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from conv_realtime.errors import ConfigError
from conv_realtime.local import LocalSupabase, provision
from conv_realtime.local.postgres import cluster
from conv_realtime.local.postgres.binaries import find_binaries, major_version
from conv_realtime.local.postgres.cluster import failure
from conv_realtime.local.postgres.server import Postgres
from tests.local.own_postgres import open_folder

HOLDER = Path(__file__).with_name("holder.py")
PATIENCE = 30.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every account may pass."""
    with open_folder() as made:
        yield made


def execute(dsn: str, query: str) -> list[tuple[object, ...]]:
    """Runs one statement in a transaction that is committed."""
    with psycopg.connect(dsn, connect_timeout=30) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


async def refusal(folder: Path) -> str:
    """Gives the words with which a start on `folder` is refused."""
    with pytest.raises(ConfigError) as caught:
        await Postgres(folder).__aenter__()
    return str(caught.value)


async def test_a_lock_that_nobody_holds_is_no_obstacle(folder: Path) -> None:
    """After a crash the file is still there, with a pid that somebody else may have by now."""
    (folder / "lock").write_text(str(os.getpid()))
    async with Postgres(folder) as postgres:
        assert await asyncio.to_thread(execute, postgres.dsn(), "select 1") == [(1,)]


async def test_another_process_with_the_folder_is_named(folder: Path) -> None:
    """Two at once would be two servers on one directory: the second says who the first is."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    pipe = asyncio.subprocess.PIPE
    other = await asyncio.create_subprocess_exec(
        sys.executable, HOLDER, folder, stdout=pipe, env=environment
    )
    assert other.stdout is not None
    await other.stdout.readline()
    try:
        assert f"in use by process {other.pid}; stop it or choose" in await refusal(folder)
    finally:
        other.kill()
        await other.wait()
    async with Postgres(folder):  # waits until what the dead one left has ended
        pass


async def test_a_folder_that_was_begun_anew_is_left_to_its_new_owner(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Who removed it while it was used, and started again, had two that ended each other's."""
    place = folder / "state"
    async with Postgres(place) as first:
        place.rename(folder / "removed")
        async with Postgres(place) as second:
            running = second.pid
            assert first.pid is not None
            os.kill(first.pid, signal.SIGKILL)
            deadline = time.monotonic() + PATIENCE
            while "was removed or replaced while it was used" not in caplog.text:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)
            assert second.pid == running
            assert await asyncio.to_thread(execute, second.dsn(), "select 1") == [(1,)]


async def test_somebody_elses_data_is_left_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without root, data of another account cannot be opened, and the error says whose it is."""
    (folder / "pgdata").mkdir()
    owner = (folder / "pgdata").stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert f"belongs to user {owner}, and this is user {owner + 1}" in await refusal(folder)


async def test_a_path_that_is_too_long_for_postgres_is_told(folder: Path) -> None:
    """It tells so in no words; one of as many bytes as it may have does."""
    room = cluster._MAX_DATA_BYTES - len(os.fsencode(folder / "pgdata"))
    folder /= "d" * (room % 100 + 99)
    for _ in range(room // 100 - 1):
        folder /= "d" * 99
    async with Postgres(folder) as postgres:
        assert await asyncio.to_thread(execute, postgres.dsn(), "select 1") == [(1,)]
    assert "too long" in await refusal(folder.with_name(f"{folder.name}d"))


async def test_data_of_an_older_version_runs_on_that_version(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel has several versions; data is opened by the one that made it, or by none."""
    newest = find_binaries()
    older = newest.parents[1] / "pginstall" / "bin"
    version = major_version(older)
    assert version < major_version(newest)
    monkeypatch.setenv("CONV_REALTIME_PG_BIN", str(older))
    async with LocalSupabase(folder, port=0) as local:
        await asyncio.to_thread(execute, local.db_url, "create table kept as select 7 as n")
    monkeypatch.delenv("CONV_REALTIME_PG_BIN")
    async with LocalSupabase(folder, port=0) as local:
        assert await asyncio.to_thread(execute, local.db_url, "table kept") == [(7,)]
        shown = await asyncio.to_thread(execute, local.db_url, "show server_version")
        assert str(shown[0][0]).startswith(f"{version}.")
    monkeypatch.setenv("CONV_REALTIME_PG_BIN", str(newest))
    told = await refusal(folder / "supabase")
    assert f"made by PostgreSQL {version}, and here is {major_version(newest)}: set" in told


async def test_data_of_an_unknown_version_is_refused(folder: Path) -> None:
    """Where no PostgreSQL fits, the data is not touched, and both versions are named."""
    async with Postgres(folder):
        pass
    (folder / "pgdata" / "PG_VERSION").write_text("15\n")
    assert "made by PostgreSQL 15, and here is 16 and 18" in await refusal(folder)


async def test_what_an_earlier_run_complained_of_is_not_told_again(folder: Path) -> None:
    """Its advice would send whoever reads it to the wrong place."""
    async with Postgres(folder):
        pass
    (folder / "postgres.log").write_text("FATAL:  could not resize shared memory segment\n")
    (folder / "pgdata" / "postgresql.conf").write_text("port =\n")
    told = await refusal(folder)
    assert "contains errors; its log is" in told, told


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        (
            "x\n2026 UTC [1] FATAL:  no\n2026 UTC [1] LOG:  shut down",
            r": FATAL:  no; its log is /x",
        ),
        ("initdb: error: could not write: No space left on device\n", r"; the disk of /x is full"),
        (
            "FATAL:  could not resize shared memory segment: No space left on device\n",
            r"has no shared memory left",
        ),
        (
            "initdb: could not look up effective user ID 1555: user does not exist\n",
            r"; PostgreSQL runs only as a user with a name: .* or set SUPABASE_URL",
        ),
        (
            "FATAL:  insufficient file descriptors available to start server process\n",
            r"raise the limit \(ulimit -n\)",
        ),
        ("", r"PostgreSQL: no message; its log"),
    ],
)
def test_what_the_server_said_is_told_with_what_to_do(told: str, wanted: str) -> None:
    """Its last complaint counts, without time and pid, and not what it said after it."""
    assert re.search(wanted, str(failure(told, Path("/x/pgdata"))))


async def test_a_server_that_goes_while_its_database_is_prepared_is_told(tmp_path: Path) -> None:
    """In one line, and who stands by for another process tries again: it gave up."""
    dsn = f"postgresql://postgres@/postgres?host={tmp_path}"
    for prepare in (lambda: provision.bootstrap(dsn, "word"), lambda: provision.migrate(dsn)):
        with pytest.raises(ConfigError, match=r"cannot be prepared: .* start again"):
            await prepare()


if os.geteuid() == 0:  # nobody else mounts a disk or switches accounts; a skipped test fails CI

    async def test_a_root_who_cannot_be_anybody_else_is_told_so(
        folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As in a container without other user ids: no folder is at fault."""

        def chown(*given: object) -> None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

        monkeypatch.setattr("conv_realtime.local.postgres.placement.os.chown", chown)
        assert "there is no other account in this container" in await refusal(folder)

    @pytest.fixture
    def disk(folder: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
        """A small disk of its own."""
        options = f"size={request.param},mode=755"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
        yield folder
        subprocess.run(["umount", "--lazy", folder], check=True)

    def fill(disk: Path) -> Path:
        """Fills the disk to the last byte with a file, which it gives."""
        ballast = disk / "ballast"
        free = os.statvfs(disk)
        ballast.write_bytes(bytes(free.f_bavail * free.f_frsize))
        return ballast

    @pytest.mark.parametrize("disk", ["20m"], indirect=True)
    async def test_a_disk_that_is_too_small_is_named(disk: Path) -> None:
        """The first start leaves nothing half-made behind."""
        assert f"the disk of {disk} is full: free some space" in await refusal(disk)
        assert not [name for name in os.listdir(disk) if "pgdata" in name]

    @pytest.mark.parametrize("disk", ["150m"], indirect=True)
    async def test_a_full_disk_loses_no_committed_row(disk: Path) -> None:
        """PostgreSQL stops for want of room, starts by itself when there is some, and has all."""
        async with Postgres(disk) as postgres:
            dsn = postgres.dsn()
            query = "create table counted as select 0 as n, repeat('x', 7000) as wide"
            await asyncio.to_thread(execute, dsn, query)
            ballast = fill(disk)
            committed = await asyncio.to_thread(_count_until_it_fails, dsn)
            ballast.unlink()
            found = await asyncio.to_thread(_counted, dsn)
            assert found in (committed, committed + 1)  # the last one's answer may have been lost
        fill(disk)
        assert "is full: free some space" in await refusal(disk)
        ballast.unlink()
        async with Postgres(disk) as postgres:
            assert await asyncio.to_thread(_counted, postgres.dsn()) == found

    def _count_until_it_fails(dsn: str) -> int:
        """Commits one number after another until there is no room for the log of it."""
        n = 0
        with psycopg.connect(dsn, autocommit=True) as connection:
            try:
                while n < 100_000:
                    connection.execute(
                        "update counted set n = %s, wide = (select string_agg(md5(random()::text),"
                        " '') from generate_series(1, 2000))",
                        (n + 1,),
                    )
                    n += 1
            except psycopg.OperationalError:
                return n
        raise AssertionError("the disk did not become full")

    def _counted(dsn: str) -> int:
        """Gives the number, once there is somebody to ask."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return int(str(execute(dsn, "select n from counted")[0][0]))
            except psycopg.OperationalError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
