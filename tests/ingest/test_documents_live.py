"""Files that are rewritten whole while they are watched: each state is told as it comes."""

from __future__ import annotations

from pathlib import Path

from conv_realtime.models import Message
from conv_realtime.testing import MemoryStore
from tests.ingest.notes import DAY, by_text, chat, data, note, notes_ingest, put, read, texts
from tests.ingest.running import Heard, running, until
from tests.ingest.state_file import state_file
from tests.ingest.stores import Strict


async def test_each_state_is_told_as_it_comes(tmp_path: Path) -> None:
    """New, changed and deleted messages, once each; written over or moved into place."""
    store, heard = MemoryStore(), Heard()
    path = put(tmp_path, chat(note("a", "one")))
    async with running(notes_ingest(tmp_path, store, heard)):
        await until(lambda: texts(store) == [(0, "one")])
        path.write_bytes(data(chat(note("a", "one"), note("b", "two"))))
        await until(lambda: len(texts(store)) == 2)
        draft = tmp_path / "draft"
        draft.write_bytes(data(chat(note("a", "1"), note("c", "three"))))
        draft.replace(path)
        await until(lambda: texts(store) == [(0, "1"), (1, "three")])
        await until(lambda: by_text(store)["two"].deleted_at)
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
        await until(lambda: texts(store) == [(0, "old"), (1, "two")])
        put(tmp_path, [chat(note("a", "new"), written=DAY + "02Z")], "b.json")
        await until(lambda: texts(store) == [(0, "new")])
        put(tmp_path, [chat(note("a", "newest"), written=DAY + "03Z")], "a.json")
        await until(lambda: texts(store) == [(0, "newest")])
        put(tmp_path, [chat(note("a", "late"), written=DAY + "02Z")], "b.json")
        put(tmp_path, [chat(note("x", "else"), session="c9")], "c.json")
        await until(lambda: "else" in by_text(store))
    assert by_text(store)["newest"].revision == 3
    assert by_text(store)["two"].deleted_at is not None
    assert [t for t in heard.texts() if t] == ["old", "two", "new", "newest", "else"]


async def test_a_message_that_is_refused_holds_up_nothing(tmp_path: Path) -> None:
    """It is a dead letter until it changes to something that the database takes."""
    store = Strict(lambda row: isinstance(row, Message) and row.text == "poison")
    put(tmp_path, chat(note("a", "one"), note("b", "poison"), note("c", "three")))
    async with notes_ingest(tmp_path, store) as river:
        await river.backfill()
        assert [letter.table for letter in river.dead_letters] == ["messages"]
        assert texts(store) == [(0, "one"), (2, "three")]
        assert (await river.backfill()).changed == 0
        put(tmp_path, chat(note("a", "one"), note("b", "medicine"), note("c", "three")))
        await river.backfill()
        assert river.dead_letters == []
    assert texts(store) == [(0, "one"), (1, "medicine"), (2, "three")]


async def test_a_file_written_in_pieces_is_read_when_it_is_whole(tmp_path: Path) -> None:
    """Truncated and written again, as most tools do it: nothing is lost in between."""
    store = MemoryStore()
    path = put(tmp_path, chat(note("a", "one"), note("b", "two")))
    async with running(notes_ingest(tmp_path, store)) as river:
        await until(lambda: len(texts(store)) == 2)
        whole = data(chat(note("a", "one"), note("b", "two"), note("c", "three")))
        with path.open("wb") as file:
            for start in range(0, len(whole), 40):
                file.write(whole[start : start + 40])
                file.flush()
                await until(lambda: not river.health()["queue"])
        await until(lambda: len(texts(store)) == 3)
        assert all(row.deleted_at is None for row in store.messages.values())
        assert {row.revision for row in store.messages.values()} == {1}


async def test_a_state_that_waits_for_the_store_gives_way_to_the_next(tmp_path: Path) -> None:
    """What could not be sent before the file changed is never sent in halves."""
    store = MemoryStore()
    path = put(tmp_path, chat(note("a", "one")))
    async with running(notes_ingest(tmp_path, store)):
        await until(lambda: len(texts(store)) == 1)
        store.down = True
        for n in range(5):
            path.write_bytes(data(chat(note("a", f"state {n}"), note(f"n{n}", f"only {n}"))))
            await until(lambda: True)
        store.down = False
        await until(lambda: texts(store) == [(0, "state 4"), (1, "only 4")])


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
    with state_file(tmp_path) as db:
        assert db.execute("select count(*) from documents").fetchone() == (0,)
