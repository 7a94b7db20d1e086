"""Files that are rewritten whole: what changed is sent, what vanished is taken back."""

from __future__ import annotations

from pathlib import Path

import pytest

from conv_realtime.testing import MemoryStore
from tests.ingest.notes import DAY, by_text, chat, data, note, notes_ingest, put, read, texts
from tests.ingest.running import rows_of

# One file ------------------------------------------------------------------------------------


async def test_only_what_changed_is_written(tmp_path: Path) -> None:
    """A changed message is one revision above all, what vanished is marked, the rest is silent."""
    store = MemoryStore()
    put(tmp_path, chat(note("a", "one"), note("b", "two"), note("c", "three", at=DAY + "03Z")))
    summary = await read(tmp_path, store)
    assert (summary.files, summary.messages) == (1, 3)
    assert {row.revision for row in store.messages.values()} == {1}
    put(tmp_path, chat(note("a", "one"), note("b", "2"), note("d", "four", at=DAY + "04Z")))
    summary = await read(tmp_path, store)
    rows = by_text(store)
    assert texts(store) == [(0, "one"), (1, "2"), (2, "four")]
    assert [rows[t].revision for t in ("one", "2", "four", "three")] == [1, 2, 1, 2]
    gone = rows["three"].deleted_at
    assert gone is not None and gone == rows["four"].created_at
    (row,) = store.conversations.values()
    assert (row.message_count, row.updated_at) == (3, gone)
    assert summary.changed == 5  # three messages, the conversation, and its project's newest time


async def test_read_again_nothing_changes(tmp_path: Path) -> None:
    """By the same process, by another, and under another name."""
    store = MemoryStore()
    path = put(tmp_path, chat(note("a", "one"), note(None, "two")))
    async with notes_ingest(tmp_path, store) as river:
        await river.backfill()
        before = rows_of(store)
        assert (await river.backfill()).changed == 0
        path.write_bytes(path.read_bytes())
        assert (await river.backfill()).changed == 0
    assert (await read(tmp_path, store)).changed == 0
    path.rename(path.with_name("elsewhere.json"))
    assert (await read(tmp_path, store)).changed == 0
    assert rows_of(store) == before


async def test_what_comes_back_stands_again(tmp_path: Path) -> None:
    """Also when another process sees it: its revision goes on."""
    store = MemoryStore()
    whole = chat(note("a", "one"), note("b", "two"))
    for value in (whole, chat(note("a", "one")), whole):
        put(tmp_path, value)
        await read(tmp_path, store)
    assert texts(store) == [(0, "one"), (1, "two")]
    assert by_text(store)["two"].revision == 3


async def test_a_change_of_the_row_alone_raises_its_revision(tmp_path: Path) -> None:
    """A new title is one conversation written, under a higher revision, and no message."""
    store = MemoryStore()
    put(tmp_path, chat(note("a", "one")))
    await read(tmp_path, store)
    put(tmp_path, chat(note("a", "one"), title="New"))
    summary = await read(tmp_path, store)
    (row,) = store.conversations.values()
    assert (row.title, row.revision, summary.changed) == ("New", 2, 1)


async def test_a_list_that_only_grows_has_the_rows_of_one_read(tmp_path: Path) -> None:
    """Revisions too, however often it was read on the way."""
    whole = [note(f"n{n}" if n % 2 else None, f"says {n}", tokens=n) for n in range(7)]
    once = MemoryStore()
    put(tmp_path / "once", chat(*whole))
    await read(tmp_path / "once", once)
    for steps in ([1, 2, 3, 4, 5, 6, 7], [3, 7], [1, 6, 7]):
        grown = MemoryStore()
        folder = tmp_path / f"grown{len(steps)}"
        for step in steps:
            put(folder, chat(*whole[:step]))
            await read(folder, grown)
        assert rows_of(grown) == rows_of(once)


async def test_a_file_that_vanishes_or_empties_takes_nothing_back(tmp_path: Path) -> None:
    """Rows outlive their file, and a state that states no conversation."""
    store = MemoryStore()
    path = put(tmp_path, chat(note("a", "one")))
    await read(tmp_path, store)
    before = rows_of(store)
    for rest in (b"", b"{}", data(chat()), b"[1, 2", None):
        if rest is None:
            path.unlink()
        else:
            path.write_bytes(rest)
        await read(tmp_path, store)
        assert rows_of(store) == before


async def test_a_torn_state_is_skipped_until_it_is_whole(tmp_path: Path) -> None:
    """Half a file says nothing, and takes nothing back."""
    store = MemoryStore()
    whole = data(chat(note("a", "one"), note("b", "two")))
    path = put(tmp_path, whole[: len(whole) // 2])
    summary = await read(tmp_path, store)
    assert [(skip.path, skip.reason) for skip in summary.skips] == [(str(path), "incomplete JSON")]
    assert store.messages == {}
    path.write_bytes(whole)
    assert (await read(tmp_path, store)).skipped == 0
    path.write_bytes(whole[:-10])
    summary = await read(tmp_path, store)
    assert (summary.skipped, summary.changed) == (1, 0)
    assert texts(store) == [(0, "one"), (1, "two")]


async def test_a_file_above_the_limit_is_skipped(tmp_path: Path) -> None:
    """It is counted with what would read it, and read when the limit is raised."""
    store = MemoryStore()
    path = put(tmp_path, chat(note("a", "x" * 5000)))
    for _ in range(2):
        (skip,) = (await read(tmp_path, store, max_document_bytes=4000)).skips
        assert skip.path == str(path) and "max_document_bytes" in skip.reason
    assert (await read(tmp_path, store, max_document_bytes=6000)).messages == 1


# Several files -------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("a.json", "b.json"), ("b.json", "a.json")])
async def test_the_newer_of_two_exports_holds(tmp_path: Path, names: tuple[str, str]) -> None:
    """Whatever the order of the files; what only one of them states is there all the same."""
    old = [
        chat(note("a", "old"), note("b", "gone"), written=DAY + "01Z"),
        chat(note("x", "only here"), session="c2", written=DAY + "01Z"),
    ]
    new = [chat(note("a", "new"), written=DAY + "02Z"), chat(note("y", "this"), session="c3")]
    store = MemoryStore()
    put(tmp_path, old, names[0])
    put(tmp_path, new, names[1])
    summary = await read(tmp_path, store)
    assert sorted(by_text(store)) == ["new", "only here", "this"]
    assert {row.revision for row in store.messages.values()} == {1}
    assert (summary.conversations, summary.messages) == (3, 3)
    assert (await read(tmp_path, store)).changed == 0


async def test_an_older_export_that_comes_later_changes_nothing(tmp_path: Path) -> None:
    """Also when the newer one is gone; and a newer one goes on, with what it leaves out taken
    back."""
    store = MemoryStore()
    path = put(tmp_path, [chat(note("a", "new"), note("b", "two"), written=DAY + "02Z")], "n.json")
    await read(tmp_path, store)
    path.unlink()
    put(tmp_path, [chat(note("a", "old"), written=DAY + "01Z")], "o.json")
    summary = await read(tmp_path, store)
    assert (summary.changed, texts(store)) == (0, [(0, "new"), (1, "two")])
    assert [skip.reason for skip in summary.skips] == [f"copy of {path}"]
    put(tmp_path, [chat(note("a", "newest"), written=DAY + "03Z")], "p.json")
    await read(tmp_path, store)
    assert texts(store) == [(0, "newest")]


async def test_a_copy_is_skipped_until_it_outgrows(tmp_path: Path) -> None:
    """The file that states more of a session states it; the other is named as its copy."""
    store = MemoryStore()
    one = put(tmp_path, chat(note("a", "one"), note("b", "two")), "c1.json")
    two = put(tmp_path, chat(note("a", "one")), "copy.json")
    for _ in range(2):
        summary = await read(tmp_path, store)
        assert [(s.path, s.reason) for s in summary.skips] == [(str(two), f"copy of {one}")]
        assert summary.files == 1
    put(tmp_path, chat(note("a", "one"), note("b", "two"), note("c", "three")), "copy.json")
    summary = await read(tmp_path, store)
    assert texts(store) == [(0, "one"), (1, "two"), (2, "three")]
    assert {row.revision for row in store.messages.values()} == {1}
