"""A file that no checkpoint speaks for: the database mostly has nothing of it, but may."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from uuid import UUID

import pytest

from conv_realtime.errors import StoreError
from conv_realtime.ingest.sender import UNITS_A_MESSAGE
from conv_realtime.models import Conversation, Row, Table
from conv_realtime.ports import KnownConversation
from conv_realtime.testing import MemoryStore
from tests.ingest.lines import OTHER, SESSION, assistant, user
from tests.ingest.running import backfill, ingest, letters, running, texts, until, write
from tests.ingest.stores import Strict, on


class Asked(MemoryStore):
    """A store that counts: who asks what it has, and how often each conversation is begun.

    Attributes:
        loses: how many answers to come are lost, though rows are written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.questions = self.loses = 0
        self.begun: list[UUID] = []

    async def known(self, conversations: Collection[UUID]) -> Mapping[UUID, KnownConversation]:
        """Count the question."""
        self.questions += 1
        return await super().known(conversations)

    async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
        """Count conversations without messages."""
        self.begun += [row.id for row in rows if isinstance(row, Conversation) and not row.revision]
        written = await super().write(table, rows, **hints)
        if self.loses and table == "conversations":
            self.loses -= 1
            raise StoreError(table, "ConnectError", "the answer was lost", retryable=True)
        return written


async def test_a_new_file_is_begun_instead_of_asked_about(tmp_path: Path) -> None:
    """Its conversation is written first, once, and whether that is news says what was there."""
    store = Asked()
    write(tmp_path, user("q"), assistant("a", "m"))
    write(tmp_path, user("r", session=OTHER), name=f"-p/{OTHER}.jsonl")
    summary = await backfill(tmp_path, store)
    assert (summary.messages, summary.changed, store.questions) == (3, 6, 0)
    assert sorted(store.begun) == sorted(store.conversations)


async def test_one_that_the_database_has_is_asked_about(tmp_path: Path) -> None:
    """Without its state directory a machine sends nothing again, and counts on from there."""
    store = Asked()
    write(tmp_path, user("q"), assistant("a", "m"))
    await backfill(tmp_path, store)
    write(tmp_path, user("q", "other words"))  # of a revision beyond the bytes of the file
    await backfill(tmp_path, store)
    before = dict(store.messages)
    highest = max(one.revision for one in before.values())
    shutil.rmtree(tmp_path / "state")
    store.questions = 0
    summary = await backfill(tmp_path, store)
    assert (summary.changed, store.questions) == (0, 1)
    assert store.messages == before
    async with running(ingest(tmp_path, store)):
        with (tmp_path / "projects" / "-p" / f"{SESSION}.jsonl").open("ab") as file:
            file.write(user("s"))
        await until(lambda: len(texts(store)) == 2)
    assert max(one.revision for one in store.messages.values()) > highest


async def test_one_that_was_begun_and_went_on_is_asked_about(tmp_path: Path) -> None:
    """What it begins with is not what it began with then: still the database had it already."""

    class Dying(Asked):
        async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
            if any(isinstance(row, Conversation) and row.revision for row in rows):
                raise RuntimeError("the process dies before its totals")
            return await super().write(table, rows, **hints)

    store = Dying()
    write(tmp_path, user("p", "long " * 100), user("q"))
    with pytest.raises(ExceptionGroup):
        await backfill(tmp_path, store)
    shutil.rmtree(tmp_path / "state")
    write(tmp_path, user("q", "other words"), user("r"))
    after = Asked()
    after.__dict__.update(vars(store))
    await backfill(tmp_path, after)
    assert after.questions == 1
    assert "other words" in texts(after)


async def test_a_beginning_whose_answer_is_lost_is_asked_about(tmp_path: Path) -> None:
    """Nobody knows then whose it is; everything is written once all the same."""
    store = Asked()
    store.loses = 1
    write(tmp_path, user("q"), assistant("a", "m"))
    summary = await backfill(tmp_path, store)
    assert (summary.changed, store.questions) == (4, 1)
    assert sorted(texts(store)) == ["answer a", "prompt q"]


async def test_what_was_begun_is_counted_once_for_realtime(tmp_path: Path) -> None:
    """Its beginning, its message and its totals are all that a minute may tell."""

    class Telling(Asked):
        def __init__(self) -> None:
            super().__init__()
            self.told: list[Table] = []

        async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
            self.told += [] if hints["history"] or not rows else [table]
            return await super().write(table, rows, **hints)

    store = Telling()
    write(tmp_path, user("q"))
    enough = {"live_window": 1e9, "realtime_messages_per_second": 3 * UNITS_A_MESSAGE / 60}
    await backfill(tmp_path, store, **enough)
    assert store.told == ["projects", "conversations", "messages", "conversations"]


async def test_a_file_of_several_conversations_is_asked_about(tmp_path: Path) -> None:
    """Some of them may be there: which, only the database knows."""
    store = Asked()
    write(tmp_path, user("q"), user("s", isSidechain=True))
    await backfill(tmp_path, store)
    assert (len(store.conversations), store.questions) == (2, 1)


async def test_a_refused_beginning_is_judged_once(tmp_path: Path) -> None:
    """By its first batch, as any row is: one letter, and others are taken."""
    store = Strict(on("bad"))
    write(tmp_path, user("q", gitBranch="bad"))
    write(tmp_path, user("r", session=OTHER), name=f"-p/{OTHER}.jsonl")
    async with ingest(tmp_path, store) as river:
        await river.backfill()
        assert [fault.table for fault in letters(river)] == ["conversations"]
        assert river.readings()["rows_refused"] == 2  # its beginning, and its totals
    assert texts(store) == ["prompt r"]


async def test_what_was_begun_and_is_gone_is_begun_again(tmp_path: Path) -> None:
    """The database may lose a conversation before its first message comes."""

    class Losing(Asked):
        async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
            if table == "messages" and not self.messages and len(self.begun) == 1:
                self.conversations.clear()
            if table == "messages" and not self.conversations:
                raise StoreError(table, "23503", "missing parent", retryable=False)
            return await super().write(table, rows, **hints)

    store = Losing()
    write(tmp_path, user("q"))
    await backfill(tmp_path, store)
    assert (texts(store), len(store.begun)) == (["prompt q"], 2)
