"""What the file system does to a watcher: nothing that is written stays unseen."""

from __future__ import annotations

import errno
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
from conv_realtime.edges.watch.inotify import InotifyWatcher
from conv_realtime.edges.watch.kernel import Event, Kernel
from conv_realtime.edges.watch.observer import ObserverWatcher
from conv_realtime.ingest import Ingest
from conv_realtime.ingest.waking import Misses, by_hash
from conv_realtime.testing import MemoryStore
from tests.ingest.lines import OTHER, user
from tests.ingest.running import Heard, ingest, running, texts, until, write

NEVER = 3600
"""Seconds between sweeps where events alone have to do."""

linux = pytest.mark.skipif(sys.platform != "linux", reason="is about inotify")


@pytest.fixture(params=["inotify", "watchdog"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to watch: Linux's own, and that of other systems, which serves here as well."""
    if request.param == "watchdog":
        monkeypatch.setattr("conv_realtime.ingest.river.watch", ObserverWatcher)
    elif sys.platform != "linux":
        pytest.skip("is about inotify")


def new_session(folder: Path, name: object) -> Path:
    """Writes a transcript of a session of its own; gives its path."""
    session = str(uuid.uuid4())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{session}.jsonl"
    path.write_bytes(user(name, session=session))
    return path


@pytest.mark.usefixtures("way")
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


@pytest.mark.usefixtures("way")
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


@pytest.mark.usefixtures("way")
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


@pytest.mark.usefixtures("way")
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
        return misses.compare(by_hash({"a": stat}), now * second)

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
        await until(lambda: len(store.messages) == 80, within=60)
        limit.write_text("1000")
        await until(lambda: river.health()["watcher"] == "ok", within=60)
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
            _, errors = child.communicate(timeout=110)
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
async def test_watching_begins_again_when_it_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever keeps events from being read: it is noticed, and all are watched anew."""
    store = MemoryStore()
    path = write(tmp_path, user("q"))

    def raises(*_: object) -> Iterator[Event]:
        raise OSError("not what a reader expects")

    async with running(ingest(tmp_path, store, sweep_seconds=NEVER)) as river:
        await until(lambda: len(store.messages) == 1)
        with monkeypatch.context() as patched:
            patched.setattr(Kernel, "read", raises)
            with path.open("ab") as file:
                file.write(user("r"))
            await until(lambda: river.health()["watcher"] == "down")
        await until(lambda: len(store.messages) == 2)
        await until(lambda: river.health()["watcher"] == "ok")
        with path.open("ab") as file:
            file.write(user("s"))
        await until(lambda: len(store.messages) == 3)


async def test_watching_begins_again_when_its_threads_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where watchdog watches, it may end without a word: that is noticed, and it is replaced."""
    store = MemoryStore()
    path = write(tmp_path, user("q"))
    watcher = ObserverWatcher([tmp_path / "projects"])
    monkeypatch.setattr("conv_realtime.ingest.river.watch", lambda paths, optional: watcher)
    async with running(ingest(tmp_path, store, sweep_seconds=NEVER)) as river:
        await until(lambda: len(store.messages) == 1)
        former = watcher._observer
        assert former is not None
        next(iter(former.emitters)).stop()
        await until(lambda: watcher._observer is not former and river.health()["watcher"] == "ok")
        with path.open("ab") as file:
            file.write(user("s"))
        await until(lambda: len(store.messages) == 2)


@linux
async def test_without_inotify_folders_are_swept_until_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Other programs of the user may have all instances that the system grants."""
    store = MemoryStore()
    path = write(tmp_path, user("q"))

    def raises(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(Kernel, "__init__", raises)
        async with running(ingest(tmp_path, store, sweep_seconds=NEVER)) as river:
            await until(lambda: len(store.messages) == 1)
            assert river.health()["watcher"] == "down"
            with path.open("ab") as file:
                file.write(user("r"))
            await until(lambda: len(store.messages) == 2)
            patched.undo()
            await until(lambda: river.health()["watcher"] == "ok")
            with path.open("ab") as file:
                file.write(user("s"))
            await until(lambda: len(store.messages) == 3)
    assert caplog.text.count("Too many open files") == 1


@pytest.mark.usefixtures("way")
async def test_a_folder_that_takes_the_place_of_another_is_watched(tmp_path: Path) -> None:
    """In the tree and at its top, moved away, or deleted while somebody holds it open."""
    store = MemoryStore()
    top = tmp_path / "projects"
    new_session(top / "-a" / "b", 0)
    async with running(ingest(tmp_path, store, sweep_seconds=NEVER)) as river:
        await until(lambda: river.caught_up)
        os.rename(top / "-a", tmp_path / "away")
        path = new_session(top / "-a" / "b", 1)
        await grows(river, path, store, 3)
        held = os.open(top / "-a" / "b", os.O_RDONLY)
        try:
            shutil.rmtree(top / "-a")
            path = new_session(top / "-a" / "b", 2)
            await grows(river, path, store, 5)
        finally:
            os.close(held)
        os.rename(top, tmp_path / "former")
        path = new_session(top / "-a" / "b", 3)
        await grows(river, path, store, 7)


async def test_a_folder_that_was_deleted_and_made_again_is_watched_again(tmp_path: Path) -> None:
    """A watch stays with the folder that is gone; without a new one only sweeps would see."""
    store = MemoryStore()
    path = write(tmp_path, user("q"))
    async with running(ingest(tmp_path, store, sweep_seconds=NEVER)) as river:
        await until(lambda: texts(store) == ["prompt q"])
        shutil.rmtree(tmp_path / "projects")
        await until(lambda: river.health()["watcher"] == "partial")
        write(tmp_path, user("q"), user("r"))
        await until(lambda: river.health()["watcher"] == "ok")
        with path.open("ab") as file:
            file.write(user("s"))
        await until(lambda: texts(store) == ["prompt q", "prompt r", "prompt s"])


async def test_a_tree_that_takes_the_place_of_the_watched_one_is_watched(tmp_path: Path) -> None:
    """It was never missing, so only what it is tells that it is another one."""
    store = MemoryStore()
    write(tmp_path, user("q"))
    async with running(ingest(tmp_path, store, sweep_seconds=NEVER)):
        await until(lambda: len(store.messages) == 1)
        write(tmp_path / "new", user("o", session=OTHER), name=f"-p/{OTHER}.jsonl")
        os.rename(tmp_path / "projects", tmp_path / "old")
        os.rename(tmp_path / "new" / "projects", tmp_path / "projects")
        await until(lambda: len(store.messages) == 2)
        with (tmp_path / "projects" / f"-p/{OTHER}.jsonl").open("ab") as file:
            file.write(user("p", session=OTHER))
        await until(lambda: len(store.messages) == 3)


@linux
@pytest.mark.parametrize("alone", [False, True], ids=["a folder", "a file"])
async def test_the_next_folder_of_a_path_is_watched_though_it_has_the_same_inode(
    tmp_path: Path, *, alone: bool
) -> None:
    """File systems give it to the next one; who looks a second later sees no other folder."""
    store, top = MemoryStore(), tmp_path / "projects"
    path = new_session(top, 0)
    paths = [path if alone else top]
    async with running(ingest(tmp_path, store, paths=paths, sweep_seconds=NEVER)) as river:
        await until(lambda: river.caught_up)
        before, text = top.stat().st_ino, path.read_bytes()
        path.unlink()
        top.rmdir()
        top.mkdir()
        if top.stat().st_ino != before:
            pytest.skip("this file system numbers folders anew")
        path.write_bytes(text)
        for messages in (2, 3):  # the first may be found by the sweep that takes it up
            await grows(river, path, store, messages)


@pytest.mark.usefixtures("way")
async def test_of_a_single_file_nothing_beside_it_is_read(tmp_path: Path) -> None:
    """It is watched by the folder that it is in, where others may write, too."""
    store = MemoryStore()
    path = write(tmp_path, user("q"))
    new_session(path.parent, "before")
    async with running(ingest(tmp_path, store, paths=[path], sweep_seconds=NEVER)) as river:
        await until(lambda: river.caught_up)
        new_session(path.parent, "beside")
        new_session(path.parent / "below", "below")
        await grows(river, path, store, 2)
        assert len(store.conversations) == 1
        assert river.health()["files"] == 1


@linux
async def test_a_link_that_leads_elsewhere_is_followed_there(tmp_path: Path) -> None:
    """At once, into folders of the same names, which are watched as those before were."""
    store = MemoryStore()
    (tmp_path / "projects").mkdir()
    link, beside = (tmp_path / "projects" / name for name in ("link", "beside"))
    one, two = (new_session(tmp_path / name / "-p", name) for name in ("one", "two"))
    link.symlink_to(tmp_path / "one")
    async with running(ingest(tmp_path, store, sweep_seconds=NEVER)) as river:
        await grows(river, link / "-p" / one.name, store, 2)
        beside.symlink_to(tmp_path / "two")
        os.replace(beside, link)
        await grows(river, link / "-p" / two.name, store, 4)
        link.unlink()
        link.symlink_to(tmp_path / "one")
        await grows(river, link / "-p" / one.name, store, 5)


@linux
async def test_what_takes_the_place_of_a_linked_folder_is_watched_after_a_sweep(
    tmp_path: Path,
) -> None:
    """Nothing tells of it: the link is what it was, and what it leads to lies elsewhere."""
    store = MemoryStore()
    (tmp_path / "projects").mkdir()
    link = tmp_path / "projects" / "link"
    one, two = (new_session(tmp_path / name / "-p", name) for name in ("one", "two"))
    link.symlink_to(tmp_path / "one")
    async with running(ingest(tmp_path, store, sweep_seconds=NEVER)) as river:
        await grows(river, link / "-p" / one.name, store, 2)
        (tmp_path / "one").rename(tmp_path / "former")
        (tmp_path / "two").rename(tmp_path / "one")
        assert river._waker is not None
        await river._waker._sweep()
        await grows(river, link / "-p" / two.name, store, 4)
        assert river.health()["watcher"] == "ok"


@linux
async def test_a_folder_of_two_names_is_told_by_both(tmp_path: Path) -> None:
    """A transcript is read by the one that owns its conversation, whichever that is."""
    watcher = InotifyWatcher([])
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    async with watcher:
        for name in ("real", "link"):
            watcher.enter(str(tmp_path / name))
        (tmp_path / "real" / "file").touch()
        wakeup = await anext(watcher.wakeups())
        assert wakeup.files == {str(tmp_path / name / "file") for name in ("real", "link")}


@linux
async def test_looking_for_folders_that_were_refused_holds_up_no_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be tens of thousands above the limit; one that is gone is not missed any more."""
    folder = tmp_path / "folder"
    folder.mkdir()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    def is_there(path: str) -> bool:
        assert not watcher._lock.locked()
        return os.path.exists(path)

    watcher = InotifyWatcher([tmp_path])
    async with watcher:
        monkeypatch.setattr(Kernel, "add", full)
        watcher.enter(str(folder))
        monkeypatch.setattr("os.path.isdir", is_there)
        await watcher.arm()
        assert watcher.blind
        folder.rmdir()
        await watcher.arm()
        assert not watcher.blind


async def grows(river: Ingest, path: Path, store: MemoryStore, messages: int) -> None:
    """Appends to a transcript that nobody is about to look at; returns when that is stored."""
    book = river._opened[0].shelf.book(str(path))
    await until(lambda: book.settling is not None and book.settling.done())
    with path.open("ab") as file:
        file.write(user(messages, session=path.stem))
    await until(lambda: len(store.messages) == messages)


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
