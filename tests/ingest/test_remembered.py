"""What is known of files without a look at them: what was saved, for all who ask at once."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from conv_realtime.core.checkpoint import Checkpoint, FileStat
from conv_realtime.core.format import Recognised
from conv_realtime.core.formats import BUILT_IN
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.edges.checkpoints import Checkpoints
from conv_realtime.edges.checkpoints.remembered import Key, Remembered
from conv_realtime.ingest.book import Book
from conv_realtime.ingest.shelf import Shelf
from tests.ingest.lines import uuid


def test_two_checkpoints_of_one_conversation_are_not_at_rest(tmp_path: Path) -> None:
    """Which of the files states it is decided as ever; so is what becomes of a format that went."""
    shelf = Shelf(BUILT_IN, Sanitizer())
    state = FileStat(1, 2, 3, 4)
    said = {
        "/a.jsonl": Recognised("claude_code", uuid(1), None, True),
        "/b.jsonl": Recognised("claude_code", uuid(1), None, False),
        "/c.jsonl": Recognised("claude_code", uuid(1), "agent", True),
        "/d.jsonl": Recognised("unheard of", uuid(2)),
        "/e.jsonl": None,
    }
    stats = {path: state for path in said}
    with Checkpoints(tmp_path, "somewhere") as checkpoints:
        for path, known in said.items():
            assert checkpoints.save(path, Checkpoint(state, known=known))
        shelf.remember(checkpoints.load({form.source for form in shelf.formats}))
        shelf.rest(stats, but=())
        assert shelf.resting == {"/c.jsonl"}
        assert shelf.recall("/a.jsonl", state) and shelf.recall("/b.jsonl", state)
        assert not shelf.is_alone("/a.jsonl") and not shelf.is_alone("/b.jsonl")
        assert not shelf.recall("/d.jsonl", state) and not shelf.recall("/e.jsonl", state)


def test_a_checkpoint_is_there_for_all_who_ask_at_once() -> None:
    """While one thread reads it, others find it too; what was saved meanwhile is the newer one."""
    asked, read = threading.Semaphore(0), threading.Event()

    class Slow:
        def whole(self, path: str) -> Checkpoint:
            asked.release()
            read.wait(10)
            return Checkpoint(position=1)

        def stating(self, key: Key) -> list[str]:
            return []

    remembered = Remembered([(1, 2, 3, 4, 0, 0, b"/a"), (1, 2, 3, 4, 0, 0, b"/b")], Slow())
    with ThreadPoolExecutor() as threads:
        found = []
        for path in ("/a", "/a", "/b"):
            found.append(threads.submit(remembered.__getitem__, path))
            assert asked.acquire(timeout=10)
        remembered["/b"] = Checkpoint(position=2)
        read.set()
        assert [one.result().position for one in found] == [1, 1, 2]
    assert len(remembered) == 2


def test_a_checkpoint_that_is_asked_for_while_all_are_gone_through_breaks_nothing() -> None:
    """A sweep goes through them while files are recognised on a thread."""
    rows = [(1, 2, 3, 4, 0, 0, name) for name in (b"/a", b"/b", b"/c")]
    remembered = Remembered(rows)

    class Asking(dict[str, FileStat]):
        def get(self, path: str, default: object = None) -> Any:
            remembered.get(path)
            return super().get(path, default)

    assert remembered.unchanged(Asking({"/a": FileStat(1, 2, 3, 4)})) == {"/a"}


def test_a_file_has_one_book_whoever_asks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is recognised on a thread may be woken at the same time."""

    def slow(path: str) -> Book:
        begun.wait(10)
        return Book(path)

    begun = threading.Barrier(2)
    monkeypatch.setattr("conv_realtime.ingest.shelf.Book", slow)
    shelf = Shelf(BUILT_IN, Sanitizer())
    with ThreadPoolExecutor() as threads:
        one, other = threads.map(shelf.book, ["/a", "/a"])
    assert one is other is shelf.books["/a"]


def test_what_is_remembered_is_what_was_saved(tmp_path: Path) -> None:
    """Whether it is asked for, replaced or dropped; a changed file, or one asked for, is not told
    as unchanged."""
    stat = FileStat(1, 2, 3, 4)
    kept = {
        f"/{number}.jsonl": Checkpoint(
            stat if number else None,
            base=number, position=7, crc=8, end=9, rewritten=True, messages=number, conversations=1,
            known=Recognised("claude_code", uuid(number), None, True),
        )
        for number in range(4)
    }  # fmt: skip
    with Checkpoints(tmp_path, "somewhere") as checkpoints:
        for path, checkpoint in kept.items():
            assert checkpoints.save(path, checkpoint)
        remembered = checkpoints.load({"claude_code"})
        assert len(remembered) == 4 and "/4.jsonl" not in remembered
        stats = {path: stat for path in (*kept, "/4.jsonl")}
        changed = {"/2.jsonl": stat._replace(size=4)}
        assert remembered.unchanged(stats | changed) == {"/1.jsonl", "/3.jsonl"}
        assert remembered.counts(["/1.jsonl", "/3.jsonl"]) == (4, 2)
        assert remembered["/1.jsonl"] == kept["/1.jsonl"]
        assert remembered.unchanged(stats) == {"/2.jsonl", "/3.jsonl"}
        assert remembered == kept
        assert not remembered.unchanged(stats)
        remembered["/1.jsonl"] = Checkpoint(base=99)
        assert remembered.pop("/2.jsonl") == kept["/2.jsonl"]
        assert remembered.get("/2.jsonl") is None and len(remembered) == 3
        assert remembered["/1.jsonl"] == Checkpoint(base=99)


def test_files_may_be_found_while_it_is_asked_which_there_are() -> None:
    """A start recognises files on a thread, and snapshots and health go on meanwhile."""
    shelf = Shelf(BUILT_IN, Sanitizer())
    for number in range(1000):
        shelf.book(f"/{number}")
    stop = threading.Event()

    def find() -> None:
        number = 1000
        while not stop.is_set() and number < 200_000:
            shelf.book(f"/{number}")
            number += 1

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=find)
    thread.start()
    try:
        for _ in range(50):
            assert shelf.owners() == []
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(before)
