"""The state directory on a bad day: full disks, damage, other versions, other processes, clocks."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from conv_realtime.core.checkpoint import Checkpoint
from conv_realtime.edges.checkpoints import Checkpoints, survey
from conv_realtime.edges.checkpoints.file import FILE_NAME, VERSION
from conv_realtime.errors import ConfigError
from conv_realtime.models import StoredFault
from conv_realtime.testing import MemoryStore
from tests.ingest.lines import SESSION, assistant, user, uuid
from tests.ingest.running import Heard, ingest, running, texts, until
from tests.ingest.running import write as transcript

FAULT = StoredFault("messages", UUID(int=7), "/a", "23514", "refused", 5)


# A full disk -------------------------------------------------------------------------------


class Disk:
    """A small file system; where nobody may mount one, SQLite is kept from growing instead."""

    def __init__(self, folder: Path, *, mounted: bool) -> None:
        self.folder = folder
        self._mounted = mounted

    def fill(self, connection: sqlite3.Connection) -> None:
        """Leave no room."""
        if not self._mounted:
            (pages,) = connection.execute("pragma page_count").fetchone()
            connection.execute(f"pragma max_page_count = {pages}")
            return
        descriptor = os.open(self.folder / "filler", os.O_WRONLY | os.O_CREAT)
        try:
            for size in (4096, 1):
                while True:
                    os.write(descriptor, b"x" * size)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        finally:
            os.close(descriptor)

    def free(self, connection: sqlite3.Connection) -> None:
        """Make room again."""
        (self.folder / "filler").unlink(missing_ok=True)
        connection.execute("pragma max_page_count = 1073741823")


@contextmanager
def _small_disk() -> Iterator[Disk]:
    with tempfile.TemporaryDirectory(prefix="conv_rt_disk-") as folder:
        mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "conv_rt", folder]
        mounted = os.name == "posix" and os.geteuid() == 0
        mounted = mounted and subprocess.run(mount, capture_output=True).returncode == 0
        try:
            yield Disk(Path(folder), mounted=mounted)
        finally:
            if mounted:
                subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def disk() -> Iterator[Disk]:
    """A disk of 512 KB."""
    with _small_disk() as made:
        yield made


async def test_on_a_full_disk_everything_still_arrives(tmp_path: Path, disk: Disk) -> None:
    """What cannot be kept is said, and sent once more after a restart, which changes no row."""
    store, state = MemoryStore(), disk.folder / "state"
    path = transcript(tmp_path, user("q"))
    async with running(ingest(tmp_path, store, state_dir=state)) as river:
        await until(lambda: len(texts(store)) == 1)
        await until(lambda: river.health()["queue"] == 0)
        assert river._desk is not None
        database = river._desk.checkpoints._db
        disk.fill(database)
        sent = 1
        # The log that SQLite writes to has room of its own for some time.
        while river.health()["last_error"] is None:
            with path.open("ab") as file:
                file.write(user(sent, f"{sent} " + "x" * 200))
            sent += 1
            await until(lambda count=sent: len(texts(store)) == count)  # type: ignore[misc]
            for number in range(20):
                river._desk.checkpoints.save(f"/filler {number}", Checkpoint(position=sent))
        assert "full" in river.health()["last_error"]
        with path.open("ab") as file:
            file.write(user("last"))
        await until(lambda: texts(store)[-1] == "prompt last")
        disk.free(database)
        with path.open("ab") as file:
            file.write(user("after"))
        await until(lambda: texts(store)[-1] == "prompt after")
        await until(lambda: river.health()["last_error"] is None)
    async with ingest(tmp_path, store, state_dir=state) as river:
        assert (await river.backfill()).changed == 0


def test_a_letter_is_not_lost_on_a_full_disk(disk: Disk) -> None:
    """It is said not to be kept, and kept as soon as there is room."""
    with Checkpoints(disk.folder, "here") as kept:
        disk.fill(kept._db)
        number = 0
        while kept.fault is None:
            number += 1
            kept.save(f"/{number}", Checkpoint(position=number))
        while kept.letters.bury([FAULT]):  # some room may be left for less
            kept.letters.taken([FAULT.id])
            kept.save(f"/{number}", Checkpoint(position=number))
        assert kept.letters.faults.keys() == {FAULT.id}
        disk.free(kept._db)
        assert kept.letters.bury([])
    with Checkpoints(disk.folder, "here") as kept:
        assert kept.letters.faults[FAULT.id].revision == 5


def test_where_a_letters_transcript_went_is_not_lost_on_a_full_disk(disk: Disk) -> None:
    """A retry would look for its row where it is no more."""
    with Checkpoints(disk.folder, "here") as kept:
        kept.letters.bury([FAULT])
        disk.fill(kept._db)
        place, number = FAULT.path, 0
        while kept.fault is None:
            number += 1
            kept.save(f"/{number}", Checkpoint(position=number))
            former, place = place, f"/moved {number}"
            kept.letters.moved(former, place)
        disk.free(kept._db)
        assert kept.letters.bury([])
    with Checkpoints(disk.folder, "here") as kept:
        assert kept.letters.faults[FAULT.id].path == place


def test_the_state_file_is_closed_to_others_from_its_first_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever had opened it before could read on."""
    modes: list[int] = []
    connect = sqlite3.connect

    def noted(path: Path, **options: Any) -> sqlite3.Connection:
        modes.append(stat.S_IMODE(path.stat().st_mode))
        connection: sqlite3.Connection = connect(path, **options)
        return connection

    monkeypatch.setattr(sqlite3, "connect", noted)
    with Checkpoints(tmp_path, "x"):
        pass
    assert modes[0] == 0o600


def test_a_full_disk_at_the_start_is_a_setting_to_correct(disk: Disk) -> None:
    """The message says what to do; nothing is half made."""
    connection = sqlite3.connect(":memory:")
    disk.fill(connection)
    if not disk._mounted:
        pytest.xfail("needs a file system of its own")
    with pytest.raises(ConfigError, match=r"cannot be used.*; make room in it"):
        Checkpoints(disk.folder, "here").__enter__()
    disk.free(connection)
    connection.close()
    with Checkpoints(disk.folder, "here") as kept:
        assert kept.save("/a", Checkpoint(position=1))
        assert kept.fault is None


# What lies there ---------------------------------------------------------------------------


def _spoil_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for offset in range(4096, len(data) - 64, 1024):
        data[offset : offset + 64] = os.urandom(64)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(Path.unlink, id="gone"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(b"no database" * 999), id="not a database"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:5000]), id="cut"),
        pytest.param(_spoil_middle, id="damaged inside"),
    ],
)
async def test_a_spoilt_state_file_costs_a_silent_re_read(
    tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    """No row changes, nothing is lost, and it works from then on."""
    store = MemoryStore()
    path = transcript(tmp_path, user("q"), assistant("a", "m"))
    for number in range(60):
        transcript(tmp_path, user(number, session=uuid(number)), name=f"-p/{uuid(number)}.jsonl")
    async with ingest(tmp_path, store) as river:
        await river.backfill()
    before = dict(store.messages)
    spoil(tmp_path / "state" / FILE_NAME)
    for _ in range(2):
        async with ingest(tmp_path, store) as river:
            summary = await river.backfill()
        assert (summary.changed, summary.conversations, summary.skipped) == (0, 61, 0)
    assert store.messages == before
    with path.open("ab") as file:
        file.write(user("r"))
    async with ingest(tmp_path, store) as river:
        assert (await river.backfill()).changed == 2


async def test_a_conversation_that_is_damaged_is_in_snapshots_again(tmp_path: Path) -> None:
    """SQLite does not notice what is wrong within a value."""
    store = MemoryStore()
    transcript(tmp_path, user("q"))
    async with ingest(tmp_path, store) as river:
        await river.backfill()
    with closing(sqlite3.connect(tmp_path / "state" / FILE_NAME)) as db, db:
        db.execute("update conversations set row = replace(row, 'prompt q', char(0))")
    for _ in range(2):
        async with running(ingest(tmp_path, store, Heard())) as river:
            while not await river.conversations():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
            (row,) = await river.conversations()
            assert row.title == "prompt q"
            await until(lambda: river.health()["queue"] == 0)


def test_a_damaged_index_is_made_anew(tmp_path: Path) -> None:
    """Checking the file finds nothing wrong; without its entry no row of the index can change."""
    with Checkpoints(tmp_path, "here") as kept:
        kept.save("/a", Checkpoint(position=1))
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db, db:
        db.execute("pragma writable_schema = on")
        (index,) = db.execute("select * from sqlite_master where name = 'stating'").fetchall()
        db.execute("delete from sqlite_master where name = 'stating'")
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db, db:
        db.execute("update checkpoints set session = 'another'")
        db.execute("pragma writable_schema = on")
        db.execute("insert into sqlite_master values (?,?,?,?,?)", index)
    with Checkpoints(tmp_path, "here") as kept:
        kept.save("/a", Checkpoint(position=2))
        assert kept.fault is None
    with Checkpoints(tmp_path, "here") as kept:
        assert kept.load()["/a"].position == 2


_VERSION_2 = """
pragma user_version = 2;
create table checkpoints (
    destination text not null, path blob not null,
    device integer, inode integer, size integer, mtime_ns integer,
    base integer not null, part integer not null, position integer not null,
    crc integer not null, end integer not null, rewritten integer not null,
    foreign_revision integer not null,
    messages integer not null, conversations integer not null,
    primary key (destination, path)
) without rowid;
create table conversations (
    destination text not null, id text not null, path blob not null, row text not null,
    primary key (destination, id)
) without rowid;
create table databases (address text primary key, stream text not null) without rowid;
create table dead_letters (
    destination text not null, table_name text not null, id text not null,
    path blob not null, code text not null, reason text not null,
    primary key (destination, table_name, id)
) without rowid;
insert into checkpoints values
  ('here  ', cast('/a' as blob), null, null, null, null, 5, 0, 7, 8, 9, 0, 0, 1, 1),
  ('here  ', cast('/b' as blob), null, null, null, null, 5, 0, 7, 8, 9, 0, 0, 1, 1);
insert into dead_letters values
  ('here  ', 'messages', '00000000-0000-0000-0000-000000000007', cast('/b' as blob), '22P05', 'x');
"""


def test_the_file_of_the_last_version_goes_on(tmp_path: Path) -> None:
    """Its checkpoints hold; files whose refused rows it did not describe are sent again."""
    old = sqlite3.connect(tmp_path / FILE_NAME)
    old.executescript(_VERSION_2)
    old.close()
    with Checkpoints(tmp_path, "here") as kept:
        assert kept.load() == {"/a": Checkpoint(base=5, position=7, crc=8, end=9, messages=1,
                                                conversations=1)}  # fmt: skip
        assert kept.letters.faults == {}
        assert kept.letters.bury([FAULT])
    assert survey(tmp_path).dead_letters[0].id == FAULT.id


@pytest.mark.parametrize("version", [0, 1, VERSION + 1])
def test_a_file_of_an_unknown_version_is_begun_anew(tmp_path: Path, version: int) -> None:
    """Older than known, or of a newer library that was taken back."""
    other = sqlite3.connect(tmp_path / FILE_NAME)
    other.executescript(f"pragma user_version = {version}; create table checkpoints (a text);")
    other.close()
    assert survey(tmp_path).files == 0
    with Checkpoints(tmp_path, "here") as kept:
        assert kept.load() == {}
        assert kept.save("/a", Checkpoint(position=1))
    assert survey(tmp_path).files == 1


# Others ------------------------------------------------------------------------------------


def test_processes_that_begin_together_keep_one_file(tmp_path: Path) -> None:
    """None of them throws away what another has just made."""
    code = (
        "import sys; from pathlib import Path\n"
        "from conv_realtime.core.checkpoint import Checkpoint\n"
        "from conv_realtime.edges.checkpoints import Checkpoints\n"
        "with Checkpoints(Path(sys.argv[1]), 'here') as kept:\n"
        "    for n in range(30):\n"
        "        assert kept.save(f'/{sys.argv[2]} {n}', Checkpoint(position=n))\n"
        "    assert kept.fault is None\n"
    )
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "state"), str(name)])
            )
            for name in range(4)
        ]
    assert [process.returncode for process in started] == [0] * 4
    with Checkpoints(tmp_path / "state", "here") as kept:
        assert len(kept.load()) == 120


def test_a_higher_base_of_another_process_stands(tmp_path: Path) -> None:
    """Whoever counts from below is told, and takes over what stands."""
    with Checkpoints(tmp_path, "here") as one, Checkpoints(tmp_path, "here") as other:
        assert one.save("/a", Checkpoint(base=10, position=3))
        assert not one.changed_elsewhere()
        assert other.save("/a", Checkpoint(base=20, position=1))
        assert one.changed_elsewhere()
        assert not one.save("/a", Checkpoint(base=10, position=9))
        assert one.load_one("/a") == Checkpoint(base=20, position=1)
        assert one.save("/a", Checkpoint(base=0, part=1))
        assert not other.save("/a", Checkpoint(base=30))


async def test_a_state_file_of_before_a_rewrite_costs_nothing(tmp_path: Path) -> None:
    """From a backup: it counts revisions from below what the database has, which would drop all."""
    store = MemoryStore()
    known = user("q") + assistant("a", "m")
    path = transcript(tmp_path, known)
    os.utime(path, ns=(0, 0))

    async def read() -> None:
        async with ingest(tmp_path, store) as river:
            await river.backfill()

    await read()
    shutil.copytree(tmp_path / "state", tmp_path / "backup")
    for later in (user("rewound"), user("r") + user("s")):
        path.write_bytes(known + later)
        await read()
    shutil.rmtree(tmp_path / "state")
    (tmp_path / "backup").rename(tmp_path / "state")
    path.write_bytes(known + user("r") + user("s") + assistant("b", "m"))
    await read()
    (row,) = store.conversations.values()
    assert row.message_count == 4
    assert texts(store) == ["prompt q", "answer a\n\nanswer b", "prompt r", "prompt s"]


async def test_two_on_one_state_directory_end_in_what_the_files_say(tmp_path: Path) -> None:
    """Both watch, both send, while files grow and are rewritten; nothing is lost or doubled."""
    store = MemoryStore()
    chance = random.Random(11)
    sessions = [uuid(f"session {number}") for number in range(4)]
    said: dict[str, list[int]] = {session: [] for session in sessions}
    async with running(ingest(tmp_path, store)), running(ingest(tmp_path, store)):
        for step in range(80):
            session = chance.choice(sessions)
            steps = said[session]
            if chance.random() < 0.1 and len(steps) > 2:
                del steps[chance.randrange(1, len(steps)) :]
            steps.append(step)
            lines = [user(each, session=session) for each in steps]
            transcript(tmp_path, *lines, name=f"-p/{session}.jsonl")
            await asyncio.sleep(chance.random() * 0.02)
        expected = sorted(f"prompt {step}" for steps in said.values() for step in steps)
        await until(lambda: sorted(texts(store)) == expected)
    async with ingest(tmp_path, store) as river:
        await river.backfill()
        assert {one.state async for one in river.verify()} == {"equal"}
    assert sorted(texts(store)) == expected


# Clocks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("years", [-40, 40])
async def test_a_clock_that_jumps_loses_nothing(tmp_path: Path, years: int) -> None:
    """Times of files from long ago or to come: what counts is what is in them."""
    store = MemoryStore()
    path = transcript(tmp_path, user("q"))
    at = time.time() + years * 365 * 86400
    async with running(ingest(tmp_path, store, sweep_seconds=0.05)):
        await until(lambda: len(texts(store)) == 1)
        os.utime(path, (at, at))
        with path.open("ab") as file:
            file.write(user("r"))
        os.utime(path, (at, at))
        await until(lambda: len(texts(store)) == 2)
        data = path.read_bytes().replace(b"prompt r", b"prompt s")
        path.write_bytes(data)
        os.utime(path, (at - 1, at - 1))
        await until(lambda: texts(store)[-1] == "prompt s")
    for _ in range(2):
        async with ingest(tmp_path, store) as river:
            assert (await river.backfill()).changed == 0
    assert SESSION in str(path)
