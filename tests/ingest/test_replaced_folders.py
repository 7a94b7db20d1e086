"""Another folder where one was watched: it is watched as the one before was."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from conv_realtime.testing import MemoryStore
from tests.ingest.lines import OTHER, user
from tests.ingest.running import ingest, running, texts, until, write
from tests.ingest.watching import NEVER, grows, linux, new_session


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
    for number in range(10):  # another program may take it in between
        if await _grows_in_the_next_folder(tmp_path / str(number), alone=alone):
            return
    pytest.skip("this file system numbers folders anew")


async def _grows_in_the_next_folder(folder: Path, *, alone: bool) -> bool:
    """Return False, having tried nothing, where the next folder has another inode."""
    store, top = MemoryStore(), folder / "projects"
    path = new_session(top, 0)
    paths = [path if alone else top]
    async with running(ingest(folder, store, paths=paths, sweep_seconds=NEVER)) as river:
        await until(lambda: river.caught_up)
        before, text = top.stat().st_ino, path.read_bytes()
        path.unlink()
        top.rmdir()
        top.mkdir()
        if top.stat().st_ino != before:
            return False
        path.write_bytes(text)
        for messages in (2, 3):  # the first may be found by the sweep that takes it up
            await grows(river, path, store, messages)
    return True


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
