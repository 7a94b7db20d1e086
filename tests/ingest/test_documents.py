"""Files that are rewritten whole: what changed is sent, what vanished is taken back."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conv_realtime.edges.checkpoints.file import FILE_NAME
from conv_realtime.models import Message
from conv_realtime.testing import MemoryStore
from tests.ingest.notes import DAY, chat, data, note, notes_ingest, put, read, says
from tests.ingest.running import Heard, running, until
from tests.ingest.stores import Strict


def _texts(store: MemoryStore) -> list[tuple[int, str]]:
    return says(list(store.messages.values()))


def _by_text(store: MemoryStore) -> dict[str, Message]:
    return {row.text: row for row in store.messages.values()}


def _rows(store: MemoryStore) -> list[dict[str, Any]]:
    rows = [*store.projects.values(), *store.conversations.values(), *store.messages.values()]
    return sorted((row.to_row() for row in rows), key=lambda row: str(row["id"]))


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
    rows = _by_text(store)
    assert _texts(store) == [(0, "one"), (1, "2"), (2, "four")]
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
        before = _rows(store)
        assert (await river.backfill()).changed == 0
        path.write_bytes(path.read_bytes())
        assert (await river.backfill()).changed == 0
    assert (await read(tmp_path, store)).changed == 0
    path.rename(path.with_name("elsewhere.json"))
    assert (await read(tmp_path, store)).changed == 0
    assert _rows(store) == before


async def test_what_comes_back_stands_again(tmp_path: Path) -> None:
    """Also when another process sees it: its revision goes on."""
    store = MemoryStore()
    whole = chat(note("a", "one"), note("b", "two"))
    for value in (whole, chat(note("a", "one")), whole):
        put(tmp_path, value)
        await read(tmp_path, store)
    assert _texts(store) == [(0, "one"), (1, "two")]
    assert _by_text(store)["two"].revision == 3


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
        assert _rows(grown) == _rows(once)


async def test_a_file_that_vanishes_or_empties_takes_nothing_back(tmp_path: Path) -> None:
    """Rows outlive their file, and a state that states no conversation."""
    store = MemoryStore()
    path = put(tmp_path, chat(note("a", "one")))
    await read(tmp_path, store)
    before = _rows(store)
    for rest in (b"", b"{}", data(chat()), b"[1, 2", None):
        if rest is None:
            path.unlink()
        else:
            path.write_bytes(rest)
        await read(tmp_path, store)
        assert _rows(store) == before


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
    assert _texts(store) == [(0, "one"), (1, "two")]


async def test_a_file_above_the_limit_is_skipped(tmp_path: Path) -> None:
    """It is counted with what would read it, and read when the limit is raised."""
    store = MemoryStore()
    path = put(tmp_path, chat(note("a", "x" * 5000)))
    for _ in range(2):
        (skip,) = (await read(tmp_path, store, max_document_bytes=4000)).skips
        assert skip.path == str(path) and "max_document_bytes" in skip.reason
    assert (await read(tmp_path, store, max_document_bytes=6000)).messages == 1


# Killed, lost, ahead -------------------------------------------------------------------------


class _Killed(BaseException):
    pass


class _Mortal(MemoryStore):
    lives: int | None = None

    async def write(self, *args: Any, **kwargs: Any) -> int:
        return await self._call(super().write(*args, **kwargs))

    async def mark_deleted(self, *args: Any) -> int:
        return await self._call(super().mark_deleted(*args))

    async def _call(self, work: Any) -> int:
        if self.lives is not None:
            self.lives -= 1
            if self.lives < 0:
                work.close()
                raise _Killed
        done: int = await work
        if self.lives == 0:
            raise _Killed  # written, but nobody has heard of it
        return done


_notes = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 2)), max_size=6)
_step = st.tuples(_notes, st.none() | st.integers(0, 5), st.booleans())


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(_step, min_size=1, max_size=5))
def test_any_states_end_in_what_the_last_one_says(
    steps: list[tuple[list[tuple[str, int]], int | None, bool]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Whatever comes, changes, moves and goes, by whichever process, killed after any request.

    An empty state takes nothing back.
    """
    folder, store = tmp_path_factory.mktemp("states"), _Mortal()

    async def follow() -> None:
        river = await notes_ingest(folder, store, batch_rows=2).__aenter__()
        for state, lives, restart in steps:
            unique = dict(state)
            put(folder, chat(*(note(id, f"{id}{n}", tokens=n) for id, n in unique.items())))
            store.lives = lives
            highest = {id: row.revision for id, row in store.messages.items()}
            try:
                await river.backfill()
            except* _Killed:
                restart = True
            store.lives = None
            if restart:
                await river.__aexit__(None, None, None)
                river = await notes_ingest(folder, store, batch_rows=2).__aenter__()
            await river.backfill()
            assert (await river.backfill()).changed == 0
            assert all(store.messages[id].revision >= n for id, n in highest.items())
        await river.__aexit__(None, None, None)

    asyncio.run(follow())
    last = next((dict(state) for state, _, _ in reversed(steps) if state), {})
    assert _texts(store) == [(place, f"{id}{n}") for place, (id, n) in enumerate(last.items())]
    for row in store.conversations.values():
        assert row.message_count == len(last)
        assert row.output_tokens == sum(last.values())


@pytest.mark.parametrize("lives", range(8))
async def test_killed_while_sending_it_goes_on(tmp_path: Path, lives: int) -> None:
    """After any request, in any state of it, the next process ends in what the file says."""
    store = _Mortal()
    put(tmp_path, chat(note("a", "one"), note("b", "two"), note("c", "three")))
    await read(tmp_path, store)
    put(tmp_path, chat(note("a", "1"), note("c", "three"), note("d", "four"), title="New"))
    store.lives = lives
    try:
        await read(tmp_path, store, batch_rows=1)
    except BaseExceptionGroup as group:
        assert group.subgroup(_Killed)
    store.lives = None
    await read(tmp_path, store)
    assert _texts(store) == [(0, "1"), (1, "three"), (2, "four")]
    assert _by_text(store)["two"].deleted_at is not None
    assert [row.title for row in store.conversations.values()] == ["New"]
    assert (await read(tmp_path, store)).changed == 0


async def test_without_a_state_directory_equal_rows_are_silent(tmp_path: Path) -> None:
    """The database's revisions are taken over, nothing is taken back, what differs is written."""
    store = MemoryStore()
    put(tmp_path, chat(note("a", "one"), note("b", "two"), note("c", "three")))
    await read(tmp_path, store)
    put(tmp_path, chat(note("a", "1"), note("b", "two"), note("c", "three")))
    await read(tmp_path, store)
    assert (await read(tmp_path, store, state_dir=tmp_path / "new")).changed == 0
    put(tmp_path, chat(note("a", "eins"), note("b", "two")))
    await read(tmp_path, store, state_dir=tmp_path / "newer")
    assert _texts(store) == [(0, "eins"), (1, "two"), (2, "three")]
    async with notes_ingest(tmp_path, store, state_dir=tmp_path / "newer") as river:
        (found,) = [one async for one in river.verify()]
        assert found.differences == ["1 message more than the files state"] or found.extra
    put(tmp_path, chat(note("a", "uno"), note("b", "two")))
    await read(tmp_path, store, state_dir=tmp_path / "newer")
    assert _by_text(store)["uno"].revision == 3


async def test_a_state_directory_from_a_backup_ends_in_what_the_file_says(tmp_path: Path) -> None:
    """What it remembers is older than what the database has: no change is dropped as older."""
    store = MemoryStore()
    put(tmp_path, chat(note("a", "one"), note("b", "two")))
    await read(tmp_path, store)
    shutil.copytree(tmp_path / "state", tmp_path / "backup")
    for text in ("uno", "eins", "un"):
        put(tmp_path, chat(note("a", text), note("b", "two")))
        await read(tmp_path, store)
    put(tmp_path, chat(note("a", "ichi"), title="New"))
    await read(tmp_path, store, state_dir=tmp_path / "backup")
    assert _texts(store) == [(0, "ichi")]
    assert [row.title for row in store.conversations.values()] == ["New"]


async def test_a_state_directory_of_the_last_version_goes_on(tmp_path: Path) -> None:
    """It had no documents: the database is asked, and nothing is written anew."""
    store = MemoryStore()
    put(tmp_path, chat(note("a", "one")))
    await read(tmp_path, store)
    with sqlite3.connect(tmp_path / "state" / FILE_NAME) as db:
        db.execute("drop table documents")
        db.execute("drop index shown")
        for column in ("project", "revision"):
            db.execute(f"alter table conversations drop column {column}")
        db.execute("pragma user_version = 4")
    assert (await read(tmp_path, store)).changed == 0
    put(tmp_path, chat(note("a", "one"), note("b", "two")))
    await read(tmp_path, store)
    assert _texts(store) == [(0, "one"), (1, "two")]


async def test_what_is_kept_may_be_damaged_while_it_is_used(tmp_path: Path) -> None:
    """The database is asked, and what changed is sent."""
    store = MemoryStore()
    put(tmp_path, chat(note("a", "one"), note("b", "two")))
    await read(tmp_path, store)
    async with notes_ingest(tmp_path, store) as river:
        with sqlite3.connect(tmp_path / "state" / FILE_NAME) as db:
            db.execute("drop table documents")
        put(tmp_path, chat(note("a", "uno"), note("b", "two")))
        await river.backfill()
    assert _texts(store) == [(0, "uno"), (1, "two")]


async def test_what_is_kept_says_nothing_of_contents(tmp_path: Path) -> None:
    """Digests and ids lie in the state directory, no text."""
    put(tmp_path, chat(note("a", "a very private sentence")))
    await read(tmp_path, MemoryStore())
    with sqlite3.connect(tmp_path / "state" / FILE_NAME) as db:
        kept = db.execute("select * from documents").fetchall()
    assert len(kept) == 1 and b"private" not in json.dumps(kept, default=str).encode()


async def test_verify_and_repair(tmp_path: Path) -> None:
    """A row that somebody changed is found and put right, also under a revision above ours."""
    store = MemoryStore()
    put(tmp_path, chat(note("a", "one"), note("b", "two")))
    await read(tmp_path, store)
    async with notes_ingest(tmp_path, store) as river:
        assert [one.state async for one in river.verify()] == ["equal"]
        row = _by_text(store)["one"]
        store.messages[row.id] = row.model_copy(update={"text": "forged", "revision": 40})
        found = [one async for one in river.verify()]
        assert [one.state for one in found] == ["different"]
        await river.repair(found)
        assert [one.state async for one in river.verify()] == ["equal"]
    assert _by_text(store)["one"].revision == 41
    put(tmp_path, chat(note("a", "1"), note("b", "two")))
    await read(tmp_path, store)
    assert _by_text(store)["1"].revision == 42


async def test_a_database_that_lost_everything_gets_it_again(tmp_path: Path) -> None:
    """`retry`, `verify` and a database behind the same address that is empty."""
    store = MemoryStore()
    put(tmp_path, chat(note("a", "one"), note("b", "two")))
    await read(tmp_path, store)
    before = _rows(store)
    store.messages.clear()
    store.conversations.clear()
    async with notes_ingest(tmp_path, store) as river:
        found = [one async for one in river.verify()]
        assert [one.state for one in found] == ["missing"]
        await river.repair(found)
    assert _rows(store) == before
    other = MemoryStore()
    await read(tmp_path, other)
    assert _rows(other) == before


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
    assert sorted(_by_text(store)) == ["new", "only here", "this"]
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
    assert (summary.changed, _texts(store)) == (0, [(0, "new"), (1, "two")])
    assert [skip.reason for skip in summary.skips] == [f"copy of {path}"]
    put(tmp_path, [chat(note("a", "newest"), written=DAY + "03Z")], "p.json")
    await read(tmp_path, store)
    assert _texts(store) == [(0, "newest")]


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
    assert _texts(store) == [(0, "one"), (1, "two"), (2, "three")]
    assert {row.revision for row in store.messages.values()} == {1}


# Live ----------------------------------------------------------------------------------------


async def test_each_state_is_told_as_it_comes(tmp_path: Path) -> None:
    """New, changed and deleted messages, once each; written over or moved into place."""
    store, heard = MemoryStore(), Heard()
    path = put(tmp_path, chat(note("a", "one")))
    async with running(notes_ingest(tmp_path, store, heard)):
        await until(lambda: _texts(store) == [(0, "one")])
        path.write_bytes(data(chat(note("a", "one"), note("b", "two"))))
        await until(lambda: len(_texts(store)) == 2)
        draft = tmp_path / "draft"
        draft.write_bytes(data(chat(note("a", "1"), note("c", "three"))))
        draft.replace(path)
        await until(lambda: _texts(store) == [(0, "1"), (1, "three")])
        await until(lambda: _by_text(store)["two"].deleted_at)
    told = [
        (c.row.text, c.created, c.row.revision, c.row.deleted_at is not None)
        for c in heard.changes
        if isinstance(c.row, Message)
    ]
    assert told[:2] == [("one", True, 1, False), ("two", True, 1, False)]
    assert sorted(told[2:]) == [
        ("", False, 2, True), ("1", False, 2, False), ("three", True, 1, False),
    ]  # fmt: skip


async def test_a_newer_export_takes_over_while_it_is_watched(tmp_path: Path) -> None:
    """And the older one again, when it states something newer still; each change once."""
    store, heard = MemoryStore(), Heard()
    put(tmp_path, [chat(note("a", "old"), note("b", "two"), written=DAY + "01Z")], "a.json")
    async with running(notes_ingest(tmp_path, store, heard)):
        await until(lambda: _texts(store) == [(0, "old"), (1, "two")])
        put(tmp_path, [chat(note("a", "new"), written=DAY + "02Z")], "b.json")
        await until(lambda: _texts(store) == [(0, "new")])
        put(tmp_path, [chat(note("a", "newest"), written=DAY + "03Z")], "a.json")
        await until(lambda: _texts(store) == [(0, "newest")])
        put(tmp_path, [chat(note("a", "late"), written=DAY + "02Z")], "b.json")
        put(tmp_path, [chat(note("x", "else"), session="c9")], "c.json")
        await until(lambda: "else" in _by_text(store))
    assert _by_text(store)["newest"].revision == 3
    assert _by_text(store)["two"].deleted_at is not None
    assert [t for t in heard.texts() if t] == ["old", "two", "new", "newest", "else"]


async def test_a_message_that_is_refused_holds_up_nothing(tmp_path: Path) -> None:
    """It is a dead letter until it changes to something that the database takes."""
    store = Strict(lambda row: isinstance(row, Message) and row.text == "poison")
    put(tmp_path, chat(note("a", "one"), note("b", "poison"), note("c", "three")))
    async with notes_ingest(tmp_path, store) as river:
        await river.backfill()
        assert [letter.table for letter in river.dead_letters] == ["messages"]
        assert _texts(store) == [(0, "one"), (2, "three")]
        assert (await river.backfill()).changed == 0
        put(tmp_path, chat(note("a", "one"), note("b", "medicine"), note("c", "three")))
        await river.backfill()
        assert river.dead_letters == []
    assert _texts(store) == [(0, "one"), (1, "medicine"), (2, "three")]


async def test_a_file_written_in_pieces_is_read_when_it_is_whole(tmp_path: Path) -> None:
    """Truncated and written again, as most tools do it: nothing is lost in between."""
    store = MemoryStore()
    path = put(tmp_path, chat(note("a", "one"), note("b", "two")))
    async with running(notes_ingest(tmp_path, store)) as river:
        await until(lambda: len(_texts(store)) == 2)
        whole = data(chat(note("a", "one"), note("b", "two"), note("c", "three")))
        with path.open("wb") as file:
            for start in range(0, len(whole), 40):
                file.write(whole[start : start + 40])
                file.flush()
                await until(lambda: not river.health()["queue"])
        await until(lambda: len(_texts(store)) == 3)
        assert all(row.deleted_at is None for row in store.messages.values())
        assert {row.revision for row in store.messages.values()} == {1}


async def test_a_state_that_waits_for_the_store_gives_way_to_the_next(tmp_path: Path) -> None:
    """What could not be sent before the file changed is never sent in halves."""
    store = MemoryStore()
    path = put(tmp_path, chat(note("a", "one")))
    async with running(notes_ingest(tmp_path, store)):
        await until(lambda: len(_texts(store)) == 1)
        store.down = True
        for n in range(5):
            path.write_bytes(data(chat(note("a", f"state {n}"), note(f"n{n}", f"only {n}"))))
            await until(lambda: True)
        store.down = False
        await until(lambda: _texts(store) == [(0, "state 4"), (1, "only 4")])


async def test_a_snapshot_comes_from_the_file(tmp_path: Path) -> None:
    """Conversations and their last messages, as the file states them now."""
    store = MemoryStore()
    put(tmp_path, chat(note("a", "one"), note("b", "two"), note("c", "three"), title="T"))
    await read(tmp_path, store)
    async with notes_ingest(tmp_path, store, Heard()) as river:
        (row,) = await river.conversations()
        assert (row.title, row.message_count) == ("T", 3)
        assert [one.text for one in await river.messages(row.id, 2)] == ["two", "three"]


async def test_what_was_forgotten_does_not_come_back(tmp_path: Path) -> None:
    """Not by a change of its file either; and nothing of it is kept here."""
    store = MemoryStore()
    put(tmp_path, chat(note("a", "one")))
    await read(tmp_path, store)
    (conversation,) = store.conversations
    store.forget(conversation)
    put(tmp_path, chat(note("a", "one"), note("b", "two")))
    await read(tmp_path, store)
    assert store.messages == {}
    with sqlite3.connect(tmp_path / "state" / FILE_NAME) as db:
        assert db.execute("select count(*) from documents").fetchone() == (0,)
