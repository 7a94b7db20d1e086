"""Rollouts that Codex compresses, resumes and archives: one conversation through all of it."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import sys
import threading
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from zlib import crc32

import pytest

from conv_realtime.edges import disk
from conv_realtime.errors import SourceError
from conv_realtime.models import Message
from conv_realtime.testing import MemoryStore
from tests.ingest.rollouts import NAME, calls, line, meta, says
from tests.ingest.running import Heard, ingest, running, texts, until

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TALK = [meta(), says("user", "one"), calls("c"), says("assistant", "two")]


def _plain(folder: Path, *lines: bytes, place: str = "sessions/2026/03/04") -> Path:
    path = folder / "projects" / place / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(lines))
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return path


def pack(path: Path) -> Path:
    """Compress a rollout as Codex does: beside it, with its time, then the plain one goes."""
    packed = path.with_name(path.name + ".zst")
    made = path.with_name("rollout-compress-x.tmp")
    made.write_bytes(zstd.compress(path.read_bytes()))
    stat = path.stat()
    os.utime(made, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    made.rename(packed)
    path.unlink()
    return packed


def unpack(packed: Path) -> Path:
    """Make the plain rollout again, as Codex does to resume it."""
    path = packed.with_suffix("")
    path.write_bytes(zstd.decompress(packed.read_bytes()))
    packed.unlink()
    return path


def archive(path: Path) -> Path:
    """Move a rollout to the archive."""
    moved = path.parents[4] / "archived_sessions" / path.name
    moved.parent.mkdir(exist_ok=True)
    return path.rename(moved)


async def _backfill(
    folder: Path, store: MemoryStore, state: str = "state"
) -> tuple[int, list[str]]:
    async with ingest(folder, store, state_dir=folder / state) as river:
        summary = await river.backfill()
    return summary.changed, [skip.reason for skip in summary.skips]


async def _is_equal(folder: Path, store: MemoryStore, state: str = "state") -> bool:
    async with ingest(folder, store, state_dir=folder / state) as river:
        found = [one async for one in river.verify()]
    return [one.state for one in found] == ["equal"]


# The edge ------------------------------------------------------------------------------------


def test_a_packed_file_is_read_by_the_places_of_its_plain_bytes(tmp_path: Path) -> None:
    """In any order, by two readers, and its checksum is the plain one's."""
    data = random.Random(1).randbytes(300_000) * 10
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(zstd.compress(data))
    with disk.open_file(str(path)) as file:
        again = file.again()
        for start in (0, 2_500_000, 17, 1_000_000):
            assert file.read(start, 1_200_000) == data[start : start + 1_200_000]
            assert again.read(start, 5) == data[start : start + 5]
        assert file.read(len(data), 5) == b""
        assert file.crc(1_000_001) == crc32(data[:1_000_001])
        assert file.crc(len(data) + 1) is None
        assert file.is_same(again)
        assert file.stat() == disk.stat(str(path))
    path.unlink()
    assert again.read(1, 3) == data[1:4]
    again.close()


def test_readers_of_one_packed_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Not from several threads either."""
    data = random.Random(2).randbytes(2_000_000)
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(zstd.compress(data))
    wrong: list[int] = []
    with disk.open_file(str(path)) as file:

        def read(seed: int) -> None:
            chosen = random.Random(seed)
            places = [chosen.randrange(len(data)) for _ in range(20)]
            wrong.extend(at for at in places if file.read(at, 1000) != data[at : at + 1000])

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_memory_does_not_grow_with_what_is_packed(tmp_path: Path) -> None:
    """A small file may hold a very large one."""
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(zstd.compress(b"x" * 50_000_000))
    tracemalloc.start()
    try:
        with disk.open_file(str(path)) as file:
            file.check()
            assert file.read(49_999_990, 100) == b"x" * 10
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


_SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "torn": lambda data: data[: len(data) * 9 // 10],
    "another kind": lambda data: b"not zstd at all",
    "a bit": lambda data: data[:-20] + bytes([data[-20] ^ 255]) + data[-19:],
    "more behind it": lambda data: data + b"garbage",
}


@pytest.mark.parametrize("how", _SPOILT)
async def test_a_packed_file_that_cannot_be_read_is_skipped_whole(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named with the reason, nothing of it is told, and the others are read and compared."""
    # More than is read at a time: its beginning is in order.
    filler = [says("user", random.Random(n).randbytes(3000).hex()) for n in range(2000)]
    packed = pack(_plain(tmp_path, *TALK, *filler))
    data = zstd.compress(zstd.decompress(packed.read_bytes()), options=_CHECKED)
    packed.write_bytes(_SPOILT[how](data))
    other = tmp_path / "projects" / "other.jsonl"
    other.write_bytes(meta("another") + says("user", "well"))
    store, heard = MemoryStore(), Heard()
    async with ingest(tmp_path, store, heard) as river:
        summary = await river.backfill()
        caplog.clear()
        assert [one.path async for one in river.verify()] == [str(other)]
    assert f"not compared: {packed}: not readable as zstd" in caplog.text
    assert (texts(store), heard.texts()) == (["well"], ["well"])
    (skip,) = summary.skips
    assert (skip.path, "not readable as zstd" in skip.reason) == (str(packed), True)
    with pytest.raises(SourceError), disk.open_file(str(packed)) as file:
        file.check()


_CHECKED = {int(zstd.CompressionParameter.checksum_flag): 1}


# One conversation ----------------------------------------------------------------------------


async def test_a_packed_rollout_says_what_the_plain_one_said(tmp_path: Path) -> None:
    """The same rows, with the same places and revisions, from a state that knows nothing."""
    path, store = _plain(tmp_path, *TALK), MemoryStore()
    await _backfill(tmp_path, store)
    before = dict(store.messages), dict(store.conversations)
    pack(path)
    assert await _backfill(tmp_path, store, "empty") == (0, [])
    assert (store.messages, store.conversations) == before
    assert await _is_equal(tmp_path, store, "empty")


_STEPS: dict[str, Sequence[Callable[[Path], Path]]] = {
    "packed": [pack],
    "archived": [archive],
    "archived and packed": [archive, pack],
    "packed and resumed": [pack, unpack],
    "all of it": [archive, pack, unpack],
}


@pytest.mark.parametrize("how", _STEPS)
async def test_a_rollout_that_moved_between_runs_is_not_sent_again(
    how: str, tmp_path: Path
) -> None:
    """Not a request is made: the checkpoint goes on, and what is added is news."""
    path, store = _plain(tmp_path, *TALK), MemoryStore()
    await _backfill(tmp_path, store)
    for step in _STEPS[how]:
        path = step(path)
    writes = _count_writes(store)
    assert await _backfill(tmp_path, store) == (0, [])
    assert writes == []
    assert await _is_equal(tmp_path, store)
    assert await _backfill(tmp_path, store) == (0, [])
    if path.suffix == ".zst":
        path = unpack(path)
    with path.open("ab") as file:
        file.write(says("user", "three"))
    changed, _ = await _backfill(tmp_path, store)
    assert (texts(store), changed) == (["one", "two", "three"], 2)
    assert len(store.conversations) == 1


def _count_writes(store: MemoryStore) -> list[str]:
    """Return what will hold the tables written from now on."""
    writes: list[str] = []
    write = store.write

    async def note(table: str, *rows: object, **how: object) -> int:
        writes.append(table)
        return await write(table, *rows, **how)  # type: ignore[arg-type]

    store.write = note  # type: ignore[method-assign]
    return writes


async def test_a_rollout_that_moves_while_it_is_watched_stays_one(tmp_path: Path) -> None:
    """Packed, resumed, archived; each line is told once, and snapshots are there throughout."""
    path, store, heard = _plain(tmp_path, *TALK), MemoryStore(), Heard()
    river = ingest(tmp_path, store, heard, sweep_seconds=0.05)

    def is_acknowledged(path: Path) -> bool:
        checkpoint = river._opened[0].shelf.checkpoints.get(str(path))
        return checkpoint is not None and checkpoint.position == sum(map(len, TALK))

    async with running(river):
        await until(lambda: is_acknowledged(path))
        (conversation,) = store.conversations
        for step in (archive, pack, unpack):
            path = step(path)
            await until(lambda path=path: is_acknowledged(path))  # type: ignore[misc]
            messages = await river.messages(conversation, 10)
            assert len(messages) == 2
        with path.open("ab") as file:
            file.write(says("user", "three"))
        await until(lambda: texts(store)[-1] == "three")
    told = [c.row.text for c in heard.changes if isinstance(c.row, Message) and c.created]
    assert told == ["one", "two", "three"]
    assert len(store.conversations) == 1


async def test_a_move_that_is_noticed_by_the_former_file_is_one(tmp_path: Path) -> None:
    """A look that had to wait finds the other file in its place, before that is looked at."""
    path, store, heard = _plain(tmp_path, *TALK), MemoryStore(), Heard()
    async with running(ingest(tmp_path, store, heard, sweep_seconds=3600)) as river:
        desk, tender = river._opened
        await until(lambda: texts(store) == ["one", "two"] and str(path) in desk.shelf.checkpoints)
        packed = pack(path)
        book = desk.shelf.book(str(packed))
        await until(lambda: book.path in desk.shelf.checkpoints and not book.looking)
        async with book.lock:
            tender.look_soon(str(packed))
            await asyncio.sleep(0)  # it has seen the file, and waits for the lock
            path = unpack(packed)
        with path.open("ab") as file:
            file.write(says("user", "three"))
        await until(lambda: texts(store)[-1] == "three")
    told = [c.row.text for c in heard.changes if isinstance(c.row, Message) and c.created]
    assert told == ["one", "two", "three"]


async def test_a_move_to_where_nothing_can_be_read_for_a_moment_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is noticed, the file cannot be read, and the next look goes on where that one was."""
    path, store, heard = _plain(tmp_path, *TALK), MemoryStore(), Heard()
    crc, refused = disk.OpenFile.crc, list[str]()

    def fail_once(file: disk.OpenFile, end: int) -> int | None:
        if file.packed and not refused:
            refused.append(file.path)
            raise SourceError(file.path, "away")
        return crc(file, end)

    async with running(ingest(tmp_path, store, heard, sweep_seconds=0.05)) as river:
        checkpoints = river._opened[0].shelf.checkpoints
        await until(lambda: texts(store) == ["one", "two"] and str(path) in checkpoints)
        monkeypatch.setattr(disk.OpenFile, "crc", fail_once)
        packed = pack(path)
        await until(lambda: refused)
        await until(lambda: str(packed) in checkpoints)
        with unpack(packed).open("ab") as file:
            file.write(says("user", "three"))
        await until(lambda: texts(store)[-1] == "three")
    told = [c.row.text for c in heard.changes if isinstance(c.row, Message) and c.created]
    assert told == ["one", "two", "three"]


async def test_of_both_the_plain_one_is_read(tmp_path: Path) -> None:
    """Whatever their sizes: a few bytes become more when they are packed."""
    path = _plain(tmp_path, *TALK[:2])
    packed = path.with_name(path.name + ".zst")
    packed.write_bytes(
        zstd.compress(path.read_bytes()) + b"\x50\x2a\x4d\x18\xff\x0f\0\0" + b"\0" * 4095
    )
    assert packed.stat().st_size > path.stat().st_size
    store = MemoryStore()
    assert await _backfill(tmp_path, store) == (3, [f"copy of {path}"])
    with path.open("ab") as file:
        file.write(says("user", "more"))
    assert (await _backfill(tmp_path, store))[1] == [f"copy of {path}"]
    assert texts(store) == ["one", "more"]


async def test_a_packed_file_that_is_not_read_further_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was judged once is known by its state on the disk."""
    pack(_plain(tmp_path, *TALK))
    store = MemoryStore()
    await _backfill(tmp_path, store)

    def refuse(path: str) -> disk.OpenFile:
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr(disk, "open_file", refuse)
    assert await _backfill(tmp_path, store) == (0, [])


def _migrated(lines: Sequence[bytes]) -> list[bytes]:
    """Return a rollout as `codex migrate-rollouts` rewrites it: numbered, with events between."""
    items = [one for one in lines if b"response_item" in one]
    event = {"type": "item_completed", "item": {"type": "AgentMessage", "id": "x"}}
    kept = [meta(history_mode="paginated"), *items]
    both = [one for item in kept for one in (item, line("event_msg", event))]
    return [b'{"ordinal":%d,' % place + one[1:] for place, one in enumerate(both)]


@pytest.mark.parametrize("state", ["state", "empty"])
async def test_a_rollout_that_codex_rewrites_into_its_newer_form_stays_one(
    state: str, tmp_path: Path
) -> None:
    """Items keep their numbers while every byte moves: rows change, none is doubled or lost."""
    path, store = _plain(tmp_path, *TALK), MemoryStore()
    await _backfill(tmp_path, store)
    before = {row.id: row.text for row in store.messages.values()}
    path.write_bytes(b"".join(_migrated(TALK)))
    await _backfill(tmp_path, store, state)
    assert {row.id: row.text for row in store.messages.values()} == before
    assert len(store.conversations) == 1
    assert await _is_equal(tmp_path, store, state)


def test_where_no_more_files_may_be_open_nothing_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is open twice; where the second is refused, that is an error of the file."""
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(zstd.compress(b"{}\n"))
    opened: list[int] = []

    def refused(descriptor: int) -> int:
        opened.append(descriptor)
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "dup", refused)
    with pytest.raises(SourceError, match="Too many open files"):
        disk.open_file(str(path))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])
