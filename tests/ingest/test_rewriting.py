"""Files that say something else than before: what they do not say any more is taken back."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from conv_realtime.edges.checkpoints import Checkpoints
from conv_realtime.models import Change, Conversation, Message, Row, Table
from conv_realtime.ports import KnownConversation
from conv_realtime.testing import MemoryStore
from tests.ingest.folding import IDENTITY
from tests.ingest.lines import SESSION, assistant, says, user
from tests.ingest.running import Heard, backfill, ingest, running, texts, until, write
from tests.ingest.watching import NEVER


async def test_a_rewritten_file_takes_its_messages_back(tmp_path: Path) -> None:
    """R4: what is missing is marked deleted, what is new is added, what stays is not doubled."""
    store = MemoryStore()
    write(tmp_path, user("q"), assistant("a", "m1"), user("r"))
    await backfill(tmp_path, store)
    write(tmp_path, user("q"), assistant("b", "m2"))
    await backfill(tmp_path, store)
    assert texts(store) == ["prompt q", "answer b"]
    gone = [row for row in store.messages.values() if row.deleted_at is not None]
    assert sorted(row.text for row in gone) == ["answer a", "prompt r"]
    (conversation,) = store.conversations.values()
    assert {row.revision for row in gone} < {conversation.revision} | {r.revision for r in gone}
    assert conversation.message_count == 2


async def test_a_file_rewritten_before_its_known_end_is_noticed_at_rest(tmp_path: Path) -> None:
    """What lies right before the position can be the same although the rest is not."""
    store = MemoryStore()
    same = assistant("a", "m1")
    write(tmp_path, user("q", "one"), same)
    async with ingest(tmp_path, store) as river:
        await river.backfill()
        write(tmp_path, user("p", "two"), same, user("r"))
        await river.backfill()
    assert texts(store) == ["two", "answer a", "prompt r"]


class KilledError(BaseException):
    """The process ends here."""


class LostAnswer(MemoryStore):
    """A store that takes messages once without anybody hearing of it."""

    lost = False

    async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
        """Write; the process ends before the first answer for messages arrives."""
        written = await super().write(table, rows, **hints)
        if table == "messages" and not self.lost:
            self.lost = True
            raise KilledError
        return written


async def test_rows_whose_acknowledgement_was_lost_are_taken_back(tmp_path: Path) -> None:
    """Killed after a write, then the file is rewritten: the database says what it has beyond."""
    store = LostAnswer()
    write(tmp_path, user("q"), user("r"))
    with pytest.raises(BaseExceptionGroup):
        await backfill(tmp_path, store)
    assert texts(store) == ["prompt q", "prompt r"]
    write(tmp_path, user("q"), user("s"))
    await backfill(tmp_path, store)
    assert texts(store) == ["prompt q", "prompt s"]


class Late(MemoryStore):
    """A store that does a request for messages only when the next one comes.

    Attributes:
        holds: it holds the next one back, and its process ends.
    """

    holds = False

    async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
        """Write, behind what is held back."""
        if table == "messages" and self.holds:
            self.holds, self._held = False, rows
            raise KilledError
        if table == "messages" and (held := vars(self).pop("_held", None)):
            await super().write(table, held)
        return await super().write(table, rows, **hints)


async def test_rows_that_arrive_after_their_process_has_ended_count_for_nothing(
    tmp_path: Path,
) -> None:
    """They were not there when the next process asked, and are above what it writes."""
    store = Late()
    path = write(tmp_path, user("q"), user("e"))
    await backfill(tmp_path, store)
    with path.open("ab") as file:
        file.write(user("s", "x" * 1000) + user("r", "before"))
    store.holds = True
    with pytest.raises(BaseExceptionGroup):
        await backfill(tmp_path, store)
    write(tmp_path, user("q"), user("r", "after"))
    await backfill(tmp_path, store)
    assert texts(store) == ["prompt q", "after"]
    for state in ("state", "lost"):
        assert (await backfill(tmp_path, store, state_dir=tmp_path / state)).changed == 0


class Witness(MemoryStore):
    """A store that looks at the checkpoints on disk whenever messages arrive."""

    def __init__(self, state: Path) -> None:
        super().__init__()
        self._state = state
        self.bases: list[int] = []

    async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
        """Note the base that is kept at this moment."""
        if table == "messages":
            whose = f"{IDENTITY.owner_id} {IDENTITY.machine}"
            with Checkpoints(self._state, "Witness", whose) as kept:
                self.bases += [checkpoint.base for checkpoint in kept.load().values()]
        return await super().write(table, rows, **hints)


async def test_a_new_base_is_kept_before_its_first_row_leaves(tmp_path: Path) -> None:
    """A restart counts on from it instead of raising every revision once more."""
    store = Witness(tmp_path / "state")
    old = write(tmp_path, user("q"), user("r"))
    end = old.stat().st_size
    await backfill(tmp_path, store)
    write(tmp_path, user("q"), user("s"))
    await backfill(tmp_path, store)
    assert store.bases == [0, end]


async def test_an_unrelated_file_of_the_same_name_is_a_new_conversation(tmp_path: Path) -> None:
    """R5: nothing in common means another conversation, child of the old one, which stays."""
    store = MemoryStore()
    write(tmp_path, user("q"), assistant("a", "m1"))
    await backfill(tmp_path, store)
    write(tmp_path, user("x"), assistant("y", "m9"), user("z"))
    await backfill(tmp_path, store)
    old, new = sorted(store.conversations.values(), key=lambda row: row.message_count)
    assert (new.parent_id, new.session_id) == (old.id, SESSION)
    assert all(row.deleted_at is None for row in store.messages.values())
    assert len(store.messages) == 5
    lost = await backfill(tmp_path, store, state_dir=tmp_path / "lost")
    assert (lost.changed, len(store.conversations)) == (0, 2)


async def test_nobody_waits_for_a_file_whose_later_part_is_asked_for(tmp_path: Path) -> None:
    """The database may be away then: what is said meanwhile is told, and who asks gets it."""
    store, heard = Leaving(), Heard()
    write(tmp_path, user("q"), assistant("a", "m1"))
    await backfill(tmp_path, store)
    write(tmp_path, user("x"))
    store.answers = 1
    river = ingest(tmp_path, store, heard, state_dir=tmp_path / "lost", sweep_seconds=NEVER)
    async with running(river):
        await asyncio.wait_for(store.asked.wait(), 60)
        await until(lambda: heard.texts() == ["prompt x"])
        (row,) = await river.conversations()
        async with asyncio.timeout(20):
            (message,) = await river.messages(row.id, 9)
        assert message.text == "prompt x"
        store.back.set()
        await until(lambda: "prompt x" in texts(store))
    assert len(store.conversations) == 2


class Leaving(MemoryStore):
    """A store that goes after some answers about what it has, until it is back."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = 1000
        self.asked, self.back = asyncio.Event(), asyncio.Event()

    async def known(self, conversations: Collection[UUID]) -> Mapping[UUID, KnownConversation]:
        """Answer, once it is back if it is away."""
        self.answers -= 1
        if self.answers < 0:
            self.asked.set()
            await self.back.wait()
        return await super().known(conversations)


async def test_an_emptied_or_deleted_file_deletes_nothing(tmp_path: Path) -> None:
    """R3: transcripts are cleaned up after 30 days; the rows are why people keep them."""
    store = MemoryStore()
    path = write(tmp_path, user("q"))
    await backfill(tmp_path, store)
    path.write_bytes(b"")
    await backfill(tmp_path, store)
    path.unlink()
    await backfill(tmp_path, store)
    assert texts(store) == ["prompt q"]


# What listeners are told ---------------------------------------------------------------------


async def test_a_rewound_message_is_announced_as_deleted(tmp_path: Path) -> None:
    """Listeners learn of what was taken back once the file has come to rest."""
    store, heard = MemoryStore(), Heard()
    path = write(tmp_path, user("q"), user("r"))
    async with running(ingest(tmp_path, store, heard)):
        await until(lambda: len(store.messages) == 2)
        path.write_bytes(user("q") + user("s"))
        await until(lambda: texts(store) == ["prompt q", "prompt s"])
    deleted = [c.row for c in heard.changes if isinstance(c.row, Message) and c.row.deleted_at]
    assert len(deleted) == 1
    known = store.messages[deleted[0].id]
    assert (known.text, known.revision) == ("prompt r", deleted[0].revision)
    created = [c.row.text for c in heard.changes if isinstance(c.row, Message) and c.created]
    assert created == ["prompt q", "prompt r", "prompt s"]
    talks = [c.created for c in heard.changes if isinstance(c.row, Conversation)]
    assert talks.count(True) == 1 and len(talks) > 1, "what is rewritten is no new conversation"


async def test_a_conversation_that_was_rewritten_while_nobody_watched_is_no_news(
    tmp_path: Path,
) -> None:
    """Its row is there since an earlier run: listeners hear of an update."""
    store, heard = MemoryStore(), Heard()
    write(tmp_path, user("q"), user("r"))
    await backfill(tmp_path, store)
    write(tmp_path, user("q"), user("s"))
    async with running(ingest(tmp_path, store, heard)):
        await until(lambda: texts(store) == ["prompt q", "prompt s"])
    talks = [c.created for c in heard.changes if isinstance(c.row, Conversation)]
    assert talks and not any(talks)


class Gate(MemoryStore):
    """A store that answers no write while it is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.open.set()

    async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
        """Wait, and write."""
        await self.open.wait()
        return await super().write(table, rows, **hints)


async def test_what_only_listeners_had_is_taken_back_too(tmp_path: Path) -> None:
    """What was rewound while the store was away and busy with what was said before."""
    path, store, sink = write(tmp_path, user("q")), Gate(), Heard()
    async with running(ingest(tmp_path, store, sink)):
        await until(lambda: len(store.messages) == 1)
        store.open.clear()
        path.write_bytes(user("q") + assistant("a", "m"))
        await until(lambda: "answer a" in sink.texts())
        path.write_bytes(user("q") + assistant("a", "m") + assistant("b", "n"))
        await until(lambda: "answer b" in sink.texts())
        path.write_bytes(user("q"))
        store.open.set()
        await until(lambda: len({c.row.id for c in sink.changes if _is_gone(c)}) == 2)
    assert len(store.messages) == 2, "one of them was never sent"
    assert texts(store) == ["prompt q"]


async def test_what_comes_back_while_it_is_marked_deleted_stays(tmp_path: Path) -> None:
    """A response goes on just after a line of it was cut off; no revision of it falls."""
    lines = user("q"), assistant("a", "msg_1", says("one")), assistant("b", "msg_1", says("two"))
    path, store, sink = write(tmp_path, *lines), MemoryStore(), Heard()
    mark, asked, allowed = store.mark_deleted, asyncio.Event(), asyncio.Event()

    async def wait(messages: Collection[UUID], revision: int, at: datetime) -> int:
        asked.set()
        await allowed.wait()
        return await mark(messages, revision, at)

    store.mark_deleted = wait  # type: ignore[method-assign]
    async with running(ingest(tmp_path, store, sink)) as river:
        await until(lambda: texts(store) == ["prompt q", "one\n\ntwo"])
        path.write_bytes(lines[0])
        await asked.wait()
        with path.open("ab") as file:
            file.write(lines[2])
        await until(lambda: sink.texts()[-1] == "two")
        allowed.set()
        checkpoints = river._opened[0].shelf.checkpoints
        await until(lambda: (kept := checkpoints.get(str(path))) and not kept.rewritten)
        await until(lambda: texts(store) == ["prompt q", "two"])
    told = [change.row for change in sink.changes if isinstance(change.row, Message)]
    answer = [row for row in told if row.role == "assistant" or row.deleted_at is not None]
    revisions = [row.revision for row in answer]
    assert revisions == sorted(revisions)
    assert answer[-1].text == "two"


async def test_what_was_taken_back_just_before_another_file_came_is_gone_too(
    tmp_path: Path,
) -> None:
    """From listeners and from the store, though the file never came to rest in between."""
    path, store, sink = write(tmp_path, user("q"), user("r")), Gate(), Heard()
    async with running(ingest(tmp_path, store, sink)):
        await until(lambda: len(store.messages) == 2)
        store.open.clear()
        path.write_bytes(user("q") + user("r") + assistant("a", "m"))
        await until(lambda: "answer a" in sink.texts())
        path.write_bytes(user("q"))
        await until(lambda: sink.texts().count("prompt q") == 2)
        path.write_bytes(user("another"))
        await until(lambda: "prompt another" in sink.texts())
        store.open.set()
        await until(lambda: len({c.row.id for c in sink.changes if _is_gone(c)}) == 2)
    assert texts(store) == ["prompt q", "prompt another"]


async def test_a_later_part_that_was_told_as_the_first_is_taken_back(tmp_path: Path) -> None:
    """Without a checkpoint only the database knows that the file was another conversation once."""
    write(tmp_path, user("q"), assistant("a", "m"))
    store = MemoryStore()
    await backfill(tmp_path, store)
    write(tmp_path, user("other"))
    await backfill(tmp_path, store)
    first, second = (row.id for row in store.conversations.values())
    shutil.rmtree(tmp_path / "state")
    sink = Heard()
    async with running(ingest(tmp_path, store, sink)) as river:
        await until(
            lambda: any(second == getattr(c.row, "conversation_id", 0) for c in sink.changes)
        )
        assert [row.id for row in await river.transcripts.conversations()] == [second]
    last: dict[UUID, Any] = {change.row.id: change.row for change in sink.changes}
    mistaken = [row for row in last.values() if getattr(row, "conversation_id", None) == first]
    assert mistaken and all(row.deleted_at for row in mistaken)
    assert last[first].deleted_at is not None


def _is_gone(change: Change) -> bool:
    return isinstance(change.row, Message) and change.row.deleted_at is not None
