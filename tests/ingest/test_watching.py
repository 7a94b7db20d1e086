"""What the file system does to a watcher: nothing that is written stays unseen."""

from __future__ import annotations

import mmap
import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conv_realtime.core.checkpoint import FileStat
from conv_realtime.core.formats.claude_code import ClaudeCode
from conv_realtime.edges import disk
from conv_realtime.ingest.waking import Misses
from conv_realtime.testing import MemoryStore
from tests.ingest.lines import user
from tests.ingest.running import Heard, ingest, running, texts, until, write

NEVER = 3600
"""Seconds between sweeps where events alone have to do."""

linux = pytest.mark.skipif(sys.platform != "linux", reason="is about inotify")


def new_session(folder: Path, name: object) -> Path:
    """Writes a transcript of a session of its own; gives its path."""
    session = str(uuid.uuid4())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{session}.jsonl"
    path.write_bytes(user(name, session=session))
    return path


async def test_folders_made_and_filled_at_once_are_seen(tmp_path: Path) -> None:
    """Files of a new folder are often older than its watch."""
    store = MemoryStore()
    write(tmp_path, user("first"))
    async with running(ingest(tmp_path, store, sweep_seconds=NEVER)):
        for number in range(100):
            folder = tmp_path / "projects" / f"a{number}" / "b" / "c"
            new_session(folder, number)
            new_session(folder.parent, number)
        await until(lambda: len(store.conversations) == 201)


def overflow(folder: Path) -> None:
    """Makes more changes than the kernel keeps for who does not read them."""
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    names = [folder / "one.jsonl", folder / "two.jsonl"]
    names[0].touch()
    for turn in range(most):  # moves, because equal changes are merged
        os.rename(names[turn % 2], names[1 - turn % 2])


async def test_moves_into_and_out_of_the_tree(tmp_path: Path) -> None:
    """A folder and a file moved in are read, and followed; what is moved out deletes nothing."""
    store = MemoryStore()
    path = write(tmp_path, user("q"))
    outside = tmp_path / "outside"
    inner = new_session(outside / "-x", "x")
    single = new_session(outside, "y")
    async with running(ingest(tmp_path, store, sweep_seconds=NEVER)):
        await until(lambda: len(store.messages) == 1)
        os.rename(outside / "-x", tmp_path / "projects" / "-x")
        os.rename(single, path.parent / single.name)
        await until(lambda: len(store.messages) == 3)
        with (tmp_path / "projects" / "-x" / inner.name).open("ab") as file:
            file.write(user("x2", session=inner.stem))
        await until(lambda: len(store.messages) == 4)
        os.rename(path, outside / path.name)
        new_session(path.parent, "z")
        await until(lambda: len(store.messages) == 5)
    assert all(row.deleted_at is None for row in store.messages.values())


async def test_a_replacement_by_rename_is_followed(tmp_path: Path) -> None:
    """As editors and synchronising programs save: a file beside it takes its place."""
    store = MemoryStore()
    path = write(tmp_path, user("q"))
    async with running(ingest(tmp_path, store, sweep_seconds=NEVER)):
        await until(lambda: texts(store) == ["prompt q"])
        beside = path.with_suffix(".tmp")
        beside.write_bytes(user("q") + user("r"))
        os.replace(beside, path)
        await until(lambda: texts(store) == ["prompt q", "prompt r"])
        with path.open("ab") as file:
            file.write(user("s"))
        await until(lambda: texts(store) == ["prompt q", "prompt r", "prompt s"])


async def test_linked_folders_are_read_and_watched(tmp_path: Path) -> None:
    """The watched folder itself, and one in it; also one that is linked later."""
    store = MemoryStore()
    real, elsewhere, later = (tmp_path / name for name in ("real", "elsewhere", "later"))
    (real / "-p").mkdir(parents=True)
    one, two = new_session(elsewhere, "one"), new_session(later, "two")
    (tmp_path / "projects").symlink_to(real)
    (real / "linked").symlink_to(elsewhere)
    async with running(ingest(tmp_path, store, sweep_seconds=NEVER)) as river:
        await until(lambda: len(store.messages) == 1)
        assert river.health()["watcher"] == "ok"
        with one.open("ab") as file:
            file.write(user("one more", session=one.stem))
        await until(lambda: len(store.messages) == 2)
        new_session(real / "-p", "through the link")
        await until(lambda: len(store.messages) == 3)
    async with running(ingest(tmp_path, store, sweep_seconds=0.1)):
        (real / "late").symlink_to(later)
        await until(lambda: len(store.messages) == 4)
        with two.open("ab") as file:
            file.write(user("two more", session=two.stem))
        await until(lambda: len(store.messages) == 5)


def test_links_that_lead_in_circles_find_nothing_twice(tmp_path: Path) -> None:
    """To itself, to a folder above, to a sibling, to one another, to nothing."""
    tree = tmp_path / "projects"
    path = new_session(tree / "-p", "q")
    (tree / "-p" / "self").symlink_to(tree / "-p")
    (tree / "-p" / "up").symlink_to(tmp_path)
    (tree / "root").symlink_to("/")
    (tree / "nothing").symlink_to(tmp_path / "nothing")
    (tree / "loop").symlink_to(tree / "loop")
    outside = new_session(tmp_path.parent / f"{tmp_path.name}-outside", "r")
    (outside.parent / "back").symlink_to(tree)
    (tree / "a").symlink_to(outside.parent)
    (tree / "b").symlink_to(outside.parent)
    found = disk.walk([tree], ClaudeCode().is_named)
    assert len(found.links) == 1
    assert sorted(found.stats) == sorted([str(path), str(Path(found.links[0]) / outside.name)])


class _Untold:
    """An entry of a file system that does not say what it is, and refuses to be asked."""

    name = path = "untold"

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        raise PermissionError

    def is_symlink(self) -> bool:
        return False


def test_an_entry_that_cannot_be_told_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands behind it in its folder is found all the same."""
    path = new_session(tmp_path, "q")
    scandir = os.scandir

    @contextmanager
    def odd(folder: str) -> Iterator[Iterator[object]]:
        with scandir(folder) as entries:
            yield iter([_Untold(), *entries])

    monkeypatch.setattr(os, "scandir", odd)
    assert list(disk.walk([tmp_path], ClaudeCode().is_named).stats) == [str(path)]


async def test_names_of_one_file_are_one_conversation(tmp_path: Path) -> None:
    """Hard and symbolic links to a transcript: read once, whichever name it is written by."""
    store = MemoryStore()
    path = write(tmp_path, user("q"))
    os.link(path, path.with_name("hard.jsonl"))
    path.with_name("soft.jsonl").symlink_to(path)
    async with running(ingest(tmp_path, store, sweep_seconds=0.2)):
        await until(lambda: texts(store) == ["prompt q"])
        for name in ("hard", "soft"):
            with path.with_name(f"{name}.jsonl").open("ab") as file:
                file.write(user(name))
        await until(lambda: texts(store) == ["prompt q", "prompt hard", "prompt soft"])
    assert len(store.conversations) == 1


async def test_writes_without_events_are_found_and_sweeps_quicken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Mapped memory changes a file and the kernel tells nobody, as on a network drive."""
    store = MemoryStore()
    path = write(tmp_path, user("q") + b" " * 4096 + b"\n")
    async with running(ingest(tmp_path, store, sweep_seconds=3.0)) as river:
        await until(lambda: texts(store) == ["prompt q"])
        for name in ("r", "s"):
            old = path.read_bytes()
            place = old.index(b"  ")
            with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
                line = user(name)
                mapped[place : place + len(line)] = line
                mapped.flush()
            await until(lambda name=name: f"prompt {name}" in texts(store))  # type: ignore[misc]
            stamp = path.stat().st_mtime_ns - 2_000_000_000
            os.utime(path, ns=(stamp, stamp))
        await until(lambda: river.health()["watcher"] == "partial")
    assert "no event tells of it" in caplog.text


def test_a_miss_is_a_change_that_nobody_told_of() -> None:
    """Neither one whose event is on its way, nor one told while the sweep before was walking."""
    misses, second = Misses(), 10**9
    old, new, newest = (FileStat(1, 1, size, size * second) for size in (1, 2, 3))

    def sweep(stat: FileStat, now: int, *, during: str = "") -> bool:
        misses.begin()
        misses.told({during})
        return misses.compare({"a": stat}, now * second)

    assert not sweep(old, 10)
    misses.told({"a"})
    assert not sweep(new, 10), "an event told of it"
    assert not sweep(newest, 3), "it has just been written"
    assert not sweep(newest, 30)
    assert not sweep(old, 30, during="a")
    assert not sweep(new, 30), "the event that came during the last sweep was of this change"
    assert sweep(old, 30)
    assert misses.missing
    assert not sweep(newest, 30), "that is told once"
    for _ in range(100):
        sweep(newest, 40)
    misses.excuse()
    assert not sweep(old, 40), "why it was lost is known"
    assert not misses.missing


OVERFLOWED = """
    async with running(ingest(folder, store, sweep_seconds=3600)):
        said.write_text("watching")
        await until(lambda: len(store.conversations) == 2, within=60)
        # A folder made while events were lost is watched now.
        late = next((folder / "projects" / "late").iterdir())
        with late.open("ab") as file:
            file.write(user("more", session=late.stem))
        await until(lambda: len(store.messages) == 3)
"""

LIMITED = """
    limit = Path("/proc/sys/user/max_inotify_watches")
    limit.write_text("20")
    async with running(ingest(folder, store, sweep_seconds=3600)) as river:
        await until(lambda: len(store.messages) == 40)
        assert river.health()["watcher"] == "partial"
        for path in (folder / "projects").glob("*/*.jsonl"):
            with path.open("ab") as file:
                file.write(user("more", session=path.stem))
        await until(lambda: len(store.messages) == 80)
        limit.write_text("1000")
        await until(lambda: river.health()["watcher"] == "ok")
"""


@contextmanager
def apart(program: str, folder: Path, *command: str) -> Iterator[subprocess.Popen[str]]:
    """Runs an ingest of `folder` in a process of its own; it has to end well."""
    lines = f"""
import asyncio, sys
from pathlib import Path
from conv_realtime.testing import MemoryStore
from tests.ingest.lines import user
from tests.ingest.running import Heard, ingest, running, until

async def main(store, folder, said):
{program}

asyncio.run(main(MemoryStore(), Path(sys.argv[1]), Path(sys.argv[1]) / "said"))
"""
    whole = [*command, sys.executable, "-c", lines, str(folder)]
    with subprocess.Popen(whole, stderr=subprocess.PIPE, text=True) as child:
        try:
            yield child
            _, errors = child.communicate(timeout=90)
            assert child.returncode == 0, errors
        finally:
            child.kill()


@linux
async def test_events_that_the_kernel_dropped_are_made_up_for(tmp_path: Path) -> None:
    """More changes than its queue holds, while nobody reads them: folders and files both."""
    (tmp_path / "projects" / "-p").mkdir(parents=True)
    with apart(OVERFLOWED, tmp_path) as child:
        await until((tmp_path / "said").exists, within=60)
        os.kill(child.pid, signal.SIGSTOP)
        overflow(tmp_path / "projects" / "-p")
        new_session(tmp_path / "projects" / "late", "late")
        new_session(tmp_path / "projects" / "-p", "lost")
        os.kill(child.pid, signal.SIGCONT)


def own_limits() -> bool:
    """Whether a process can be given limits of its own, in a namespace of users."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-Ur", "true"], check=False).returncode == 0


@pytest.mark.skipif(
    not own_limits(),
    reason="no user namespace can be made, in which the limit on watches is our own",
)
def test_folders_above_the_limit_on_watches_are_swept(tmp_path: Path) -> None:
    """Found in a moment all the same, said in /healthz, and watched once the limit is raised."""
    for number in range(40):
        new_session(tmp_path / "projects" / f"-p{number}", number)
    with apart(LIMITED, tmp_path, "unshare", "-Ur"):
        pass


@linux
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_watching_begins_again_when_its_thread_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever raises in watchdog's reader ends it without a word: it is noticed and replaced."""
    from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper

    store = MemoryStore()
    path = write(tmp_path, user("q"))
    dead = threading.Event()

    def raises(*_: object) -> None:
        dead.set()
        raise OSError("not what a reader thread expects")

    async with running(ingest(tmp_path, store, sweep_seconds=NEVER)) as river:
        await until(lambda: len(store.messages) == 1)
        with monkeypatch.context() as patched:
            patched.setattr(InotifyMoveEventGrouper, "put_event", raises)
            with path.open("ab") as file:
                file.write(user("r"))
            await until(dead.is_set)
        await until(lambda: len(store.messages) == 2)
        await until(lambda: river.health()["watcher"] == "ok")
        with path.open("ab") as file:
            file.write(user("s"))
        await until(lambda: len(store.messages) == 3)


# What vanishes before it is sent -------------------------------------------------------------


async def test_a_file_that_vanished_is_sent_from_what_was_open(tmp_path: Path) -> None:
    """The store was away meanwhile; nothing that had been read is lost."""
    store, heard = MemoryStore(), Heard()
    path = write(tmp_path, user("q"))
    async with running(ingest(tmp_path, store, heard, batch_rows=1)) as river:
        await until(lambda: len(store.messages) == 1)
        store.down = True
        with path.open("ab") as file:
            file.write(user("r") + user("s"))
        await until(lambda: river.health()["queue"] == 2)
        path.unlink()
        shutil.rmtree(path.parent)
        await until(lambda: any(change == "deleted" for _, change, _ in heard.files))
        store.down = False
        await until(lambda: texts(store) == ["prompt q", "prompt r", "prompt s"])
        await until(lambda: not held(path))


async def test_a_file_that_gave_way_to_an_unrelated_one_is_sent_first(tmp_path: Path) -> None:
    """Both are there in the end: the old conversation whole, the new one its child."""
    store = MemoryStore()
    path = write(tmp_path, user("q"))
    async with running(ingest(tmp_path, store, batch_rows=1)) as river:
        await until(lambda: len(store.messages) == 1)
        store.down = True
        with path.open("ab") as file:
            file.write(user("r") + user("s"))
        await until(lambda: river.health()["queue"] == 2)
        beside = path.with_suffix(".tmp")
        beside.write_bytes(user("x") + user("y"))
        os.replace(beside, path)
        store.down = False
        await until(lambda: len(store.messages) == 5)
        await until(lambda: not held(path))
    old, new = sorted(store.conversations.values(), key=lambda row: row.parent_id is not None)
    assert new.parent_id == old.id
    by_text = {row.text: row.conversation_id for row in store.messages.values()}
    assert by_text == {
        "prompt q": old.id,
        "prompt r": old.id,
        "prompt s": old.id,
        "prompt x": new.id,
        "prompt y": new.id,
    }


async def test_a_file_rewritten_while_it_is_read_ends_in_what_it_says(tmp_path: Path) -> None:
    """Again and again, in place and by rename, longer and shorter; and once vanished."""
    store = MemoryStore()
    path = write(tmp_path, user("q"))
    stop = threading.Event()

    def rewrite() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            content = user("q") + b"".join(user(f"{turn}-{n}") for n in range(turn * 37 % 200))
            if turn % 3:
                path.write_bytes(content)
            else:
                beside = path.with_suffix(".tmp")
                beside.write_bytes(content)
                os.replace(beside, path)
            if turn % 50 == 0:
                path.unlink()
        path.write_bytes(user("q") + user("end"))

    thread = threading.Thread(target=rewrite)
    async with running(ingest(tmp_path, store, rest_seconds=0.02)):
        thread.start()
        await until(lambda: len(store.messages) > 500, within=60)
        stop.set()
        thread.join()
        await until(lambda: texts(store) == ["prompt q", "prompt end"])


def held(path: Path) -> bool:
    """Whether this process has the file open, under its path or deleted."""
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            if os.readlink(descriptor).startswith(str(path)):
                return True
        except OSError:
            continue
    return False
