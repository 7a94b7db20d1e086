"""What the file system does to a watcher: nothing that is written stays unseen."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from conv_realtime.edges.disk import opened
from conv_realtime.edges.watch.inotify import InotifyWatcher
from conv_realtime.testing import MemoryStore
from tests.ingest.lines import user, uuid
from tests.ingest.running import ingest, rested, running, shelf_of, texts, until, write
from tests.ingest.stores import Shut
from tests.ingest.watching import NEVER, grows, linux, new_session


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


async def test_a_start_waits_for_a_file_that_an_event_told_of_first(tmp_path: Path) -> None:
    """Whoever waits for `caught_up` finds what was there, whoever has begun to look at it."""
    store = Shut()
    store.takes.clear()
    older = rested(tmp_path, 1)
    write(tmp_path, user("q"))
    async with running(ingest(tmp_path, store, concurrency=1, sweep_seconds=NEVER)) as river:
        await until(lambda: store.asked)  # for the newer one
        book = shelf_of(river).book(str(older))
        async with book.lock:
            with older.open("ab") as file:
                file.write(user("r", session=uuid(1)))
            await until(lambda: book.looking)
            store.takes.set()
            await until(lambda: store.messages)
            for _ in range(100):
                await asyncio.sleep(0)
            assert not river.caught_up
        await until(lambda: river.caught_up)
        assert len(store.messages) == 3


async def test_a_folder_that_cannot_be_listed_is_told_once(
    tmp_path: Path, close: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever looks for its transcripts learns why they are missing; each sweep comes by."""
    write(tmp_path, user("q"))
    closed = tmp_path / "projects" / "-closed"
    closed.mkdir()
    close(closed)
    async with running(ingest(tmp_path, MemoryStore(), sweep_seconds=NEVER)) as river:
        await until(lambda: river.caught_up)
        assert river._waker is not None
        await river._waker.files()
        assert river.health()["unreadable"] == 1
    assert caplog.messages.count(f"{closed}: Permission denied") == 1


async def test_a_file_that_cannot_be_read_is_counted_until_it_can_be_or_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as those of a session that somebody began as root."""
    closed: set[str] = set()
    opening = opened._open

    def refusing(path: str) -> int:
        if path in closed:
            raise PermissionError(errno.EACCES, "Permission denied")
        return opening(path)

    monkeypatch.setattr(opened, "_open", refusing)
    store = MemoryStore()
    one, two = rested(tmp_path, 1), rested(tmp_path, 2)
    closed |= {str(one), str(two)}
    async with running(ingest(tmp_path, store, sweep_seconds=NEVER)) as river:
        await until(lambda: river.caught_up)
        assert river.health()["unreadable"] == 2
        closed.clear()
        with one.open("ab") as file:
            file.write(user("r", session=uuid(1)))
        await until(lambda: store.messages)
        assert river.health()["unreadable"] == 1
        two.unlink()
        await until(lambda: river.health()["unreadable"] == 0)


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
