"""Files that vanish or give way before all of them is sent: what was read is not lost."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path

import pytest

from conv_realtime.edges import disk
from conv_realtime.errors import SourceError
from conv_realtime.testing import MemoryStore
from tests.ingest.lines import user
from tests.ingest.running import Heard, ingest, running, texts, until, write


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


async def test_where_no_more_files_may_be_open_what_can_be_read_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is held then, for the case that the file vanishes."""

    def refused(descriptor: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    store = MemoryStore()
    (tmp_path / "projects").mkdir()
    async with running(ingest(tmp_path, store)):
        monkeypatch.setattr(os, "dup", refused)
        write(tmp_path, user("q"))
        await until(lambda: texts(store) == ["prompt q"])


def test_a_file_of_which_nothing_can_be_told_is_an_error_of_that_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a network drive that has lost it; it does not stay open."""
    path = write(tmp_path, user("q"))
    opened: list[int] = []

    def stale(descriptor: int) -> os.stat_result:
        opened.append(descriptor)
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as meanwhile, pytest.raises(SourceError, match="Stale file handle"):
        meanwhile.setattr(os, "fstat", stale)
        disk.open_file(str(path))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])


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
