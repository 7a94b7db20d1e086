"""Small batches of several files go to the database together; each file is answered for itself."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from conv_realtime.errors import StoreError
from conv_realtime.ingest.desk import SMALL_BATCHES
from conv_realtime.ingest.joint import Joint
from conv_realtime.models import Conversation, Message, Row, Table, is_beginning
from conv_realtime.ports import KnownConversation
from conv_realtime.testing import MemoryStore
from tests.ingest.lines import OTHER, assistant, user, uuid
from tests.ingest.running import (
    backfill,
    ingest,
    letters,
    rows_of,
    running,
    texts,
    until,
    write,
)
from tests.ingest.stores import Strict, saying

FILES = 40


def _joint(writes: Writes) -> Joint[int, bool]:
    """Gives what joins sizes, up to a hundred."""
    return Joint(writes, lambda size: size / 100)


class Writes:
    """What a joint writes with.

    Attributes:
        count, most: writes that were begun, and those at the same time.
        open: set while writes are answered.
        error: raised by each instead.
    """

    def __init__(self) -> None:
        self.count = self.at_work = self.most = 0
        self.open = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, sizes: Sequence[int]) -> bool:
        """Write when it is open."""
        self.count += 1
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        try:
            await self.open.wait()
            if self.error is not None:
                raise self.error
        finally:
            self.at_work -= 1
        return True


async def _three_waiting(
    writes: Writes, joint: Joint[int, bool]
) -> list[asyncio.Task[bool | None]]:
    """Has two writes under way, and three batches wait behind them; gives the tasks of all five."""
    tasks = [asyncio.create_task(joint.send(1)) for _ in range(5)]
    await until(lambda: writes.at_work == 2)
    return tasks


async def test_what_waits_is_written_together() -> None:
    """The first ones at once, and all others as one when there is room."""
    writes = Writes()
    tasks = await _three_waiting(writes, _joint(writes))
    writes.open.set()
    assert await asyncio.gather(*tasks) == [True] * 5
    assert (writes.count, writes.most) == (3, 2)


async def test_one_request_has_its_limits() -> None:
    """What is more than it takes waits for the next one."""
    writes = Writes()
    joint = _joint(writes)
    tasks = [asyncio.create_task(joint.send(40)) for _ in range(8)]
    await until(lambda: writes.at_work == 2)
    writes.open.set()
    assert await asyncio.gather(*tasks) == [True] * 8
    assert writes.count == 2 + 3


async def test_who_is_cancelled_while_it_waits_is_not_written() -> None:
    """The others are."""
    writes = Writes()
    joint = _joint(writes)
    tasks = await _three_waiting(writes, joint)
    for task in tasks[2:]:
        task.cancel()
    await asyncio.wait(tasks[2:])
    writes.open.set()
    assert await asyncio.gather(*tasks[:2]) == [True] * 2
    assert writes.count == 2
    assert await joint.send(1)


async def test_who_is_cancelled_while_it_writes_leaves_the_others_to_themselves() -> None:
    """They know that nothing was taken, and nobody waits for ever."""
    writes = Writes()
    joint = _joint(writes)
    tasks = await _three_waiting(writes, joint)
    tasks[0].cancel()
    await until(lambda: writes.count == 3)  # the third, with two others
    tasks[2].cancel()
    assert await asyncio.gather(*tasks[3:]) == [None] * 2
    writes.open.set()
    assert await tasks[1] and await joint.send(1)


async def test_an_error_is_its_writers_and_the_others_try_by_themselves() -> None:
    """Whatever it is."""
    writes = Writes()
    tasks = await _three_waiting(writes, _joint(writes))
    writes.error = OSError("no")
    writes.open.set()
    with pytest.raises(OSError, match="no"):
        await tasks[2]
    assert await asyncio.gather(*tasks[3:]) == [None] * 2
    assert [type(task.exception()) for task in tasks[:2]] == [OSError] * 2


def _messages(rows: Sequence[Row]) -> list[Message]:
    return [row for row in rows if isinstance(row, Message)]


def _short(folder: Path) -> list[str]:
    """Writes short transcripts; gives what they say, sorted."""
    for number in range(FILES):
        session = uuid(number)
        lines = user(f"q{number}", session=session), assistant(f"a{number}", "m", session=session)
        write(folder, *lines, name=f"-p/{session}.jsonl")
    return sorted(f"{said}{number}" for said in ("prompt q", "answer a") for number in range(FILES))


async def test_short_transcripts_are_sent_together(tmp_path: Path) -> None:
    """Instead of with three requests for each, and each row is counted once."""

    class Gated(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.open = asyncio.Event()
            self.beginnings: list[int] = []

        async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
            if all(map(is_beginning, rows)):
                self.beginnings.append(len(rows))
                await self.open.wait()
            return await super().write(table, rows, **hints)

    store, said = Gated(), _short(tmp_path)
    async with ingest(tmp_path, store) as river:
        backfilling = asyncio.create_task(river.backfill())
        await until(lambda: len(store.beginnings) == 2)
        assert river._desk is not None
        joint = river._desk.beginnings
        await until(lambda: len(joint._waiting) == FILES - 2)
        store.open.set()
        summary = await backfilling
    assert store.beginnings == [1, 1, FILES - 2]
    assert sorted(texts(store)) == said
    assert (summary.files, summary.messages) == (FILES, 2 * FILES)
    assert summary.changed == 3 * FILES + len(store.projects)
    assert (await backfill(tmp_path, store)).changed == 0


class Asked(MemoryStore):
    """Says what it has when it is `open`; notes of how many conversations it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.questions: list[int] = []

    async def known(self, conversations: Collection[UUID]) -> Mapping[UUID, KnownConversation]:
        """Note the question."""
        self.questions.append(len(conversations))
        await self.open.wait()
        return await super().known(conversations)


async def test_short_transcripts_are_asked_about_together(tmp_path: Path) -> None:
    """Without the state directory, or after an outage, which leaves it open who was begun."""
    store, said = Asked(), _short(tmp_path)
    await backfill(tmp_path, store)
    before = rows_of(store)
    shutil.rmtree(tmp_path / "state")
    async with ingest(tmp_path, store) as river:
        backfilling = asyncio.create_task(river.backfill())
        assert river._desk is not None
        joint = river._desk.questions
        await until(lambda: sum(store.questions) + len(joint._waiting) == FILES)
        assert len(store.questions) == 2
        store.open.set()
        assert (await backfilling).changed == 0
    assert len(store.questions) == 3
    assert rows_of(store) == before and sorted(texts(store)) == said


async def test_news_waits_for_no_question_about_history(tmp_path: Path) -> None:
    """A new conversation is there while thousands of old ones are asked about."""
    store = Asked()
    _short(tmp_path)
    await backfill(tmp_path, store)
    shutil.rmtree(tmp_path / "state")
    async with running(ingest(tmp_path, store)) as river:
        assert river._desk is not None
        joint = river._desk.questions
        await until(lambda: sum(store.questions) + len(joint._waiting) == FILES)
        now = datetime.now(UTC).isoformat()
        write(tmp_path, user("now", session=OTHER, timestamp=now), name=f"-p/{OTHER}.jsonl")
        await until(lambda: "prompt now" in texts(store))
        assert len(store.questions) == 2
        store.open.set()


async def test_a_refused_row_among_others_is_its_own_files(tmp_path: Path) -> None:
    """The letter names it and its file, and all others are taken."""
    store, said = Strict(saying("prompt q7")), _short(tmp_path)
    async with ingest(tmp_path, store) as river:
        await river.backfill()
        (letter,) = letters(river)
        assert letter.path.endswith(f"{uuid(7)}.jsonl") and letter.table == "messages"
        assert river.readings()["rows_refused"] == 1
    assert sorted(texts(store)) == [text for text in said if text != "prompt q7"]


async def test_parents_that_were_lost_come_again_for_each(tmp_path: Path) -> None:
    """The database was emptied behind what was begun together."""

    class Losing(MemoryStore):
        lost = False

        def _is_orphan(self, row: Row) -> bool:
            if isinstance(row, Message):
                return row.conversation_id not in self.conversations
            return isinstance(row, Conversation) and row.project_id not in self.projects

        async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
            if table == "messages" and not self.lost:
                self.lost = True
                self.projects.clear()
                self.conversations.clear()
            if any(map(self._is_orphan, rows)):
                raise StoreError(table, "23503", "missing parent", retryable=False)
            return await super().write(table, rows, **hints)

    store, said = Losing(), _short(tmp_path)
    await backfill(tmp_path, store)
    assert sorted(texts(store)) == said
    assert len(store.conversations) == FILES and len(store.projects) == 1


async def test_an_outage_in_the_middle_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Answers that are lost, too."""

    class Flaky(MemoryStore):
        requests = failures = 0

        async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
            self.requests += 1
            written = await super().write(table, rows, **hints)
            if self.requests % 5 == 0:
                self.failures += 1
                raise StoreError(table, "ReadError", "the answer was lost", retryable=True)
            return written

    store, said = Flaky(), _short(tmp_path)
    await backfill(tmp_path, store)
    assert sorted(texts(store)) == said
    assert store.failures


async def test_what_fails_for_a_moment_is_sent_together_again(tmp_path: Path) -> None:
    """One lost request is one more, and not one for each file of it."""

    class Stumbling(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.open = asyncio.Event()
            self.files: list[int] = []

        async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
            if table == "messages":
                self.files.append(len({row.conversation_id for row in _messages(rows)}))
                await self.open.wait()
                if len(self.files) == 3:
                    raise StoreError(table, "503", "busy", retryable=True)
            return await super().write(table, rows, **hints)

    store, said = Stumbling(), _short(tmp_path)
    async with ingest(tmp_path, store) as river:
        backfilling = asyncio.create_task(river.backfill())
        assert river._desk is not None
        joint = river._desk.histories
        await until(lambda: sum(store.files) + len(joint._waiting) == FILES)
        store.open.set()
        await backfilling
    first, second, *more = store.files
    assert more == [FILES - first - second] * 2
    assert sorted(texts(store)) == said


async def test_news_is_sent_by_itself(tmp_path: Path) -> None:
    """It waits for nobody, and is told to whoever listens to the database."""

    class Noting(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.news: list[int] = []

        async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
            if table == "messages" and not hints["history"]:
                self.news.append(len({row.id for row in rows}))
            return await super().write(table, rows, **hints)

    store, now = Noting(), datetime.now(UTC).isoformat()
    (tmp_path / "projects").mkdir()
    # Fast enough: what Realtime does not carry is written as history.
    async with running(ingest(tmp_path, store, realtime_messages_per_second=10_000)):
        for number in range(8):
            session = uuid(number)
            write(tmp_path, user("q", session=session, timestamp=now), name=f"-p/{session}.jsonl")
        await until(lambda: len(store.messages) == 8)
    assert store.news == [1] * 8


async def test_news_waits_for_no_history(tmp_path: Path) -> None:
    """However many short transcripts wait for a store that takes its time over old ones."""

    class Slow(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.open = asyncio.Event()

        async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
            if hints["history"]:
                await self.open.wait()
            return await super().write(table, rows, **hints)

    store, old = Slow(), SMALL_BATCHES + 10
    for number in range(old):
        write(tmp_path, user("q", session=uuid(number)), name=f"-p/{uuid(number)}.jsonl")
    async with running(ingest(tmp_path, store)) as river:
        assert river._desk is not None
        joint = river._desk.beginnings
        await until(lambda: len(joint._waiting) == SMALL_BATCHES - 2)
        now = datetime.now(UTC).isoformat()
        write(tmp_path, user("now", session=OTHER, timestamp=now), name=f"-p/{OTHER}.jsonl")
        await until(lambda: store.messages)
        assert texts(store) == ["prompt now"]
        store.open.set()
        await until(lambda: len(store.messages) == old + 1)
