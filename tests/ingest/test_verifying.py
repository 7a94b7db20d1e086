"""`verify` proves that files and database say the same, and repairs what does not."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from conv_realtime.ingest import Verified
from conv_realtime.models import Message
from conv_realtime.testing import MemoryStore
from tests.ingest.lines import OTHER, SESSION, assistant, user, uuid
from tests.ingest.running import ingest, running, texts, until
from tests.ingest.running import write as transcript
from tests.ingest.stores import Strict, saying

_AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    """A store for one transcript of four messages, which is not being written any more."""
    path = transcript(tmp_path, *(user(n, f"p{n}") for n in range(3)), assistant("a", "m"))
    os.utime(path, (0, 0))
    return MemoryStore()


async def _read(folder: Path, store: MemoryStore) -> None:
    async with ingest(folder, store) as river:
        await river.backfill()


async def _verified(folder: Path, store: MemoryStore, **settings: Any) -> list[Verified]:
    async with ingest(folder, store, **settings) as river:
        return [one async for one in river.verify()]


async def _repaired(folder: Path, store: MemoryStore, **settings: Any) -> Sequence[str]:
    """Repair what differs; return what was done."""
    async with ingest(folder, store, **settings) as river:
        found = [one async for one in river.verify()]
        return list((await river.repair(found)).values())


def _change(store: MemoryStore, text: str, /, **changes: Any) -> UUID:
    (row,) = (row for row in store.messages.values() if row.text == text)
    store.messages[row.id] = row.model_copy(update=changes)
    return row.id


async def test_what_was_read_is_equal(tmp_path: Path, store: MemoryStore) -> None:
    """Also seen from a state directory that knows nothing."""
    await _read(tmp_path, store)
    for folder in ("state", "empty"):
        (one,) = await _verified(tmp_path, store, state_dir=tmp_path / folder)
        assert (one.state, one.messages, one.differences) == ("equal", 4, ())


async def test_what_was_never_read_is_missing(tmp_path: Path, store: MemoryStore) -> None:
    """And verifying writes nothing."""
    (one,) = await _verified(tmp_path, store)
    assert one.state == "missing"
    assert store.conversations == {}


async def test_each_difference_is_said_in_words(tmp_path: Path, store: MemoryStore) -> None:
    """How many, and of what kind."""
    await _read(tmp_path, store)
    _change(store, "p0", text="other")
    _change(store, "p1", revision=1)
    del store.messages[_change(store, "p2")]
    _change(store, "answer a", deleted_at=_AT)
    stray = next(iter(store.messages.values())).model_copy(update={"id": uuid4()})
    store.messages[stray.id] = stray
    (row,) = store.conversations.values()
    store.conversations[row.id] = row.model_copy(update={"message_count": 9, "revision": 1})
    (one,) = await _verified(tmp_path, store)
    assert one.state == "different"
    assert set(one.differences) == {
        "1 message with another text",
        "1 message of a lower revision",
        "1 message missing",
        "1 message marked deleted, and the files state it",
        "1 message more than the files state",
        "its message_count is 9 and not 4",
        f"its revision is 1 and not {row.revision}",
    }


@pytest.mark.parametrize("state_dir", ["state", "empty"])
@pytest.mark.parametrize("spoil", ["text", "gone", "lower", "higher", "deleted", "totals", "all"])
async def test_a_repair_makes_it_equal(
    tmp_path: Path, store: MemoryStore, spoil: str, state_dir: str
) -> None:
    """Whatever somebody did to the rows, and whether or not this machine knows the file."""
    await _read(tmp_path, store)
    (row,) = store.conversations.values()
    match spoil:
        case "text":
            _change(store, "p0", text="other")
        case "gone":
            del store.messages[_change(store, "p1")]
        case "lower":
            _change(store, "p1", revision=1, text="old")
        case "higher":
            _change(store, "p1", revision=10**9, text="from the future")
        case "deleted":
            _change(store, "p1", revision=10**6, deleted_at=_AT)
        case "totals":
            higher = {"message_count": 9, "revision": row.revision + 7}
            store.conversations[row.id] = row.model_copy(update=higher)
        case "all":
            store.conversations.clear()
            store.messages.clear()
    settings: dict[str, Any] = {"state_dir": tmp_path / state_dir}
    (before,) = await _verified(tmp_path, store, **settings)
    assert before.state in ("different", "missing")
    (done,) = await _repaired(tmp_path, store, **settings)
    assert done.startswith("sent again")
    (after,) = await _verified(tmp_path, store, **settings)
    assert (after.state, after.differences) == ("equal", ())
    assert texts(store) == ["p0", "p1", "p2", "answer a"]


async def test_a_stray_message_is_taken_back_by_who_sent_the_file(
    tmp_path: Path, store: MemoryStore
) -> None:
    """Somebody who does not know the file may hold an older copy, and only says it."""
    await _read(tmp_path, store)
    stray = next(iter(store.messages.values())).model_copy(update={"id": uuid4(), "text": "stray"})
    store.messages[stray.id] = stray
    (done,) = await _repaired(tmp_path, store, state_dir=tmp_path / "empty")
    assert "1 more than the file states were left" in done
    assert "stray" in texts(store)
    (done,) = await _repaired(tmp_path, store)
    assert done.endswith("1 marked deleted")
    (after,) = await _verified(tmp_path, store)
    assert after.state == "equal"
    assert "stray" not in texts(store)


async def test_a_file_that_grows_is_looked_at_again(tmp_path: Path, store: MemoryStore) -> None:
    """A running ingest is a moment behind a file that is being written: no difference."""
    await _read(tmp_path, store)
    path = tmp_path / "projects" / "-p" / f"{SESSION}.jsonl"
    async with running(ingest(tmp_path, store)) as river:
        with path.open("ab") as file:
            file.write(user("late"))
        (one,) = await _verified(tmp_path, store)
        assert (one.state, one.messages) == ("equal", 5)
        await until(lambda: river.health()["queue"] == 0)


async def test_a_repair_beside_a_running_ingest_is_not_undone(
    tmp_path: Path, store: MemoryStore
) -> None:
    """It counts from a new base; the running one notices, and goes on from there."""
    path = tmp_path / "projects" / "-p" / f"{SESSION}.jsonl"
    async with running(ingest(tmp_path, store)) as river:
        await until(lambda: len(texts(store)) == 4)
        await until(lambda: river.health()["queue"] == 0)
        _change(store, "p1", revision=10**9, text="from the future")
        await _repaired(tmp_path, store)
        assert texts(store) == ["p0", "p1", "p2", "answer a"]
        with path.open("ab") as file:
            file.write(assistant("b", "m"))
        await until(lambda: texts(store)[-1] == "answer a\n\nanswer b")
        with path.open("ab") as file:
            file.write(user("later", "later"))
        await until(lambda: texts(store)[-1] == "later")
    os.utime(path, (0, 0))
    (one,) = await _verified(tmp_path, store)
    assert (one.state, one.differences) == ("equal", ())


async def test_a_refused_message_is_said_to_be(tmp_path: Path, store: MemoryStore) -> None:
    """It is a difference with a reason."""
    strict = Strict(saying("p1"))
    await _read(tmp_path, strict)
    (one,) = await _verified(tmp_path, strict)
    assert "1 message refused by the database" in one.differences


async def test_what_is_forgotten_is_as_it_should_be(tmp_path: Path, store: MemoryStore) -> None:
    """Nothing of it is sent again, by nobody."""
    await _read(tmp_path, store)
    (id,) = store.conversations
    store.forget(id)
    (one,) = await _verified(tmp_path, store)
    assert (one.state, one.differences) == ("forgotten", ())
    assert await _repaired(tmp_path, store) == []
    assert store.messages == {}


async def test_a_subagent_of_what_is_forgotten_is_forgotten_too(tmp_path: Path) -> None:
    """Also one that the database has never seen: nothing of it is sent, and nothing is missing."""
    path = transcript(tmp_path, user("q"))
    os.utime(path, (0, 0))
    store = MemoryStore()
    await _read(tmp_path, store)
    (id,) = store.conversations
    store.forget(id)
    path.write_bytes(path.read_bytes() + user("s", "secret", isSidechain=True))
    os.utime(path, (0, 0))
    for state in ("state", "empty"):
        settings: dict[str, Any] = {"state_dir": tmp_path / state}
        async with ingest(tmp_path, store, **settings) as river:
            await river.backfill()
        found = await _verified(tmp_path, store, **settings)
        assert [one.state for one in found] == ["forgotten", "forgotten"]
    assert (store.messages, store.conversations) == ({}, {})


async def test_copies_and_several_conversations_of_a_file(tmp_path: Path) -> None:
    """Each conversation once: subagents apart, copies not at all."""
    lines = [user("q"), user("s1", isSidechain=True), assistant("a", "m")]
    for path in (
        transcript(tmp_path, *lines),
        transcript(tmp_path, *lines, name="-p/backup/copy.jsonl"),
        transcript(tmp_path, user("o", session=OTHER), name=f"-p/{OTHER}.jsonl"),
    ):
        os.utime(path, (0, 0))
    store = MemoryStore()
    await _read(tmp_path, store)
    found = await _verified(tmp_path, store)
    assert {one.id for one in found} == store.conversations.keys()
    assert [one.state for one in found] == ["equal"] * 3


async def test_a_folder_that_cannot_be_listed_is_named(
    tmp_path: Path,
    store: MemoryStore,
    close: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its transcripts are not compared, so that nothing of them is wrong."""
    await _read(tmp_path, store)
    closed = tmp_path / "projects" / "-closed"
    closed.mkdir()
    close(closed)
    assert [one.state for one in await _verified(tmp_path, store)] == ["equal"]
    assert f"not compared: {closed}: Permission denied" in caplog.messages


async def test_a_long_history_is_compared_a_page_at_a_time(tmp_path: Path) -> None:
    """What differs among thousands is found; ids are asked for in groups."""
    paths = [
        transcript(tmp_path, user(n, session=uuid(n)), name=f"-p/{uuid(n)}.jsonl")
        for n in range(250)
    ]
    for path in paths:
        os.utime(path, (0, 0))
    store = MemoryStore()
    await _read(tmp_path, store)
    row = list(store.messages.values())[123]
    store.messages[row.id] = row.model_copy(update={"text": "other"})
    found = await _verified(tmp_path, store)
    assert len(found) == 250
    assert [one.id for one in found if one.state != "equal"] == [row.conversation_id]
    assert isinstance(row, Message)
