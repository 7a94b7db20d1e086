"""Events that never come, are dropped, or cannot be read: sweeps make up for them."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from conv_realtime.core.checkpoint import FileStat
from conv_realtime.edges import disk
from conv_realtime.edges.watch.inotify import InotifyWatcher
from conv_realtime.edges.watch.kernel import Event, Kernel
from conv_realtime.edges.watch.observer import ObserverWatcher
from conv_realtime.errors import SourceError
from conv_realtime.ingest import waking
from conv_realtime.ingest.waking import Misses, by_hash
from conv_realtime.testing import MemoryStore
from tests.ingest.lines import user
from tests.ingest.running import ingest, running, texts, until, write
from tests.ingest.watching import NEVER, linux, new_session


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


async def test_what_was_told_before_a_sweep_that_failed_is_no_miss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where no file can be opened: events were called lost, and all was swept every second."""
    store = MemoryStore()
    path = write(tmp_path, user("q"))

    def fails(*_: object) -> NoReturn:
        raise SourceError(str(tmp_path), "Too many open files")

    monkeypatch.setattr(waking, "_ON_ITS_WAY_NS", -(10**18))
    async with running(ingest(tmp_path, store, sweep_seconds=NEVER)) as river:
        await until(lambda: river.caught_up)
        waker = river._waker
        assert waker is not None
        await waker._sweep()
        with path.open("ab") as file:
            file.write(user("r"))
        await until(lambda: texts(store) == ["prompt q", "prompt r"])
        with monkeypatch.context() as patched:
            patched.setattr(disk, "walk", fails)
            await waker._sweep()
        await waker._sweep()
        assert river.health()["watcher"] == "ok"


# The kernel's limits -------------------------------------------------------------------------


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
            os.utime(path, (0, 0))  # no event of it is on its way any more
        await until(lambda: len(store.messages) == 80, within=60)
        limit.write_text("1000")
        await until(lambda: river.health()["watcher"] == "ok", within=60)
"""


@contextmanager
def apart(program: str, folder: Path, *command: str) -> Iterator[subprocess.Popen[str]]:
    """Runs an ingest of `folder` in a process of its own; it has to end well."""
    lines = f"""
import asyncio, os, sys
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


def overflow(folder: Path) -> None:
    """Makes more changes than the kernel keeps for who does not read them."""
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    names = [folder / "one.jsonl", folder / "two.jsonl"]
    names[0].touch()
    for turn in range(most):  # moves, because equal changes are merged
        os.rename(names[turn % 2], names[1 - turn % 2])


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


# Watching that ends --------------------------------------------------------------------------


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
