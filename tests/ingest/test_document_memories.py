"""What is remembered of files that are rewritten whole: killed, lost, damaged, or of a backup."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conv_realtime.testing import MemoryStore
from tests.ingest.notes import by_text, chat, note, notes_ingest, put, read, texts
from tests.ingest.running import rows_of
from tests.ingest.state_file import state_file


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
    assert texts(store) == [(place, f"{id}{n}") for place, (id, n) in enumerate(last.items())]
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
    assert texts(store) == [(0, "1"), (1, "three"), (2, "four")]
    assert by_text(store)["two"].deleted_at is not None
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
    assert texts(store) == [(0, "eins"), (1, "two"), (2, "three")]
    async with notes_ingest(tmp_path, store, state_dir=tmp_path / "newer") as river:
        (found,) = [one async for one in river.verify()]
        assert found.differences == ["1 message more than the files state"] or found.extra
    put(tmp_path, chat(note("a", "uno"), note("b", "two")))
    await read(tmp_path, store, state_dir=tmp_path / "newer")
    assert by_text(store)["uno"].revision == 3


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
    assert texts(store) == [(0, "ichi")]
    assert [row.title for row in store.conversations.values()] == ["New"]


async def test_a_state_directory_of_the_last_version_goes_on(tmp_path: Path) -> None:
    """It had no documents: the database is asked, and nothing is written anew."""
    store = MemoryStore()
    put(tmp_path, chat(note("a", "one")))
    await read(tmp_path, store)
    with state_file(tmp_path) as db:
        db.execute("drop table documents")
        db.execute("drop index shown")
        for column in ("project", "revision"):
            db.execute(f"alter table conversations drop column {column}")
        db.execute("pragma user_version = 4")
    assert (await read(tmp_path, store)).changed == 0
    put(tmp_path, chat(note("a", "one"), note("b", "two")))
    await read(tmp_path, store)
    assert texts(store) == [(0, "one"), (1, "two")]


async def test_what_is_kept_may_be_damaged_while_it_is_used(tmp_path: Path) -> None:
    """The database is asked, and what changed is sent."""
    store = MemoryStore()
    put(tmp_path, chat(note("a", "one"), note("b", "two")))
    await read(tmp_path, store)
    async with notes_ingest(tmp_path, store) as river:
        with state_file(tmp_path) as db:
            db.execute("drop table documents")
        put(tmp_path, chat(note("a", "uno"), note("b", "two")))
        await river.backfill()
    assert texts(store) == [(0, "uno"), (1, "two")]


async def test_what_is_kept_says_nothing_of_contents(tmp_path: Path) -> None:
    """Digests and ids lie in the state directory, no text."""
    put(tmp_path, chat(note("a", "a very private sentence")))
    await read(tmp_path, MemoryStore())
    with state_file(tmp_path) as db:
        kept = db.execute("select * from documents").fetchall()
    assert len(kept) == 1 and b"private" not in json.dumps(kept, default=str).encode()


async def test_verify_and_repair(tmp_path: Path) -> None:
    """A row that somebody changed is found and put right, also under a revision above ours."""
    store = MemoryStore()
    put(tmp_path, chat(note("a", "one"), note("b", "two")))
    await read(tmp_path, store)
    async with notes_ingest(tmp_path, store) as river:
        assert [one.state async for one in river.verify()] == ["equal"]
        row = by_text(store)["one"]
        store.messages[row.id] = row.model_copy(update={"text": "forged", "revision": 40})
        found = [one async for one in river.verify()]
        assert [one.state for one in found] == ["different"]
        await river.repair(found)
        assert [one.state async for one in river.verify()] == ["equal"]
    assert by_text(store)["one"].revision == 41
    put(tmp_path, chat(note("a", "1"), note("b", "two")))
    await read(tmp_path, store)
    assert by_text(store)["1"].revision == 42


async def test_a_database_that_lost_everything_gets_it_again(tmp_path: Path) -> None:
    """`retry`, `verify` and a database behind the same address that is empty."""
    store = MemoryStore()
    put(tmp_path, chat(note("a", "one"), note("b", "two")))
    await read(tmp_path, store)
    before = rows_of(store)
    store.messages.clear()
    store.conversations.clear()
    async with notes_ingest(tmp_path, store) as river:
        found = [one async for one in river.verify()]
        assert [one.state for one in found] == ["missing"]
        await river.repair(found)
    assert rows_of(store) == before
    other = MemoryStore()
    await read(tmp_path, other)
    assert rows_of(other) == before
