"""Whose fault a refusal is: a row's, a request's, or everybody's; then nothing is parked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from conv_realtime.errors import StoreError
from conv_realtime.models import Conversation, Message, Row, Table
from conv_realtime.testing import MemoryStore
from tests.ingest.lines import OTHER, prompts, user, uuid
from tests.ingest.running import backfill, letters, running, texts, until
from tests.ingest.running import ingest as ingest_of
from tests.ingest.running import write as transcript
from tests.ingest.stores import Strict, on, saying


@pytest.mark.parametrize(
    "code", ["PGRST301", "42501", "PGRST205", "25006", "403", "P0001", "23502"]
)
async def test_a_refusal_of_everything_parks_nothing(
    tmp_path: Path, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad key, a missing right or table, a column that nobody fills: no row is to blame."""
    monkeypatch.setattr("conv_realtime.ingest.pace.LONGEST_DELAY", 0.01)
    monkeypatch.setattr("conv_realtime.ingest.sending.LATER_SECONDS", 0.01)
    store = Strict(lambda row: isinstance(row, Message), code)
    said = ["a", "b", "c", "d", "e"]
    transcript(tmp_path, *prompts(*said))
    async with running(ingest_of(tmp_path, store)) as ingest:
        await until(lambda: store.asked > 40)
        assert letters(ingest) == []
        await until(lambda: code in str(ingest.health()["last_error"]))
        assert ingest.health()["queue"] == 5
        store.poison = saying()
        await until(lambda: texts(store) == said)
    store.poison = lambda row: isinstance(row, Conversation)
    for number in range(8):
        session = uuid(number)
        transcript(tmp_path, *prompts("x", session=session), name=f"-p/{session}.jsonl")
    async with ingest_of(tmp_path, store) as ingest:
        with pytest.raises(StoreError, match=code):
            await ingest.backfill()
        # One conversation comes in a request of its own: a few of them are not everybody.
        assert len(letters(ingest)) <= (3 if code == "23502" else 0)


async def test_many_bad_rows_at_the_start_are_parked(tmp_path: Path) -> None:
    """As long as one of the batch is taken, none of them is everybody's fault."""
    said = [f"p{n}" for n in range(9)]
    store = Strict(saying(*said[:6]))
    transcript(tmp_path, *prompts(*said))
    async with ingest_of(tmp_path, store) as ingest:
        await ingest.backfill()
        assert len(letters(ingest)) == 6
    assert texts(store) == said[6:]


@pytest.mark.parametrize("code", ["403", "P0001"])
async def test_whose_fault_it_is_is_told_by_what_else_is_taken(tmp_path: Path, code: str) -> None:
    """A firewall or a trigger that dislikes one row is not taken for a bad key."""
    store = Strict(saying("bad"), code)
    transcript(tmp_path, *prompts("a", "b", "bad", "c"))
    async with ingest_of(tmp_path, store) as ingest:
        await ingest.backfill()
        (fault,) = letters(ingest)
    assert (fault.code, texts(store)) == (code, ["a", "b", "c"])


async def test_what_a_policy_refuses_holds_up_nobody(tmp_path: Path) -> None:
    """One of the project's own, for rows of a signed-in user: it says what a missing right does."""
    store = Strict(on("closed"), "42501")
    transcript(tmp_path, *prompts("a"))
    async with running(ingest_of(tmp_path, store, concurrency=2)) as ingest:
        await until(lambda: texts(store) == ["a"])
        for number in range(3):
            lines = prompts("no", session=uuid(number), gitBranch="closed")
            transcript(tmp_path, *lines, name=f"-p/{uuid(number)}.jsonl")
        await until(lambda: len(letters(ingest)) == 3)
        transcript(tmp_path, *prompts("b", session=OTHER), name=f"-p/{OTHER}.jsonl")
        await until(lambda: len(store.messages) == 2)
        assert {(one.table, one.code) for one in letters(ingest)} == {("conversations", "42501")}
        assert ingest.health()["last_error"] is None


async def test_a_store_that_turns_away_everybody_in_the_middle_parks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was taken a moment ago says nothing: it is asked again before a row is blamed."""
    monkeypatch.setattr("conv_realtime.ingest.sending.LATER_SECONDS", 0.01)
    store = Strict(saying(), "403")
    path = transcript(tmp_path, *prompts("a"))
    async with running(ingest_of(tmp_path, store)) as ingest:
        await until(lambda: texts(store) == ["a"])
        store.poison = lambda row: True
        path.write_bytes(path.read_bytes() + user("b", "b") + user("c", "c"))
        asked = store.asked
        await until(lambda: store.asked > asked + 20)
        assert letters(ingest) == []
        store.poison = saying()
        await until(lambda: texts(store) == ["a", "b", "c"])


async def test_who_may_add_rows_and_change_none_parks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That conversations were begun says nothing of whether they may be changed."""
    monkeypatch.setattr("conv_realtime.ingest.sending.LATER_SECONDS", 0.01)
    store = Strict(lambda row: isinstance(row, Conversation) and row.revision > 0, "42501")
    transcript(tmp_path, *prompts("a"))
    transcript(tmp_path, *prompts("b", session=OTHER), name=f"-p/{OTHER}.jsonl")
    async with ingest_of(tmp_path, store) as ingest:
        with pytest.raises(StoreError, match="42501"):
            await ingest.backfill()
        assert letters(ingest) == []
    assert len(store.conversations) == 2


async def test_a_row_that_fails_for_now_makes_way_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one sender, a file whose rows the server stumbles over does not stop the others."""
    monkeypatch.setattr("conv_realtime.ingest.pace.LONGEST_DELAY", 0.01)
    monkeypatch.setattr("conv_realtime.ingest.sending.LATER_SECONDS", 0.01)

    class Stumbling(MemoryStore):
        over = "bad"

        async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
            if any(saying(self.over)(row) for row in rows):
                raise StoreError(table, "XX000", "internal error", retryable=True)
            return await super().write(table, rows, **hints)

    store = Stumbling()
    transcript(tmp_path, *prompts("bad"))
    async with running(ingest_of(tmp_path, store, concurrency=2)) as ingest:
        for number in range(30):
            session = uuid(f"s{number}")
            lines = prompts(session, session=session)
            transcript(tmp_path, *lines, name=f"-p/{session}.jsonl")
        await until(lambda: len(store.messages) == 30)
        assert letters(ingest) == []
        store.over = "nothing"
        await until(lambda: len(store.messages) == 31)


async def test_a_request_that_takes_too_long_is_made_smaller(tmp_path: Path) -> None:
    """A statement timeout repeats for ever with the same rows; with fewer it does not."""

    class Slow(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.sizes: list[int] = []

        async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
            if len(rows) > 8:
                raise StoreError(table, "57014", "statement timeout", retryable=True)
            self.sizes.append(len(rows))
            return await super().write(table, rows, **hints)

    store = Slow()
    transcript(tmp_path, *prompts(*(f"p{n}" for n in range(50))))
    async with asyncio.timeout(20):
        await backfill(tmp_path, store)
    assert len(store.messages) == 50
    assert max(store.sizes) > 4


async def test_a_request_that_is_too_large_is_made_smaller(tmp_path: Path) -> None:
    """A proxy in front bounds bodies; what is above that alone is parked, the rest is written."""

    class Bounded(MemoryStore):
        async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
            if sum(len(row.text) for row in rows if isinstance(row, Message)) > 1000:
                raise StoreError(table, "413", "too large", retryable=False)
            return await super().write(table, rows, **hints)

    store = Bounded()
    said = [f"{n} " + "x" * (2000 if n == 5 else 300) for n in range(12)]
    transcript(tmp_path, *prompts(*said))
    async with ingest_of(tmp_path, store) as ingest:
        await ingest.backfill()
        assert [fault.code for fault in letters(ingest)] == ["413"]
    assert texts(store) == [text for text in said if len(text) < 1000]


async def test_what_is_twice_in_a_request_is_written(tmp_path: Path) -> None:
    """21000 is nobody's fault: each half of the request may have one of the two."""

    class Once(MemoryStore):
        async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
            if table == "messages" and len(rows) > 1:
                raise StoreError(table, "21000", "a second time", retryable=False)
            return await super().write(table, rows, **hints)

    store = Once()
    transcript(tmp_path, *prompts("a", "b", "c"))
    async with ingest_of(tmp_path, store) as ingest:
        await ingest.backfill()
        assert letters(ingest) == []
    assert texts(store) == ["a", "b", "c"]


async def test_a_server_that_says_when_is_not_asked_before(tmp_path: Path) -> None:
    """Not by anybody: the limit is everybody's."""

    class Limited(MemoryStore):
        until = 0.0
        early = 0
        limited = 0

        async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
            if table == "messages" and self.limited < 2:
                self.limited += 1
                self.until = max(self.until, time.monotonic() + 0.3)
                raise StoreError(table, "429", "slow down", retryable=True, retry_after=0.3)
            return await super().write(table, rows, **hints)

        def _check(self, table: Table) -> None:
            self.early += time.monotonic() < self.until

    store = Limited()
    transcript(tmp_path, *prompts("a", "b"))
    await backfill(tmp_path, store)
    assert texts(store) == ["a", "b"]
    assert (store.limited, store.early) == (2, 0)
