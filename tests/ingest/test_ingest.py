"""Ingest as a whole, on real files: copies, subagents, rewriting, outages, replaced databases."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
import pytest

from conv_realtime.edges.checkpoints import Checkpoints
from conv_realtime.errors import ConfigError, MigrationError, SourceError, StoreError
from conv_realtime.ingest import Progress, Summary
from conv_realtime.models import Change, Conversation, Message, Row, Table
from conv_realtime.ports import KnownConversation
from conv_realtime.testing import MemoryStore
from tests.ingest.folding import IDENTITY
from tests.ingest.lines import SESSION, assistant, says, user, uuid
from tests.ingest.running import Heard
from tests.ingest.running import ingest as _ingest
from tests.ingest.running import running as _running
from tests.ingest.running import texts as _texts
from tests.ingest.running import until as _until
from tests.ingest.running import write as _file

OTHER = "99999999-2222-4333-8444-555555555555"


async def _backfill(folder: Path, store: MemoryStore, **settings: Any) -> Summary:
    async with _ingest(folder, store, **settings) as ingest:
        return await ingest.backfill()


# Backfill ----------------------------------------------------------------------------------


async def test_a_second_backfill_changes_no_row_and_does_not_read_on(tmp_path: Path) -> None:
    """What was judged and acknowledged is known by its size and time: its text is not read."""
    path, store = _file(tmp_path, user("q"), assistant("before", "m")), MemoryStore()
    os.utime(path, ns=(0, 0))
    first = await _backfill(tmp_path, store)
    assert (first.files, first.conversations, first.messages, first.changed) == (1, 1, 2, 4)
    path.write_bytes(path.read_bytes().replace(b"before", b"behind"))
    os.utime(path, ns=(0, 0))
    second = await _backfill(tmp_path, store)
    assert (second.files, second.messages, second.changed) == (1, 2, 0)
    assert _texts(store)[-1] == "answer before"


async def test_the_newest_files_are_read_first(tmp_path: Path) -> None:
    """What is going on now does not wait for last year's conversations."""
    store = MemoryStore()
    for at in (3, 1, 5, 2, 4):
        session = f"5e551011-0000-4000-8000-00000000000{at}"
        path = _file(tmp_path, user(at, sessionId=session), name=f"-p/{session}.jsonl")
        os.utime(path, (at, at))
    await _backfill(tmp_path, store, concurrency=1)
    read = [row.text for row in store.messages.values()]
    assert read == [f"prompt {at}" for at in (5, 4, 3, 2, 1)]


async def test_losing_the_state_directory_changes_no_row(tmp_path: Path) -> None:
    """Ids and revisions follow from the file, so everything is sent again in silence."""
    _file(tmp_path, user("q"), assistant("a", "m"))
    store = MemoryStore()
    await _backfill(tmp_path, store)
    again = await _backfill(tmp_path, store, state_dir=tmp_path / "other")
    assert again.changed == 0


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


class Slow(MemoryStore):
    """A store whose writes overlap, as those over a network do."""

    async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
        """Write after others had a turn."""
        await asyncio.sleep(0.001)
        return await super().write(table, rows, **hints)


async def test_rows_of_files_sent_at_the_same_time_are_all_counted(tmp_path: Path) -> None:
    """The number of changed rows is exact, whatever overlaps."""
    for number in range(12):
        session = uuid(f"session {number}")
        _file(tmp_path, user("q", session=session), name=f"-p/{session}.jsonl")
    store = Slow()
    summary = await _backfill(tmp_path, store)
    assert summary.changed == 12 + 12 + len(store.projects)


async def test_copies_are_named_and_written_once(tmp_path: Path) -> None:
    """Of several files with the same conversation the one named like it states it."""
    lines = [user("q"), assistant("a", "m")]
    owner = _file(tmp_path, *lines)
    copy = _file(tmp_path, lines[0], name="-p/backup/copy.jsonl")
    store = MemoryStore()
    summary = await _backfill(tmp_path, store)
    assert summary.files == 1
    assert [(skip.path, skip.reason) for skip in summary.skips] == [(str(copy), f"copy of {owner}")]
    assert _texts(store) == ["prompt q", "answer a"]


async def test_an_older_copy_alone_takes_nothing_back(tmp_path: Path) -> None:
    """A backup that is read where the original is not known changes no row."""
    lines = [user("q"), assistant("a", "m", says("one")), assistant("b", "m", says("two"))]
    _file(tmp_path, *lines)
    store = MemoryStore()
    await _backfill(tmp_path, store)
    before = dict(store.messages)
    _file(tmp_path / "elsewhere", *lines[:2], name="-p/copy.jsonl")
    summary = await _backfill(tmp_path / "elsewhere", store)
    assert (summary.changed, store.messages) == (0, before)


async def test_a_copy_that_grows_further_is_followed(tmp_path: Path) -> None:
    """A synchronised folder goes on where the original ended."""
    lines = [user("q"), assistant("a", "m")]
    _file(tmp_path, *lines)
    store = MemoryStore()
    await _backfill(tmp_path, store)
    _file(tmp_path, *lines, user("r"), name="-synced/copy.jsonl")
    await _backfill(tmp_path, store)
    assert _texts(store) == ["prompt q", "answer a", "prompt r"]
    assert all(row.deleted_at is None for row in store.messages.values())


async def test_a_first_line_is_read_before_its_newline_is_there(tmp_path: Path) -> None:
    """When the file has come to rest; no sweep has to come by."""
    store = MemoryStore()
    river = _ingest(tmp_path, store, rest_seconds=0.1, sweep_seconds=3600)
    async with _running(river) as ingest:
        await _until(lambda: ingest.caught_up)
        _file(tmp_path, user("only")[:-1])
        await _until(lambda: len(store.messages) == 1)


async def test_what_is_no_transcript_is_named(tmp_path: Path) -> None:
    """Another tool's files beside ours are skipped with a reason, never fatal."""
    other = _file(tmp_path, b'{"resourceSpans":[]}\n', name="x/spans.jsonl")
    torn = _file(tmp_path, user("q"), b"garbage\n", user("r")[:30])
    summary = await _backfill(tmp_path, MemoryStore())
    reasons = {(skip.path, skip.offset): skip.reason for skip in summary.skips}
    assert reasons == {
        (str(other), None): "not a transcript of a known assistant",
        (str(torn), len(user("q"))): "not JSON",
        (str(torn), len(user("q")) + 8): "incomplete last line",
    }


async def test_a_path_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    """A typing error is not taken for an empty folder."""
    async with _ingest(tmp_path, MemoryStore()) as ingest:
        with pytest.raises(SourceError, match="nowhere"):
            await ingest.backfill([tmp_path / "nowhere"])


async def test_progress_ends_at_the_whole(tmp_path: Path) -> None:
    """The last call says that every file and byte is done."""
    path = _file(tmp_path, user("q"))
    seen: list[Progress] = []
    async with _ingest(tmp_path, MemoryStore()) as ingest:
        await ingest.backfill(on_progress=seen.append)
    size = path.stat().st_size
    assert [(p.done_bytes, p.total_bytes, p.done_files, p.total_files) for p in seen] == [
        (size, size, 1, 1)
    ]


# Rewriting ---------------------------------------------------------------------------------


async def test_a_rewritten_file_takes_its_messages_back(tmp_path: Path) -> None:
    """R4: what is missing is marked deleted, what is new is added, what stays is not doubled."""
    store = MemoryStore()
    _file(tmp_path, user("q"), assistant("a", "m1"), user("r"))
    await _backfill(tmp_path, store)
    _file(tmp_path, user("q"), assistant("b", "m2"))
    await _backfill(tmp_path, store)
    assert _texts(store) == ["prompt q", "answer b"]
    gone = [row for row in store.messages.values() if row.deleted_at is not None]
    assert sorted(row.text for row in gone) == ["answer a", "prompt r"]
    (conversation,) = store.conversations.values()
    assert {row.revision for row in gone} < {conversation.revision} | {r.revision for r in gone}
    assert conversation.message_count == 2


async def test_a_file_rewritten_before_its_known_end_is_noticed_at_rest(tmp_path: Path) -> None:
    """What lies right before the position can be the same although the rest is not."""
    store = MemoryStore()
    same = assistant("a", "m1")
    _file(tmp_path, user("q", "one"), same)
    async with _ingest(tmp_path, store) as ingest:
        await ingest.backfill()
        _file(tmp_path, user("p", "two"), same, user("r"))
        await ingest.backfill()
    assert _texts(store) == ["two", "answer a", "prompt r"]


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
    _file(tmp_path, user("q"), user("r"))
    with pytest.raises(BaseExceptionGroup):
        await _backfill(tmp_path, store)
    assert _texts(store) == ["prompt q", "prompt r"]
    _file(tmp_path, user("q"), user("s"))
    await _backfill(tmp_path, store)
    assert _texts(store) == ["prompt q", "prompt s"]


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
    old = _file(tmp_path, user("q"), user("r"))
    end = old.stat().st_size
    await _backfill(tmp_path, store)
    _file(tmp_path, user("q"), user("s"))
    await _backfill(tmp_path, store)
    assert store.bases == [0, end]


async def test_an_unrelated_file_of_the_same_name_is_a_new_conversation(tmp_path: Path) -> None:
    """R5: nothing in common means another conversation, child of the old one, which stays."""
    store = MemoryStore()
    _file(tmp_path, user("q"), assistant("a", "m1"))
    await _backfill(tmp_path, store)
    _file(tmp_path, user("x"), assistant("y", "m9"), user("z"))
    await _backfill(tmp_path, store)
    old, new = sorted(store.conversations.values(), key=lambda row: row.message_count)
    assert (new.parent_id, new.session_id) == (old.id, SESSION)
    assert all(row.deleted_at is None for row in store.messages.values())
    assert len(store.messages) == 5
    lost = await _backfill(tmp_path, store, state_dir=tmp_path / "lost")
    assert (lost.changed, len(store.conversations)) == (0, 2)


async def test_an_emptied_or_deleted_file_deletes_nothing(tmp_path: Path) -> None:
    """R3: transcripts are cleaned up after 30 days; the rows are why people keep them."""
    store = MemoryStore()
    path = _file(tmp_path, user("q"))
    await _backfill(tmp_path, store)
    path.write_bytes(b"")
    await _backfill(tmp_path, store)
    path.unlink()
    await _backfill(tmp_path, store)
    assert _texts(store) == ["prompt q"]


# Live --------------------------------------------------------------------------------------


async def test_an_appended_line_reaches_sink_and_store(tmp_path: Path) -> None:
    """Also in a folder that is itself new, and a conversation comes before its messages."""
    store, heard = MemoryStore(), Heard()
    (tmp_path / "projects").mkdir()
    async with _running(_ingest(tmp_path, store, heard)):
        path = _file(tmp_path, user("q"), name=f"deep/er/still/{SESSION}.jsonl")
        await _until(lambda: store.messages)
        with path.open("ab") as file:
            file.write(assistant("a", "m"))
        await _until(lambda: len(store.messages) == 2)
    kinds = [(type(c.row).__name__, c.created) for c in heard.changes]
    assert kinds[:3] == [("Project", True), ("Conversation", True), ("Message", True)]
    assert kinds[-2:] == [("Message", True), ("Conversation", False)]
    assert heard.texts() == ["prompt q", "answer a"]
    assert (str(path), "modified", path.stat().st_size) in heard.files


async def test_the_sink_hears_while_the_store_is_away(tmp_path: Path) -> None:
    """Local listeners do not wait for the cloud, and the cloud gets everything when it is back."""
    store, heard = MemoryStore(), Heard()
    (tmp_path / "projects").mkdir()
    async with _running(_ingest(tmp_path, store, heard)) as ingest:
        store.down = True
        path = _file(tmp_path, user("q"))
        await _until(lambda: heard.texts() == ["prompt q"])
        with path.open("ab") as file:
            file.write(user("r"))
        await _until(lambda: heard.texts() == ["prompt q", "prompt r"])
        await _until(lambda: ingest.health()["last_error"] is not None)
        health = ingest.health()
        assert (health["queue"], store.messages) == (2, {})
        assert health["lag_seconds"] > 0
        store.down = False
        await _until(lambda: len(store.messages) == 2)
        await _until(lambda: ingest.health()["queue"] == 0)
        assert ingest.health()["last_error"] is None


async def test_an_outage_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One line when it begins and one when it ends, not one for each attempt of each file."""

    class Away(MemoryStore):
        refused = 0

        def _check(self, table: Table) -> None:
            self.refused += self.down
            super()._check(table)

    store = Away()
    store.down = True
    for number in range(3):
        _file(tmp_path, user(number, session=uuid(number)), name=f"-p/{uuid(number)}.jsonl")
    async with _running(_ingest(tmp_path, store)) as ingest:
        await _until(lambda: ingest.health()["queue"] == 3)
        await _until(lambda: store.refused > 6)
        store.down = False
        await _until(lambda: len(store.messages) == 3)
    told = [text for text in caplog.messages if text.startswith(("store: ", "the store "))]
    assert len(told) == 2
    assert told[0].endswith("ConnectError: the store is down; trying again until it answers")
    assert told[1] == "the store answers again"


async def test_thousands_of_new_files_ask_the_store_a_few_at_a_time(tmp_path: Path) -> None:
    """All at once they would wait for a connection until they time out, and ask again."""

    class Counting(MemoryStore):
        asking = most = 0

        async def known(self, conversations: Collection[UUID]) -> Mapping[UUID, KnownConversation]:
            self.asking += 1
            self.most = max(self.most, self.asking)
            await asyncio.sleep(0)
            self.asking -= 1
            return await super().known(conversations)

    store = Counting()
    (tmp_path / "projects").mkdir()
    async with _running(_ingest(tmp_path, store, concurrency=4)):
        for number in range(50):
            _file(tmp_path, user(number, session=uuid(number)), name=f"-p/{uuid(number)}.jsonl")
        await _until(lambda: len(store.messages) == 50)
    assert 1 < store.most <= 4


async def test_a_rewound_message_is_announced_as_deleted(tmp_path: Path) -> None:
    """Listeners learn of what was taken back once the file has come to rest."""
    store, heard = MemoryStore(), Heard()
    path = _file(tmp_path, user("q"), user("r"))
    async with _running(_ingest(tmp_path, store, heard)):
        await _until(lambda: len(store.messages) == 2)
        path.write_bytes(user("q") + user("s"))
        await _until(lambda: _texts(store) == ["prompt q", "prompt s"])
    deleted = [c.row for c in heard.changes if isinstance(c.row, Message) and c.row.deleted_at]
    assert len(deleted) == 1
    known = store.messages[deleted[0].id]
    assert (known.text, known.revision) == ("prompt r", deleted[0].revision)
    created = [c.row.text for c in heard.changes if isinstance(c.row, Message) and c.created]
    assert created == ["prompt q", "prompt r", "prompt s"]


async def test_what_only_listeners_had_is_taken_back_too(tmp_path: Path) -> None:
    """What was rewound while the store was away and busy with what was said before."""
    path, store, sink = _file(tmp_path, user("q")), Gate(), Heard()
    async with _running(_ingest(tmp_path, store, sink)):
        await _until(lambda: len(store.messages) == 1)
        store.open.clear()
        path.write_bytes(user("q") + assistant("a", "m"))
        await _until(lambda: "answer a" in sink.texts())
        path.write_bytes(user("q") + assistant("a", "m") + assistant("b", "n"))
        await _until(lambda: "answer b" in sink.texts())
        path.write_bytes(user("q"))
        store.open.set()
        await _until(lambda: len({c.row.id for c in sink.changes if _is_gone(c)}) == 2)
    assert len(store.messages) == 2, "one of them was never sent"
    assert _texts(store) == ["prompt q"]


async def test_what_comes_back_while_it_is_marked_deleted_stays(tmp_path: Path) -> None:
    """A response goes on just after a line of it was cut off; no revision of it falls."""
    lines = user("q"), assistant("a", "msg_1", says("one")), assistant("b", "msg_1", says("two"))
    path, store, sink = _file(tmp_path, *lines), MemoryStore(), Heard()
    mark, asked, allowed = store.mark_deleted, asyncio.Event(), asyncio.Event()

    async def wait(messages: Collection[UUID], revision: int, at: datetime) -> int:
        asked.set()
        await allowed.wait()
        return await mark(messages, revision, at)

    store.mark_deleted = wait  # type: ignore[method-assign]
    async with _running(_ingest(tmp_path, store, sink)) as ingest:
        await _until(lambda: _texts(store) == ["prompt q", "one\n\ntwo"])
        path.write_bytes(lines[0])
        await asked.wait()
        with path.open("ab") as file:
            file.write(lines[2])
        await _until(lambda: sink.texts()[-1] == "two")
        allowed.set()
        checkpoints = ingest._opened[0].shelf.checkpoints
        await _until(lambda: (kept := checkpoints.get(str(path))) and not kept.rewritten)
        await _until(lambda: _texts(store) == ["prompt q", "two"])
    told = [change.row for change in sink.changes if isinstance(change.row, Message)]
    answer = [row for row in told if row.role == "assistant" or row.deleted_at is not None]
    revisions = [row.revision for row in answer]
    assert revisions == sorted(revisions)
    assert answer[-1].text == "two"


async def test_what_was_taken_back_just_before_another_file_came_is_gone_too(
    tmp_path: Path,
) -> None:
    """From listeners and from the store, though the file never came to rest in between."""
    path, store, sink = _file(tmp_path, user("q"), user("r")), Gate(), Heard()
    async with _running(_ingest(tmp_path, store, sink)):
        await _until(lambda: len(store.messages) == 2)
        store.open.clear()
        path.write_bytes(user("q") + user("r") + assistant("a", "m"))
        await _until(lambda: "answer a" in sink.texts())
        path.write_bytes(user("q"))
        await _until(lambda: sink.texts().count("prompt q") == 2)
        path.write_bytes(user("another"))
        await _until(lambda: "prompt another" in sink.texts())
        store.open.set()
        await _until(lambda: len({c.row.id for c in sink.changes if _is_gone(c)}) == 2)
    assert _texts(store) == ["prompt q", "prompt another"]


def _is_gone(change: Change) -> bool:
    return isinstance(change.row, Message) and change.row.deleted_at is not None


async def test_a_snapshot_comes_from_the_files(tmp_path: Path) -> None:
    """Also for conversations that an earlier run has read, without reading them all again."""
    store = MemoryStore()
    _file(tmp_path, user("q"), user("r"), assistant("a", "m"))
    _file(tmp_path, user("x", session=OTHER, at=99), name=f"-p/{OTHER}.jsonl")
    await _backfill(tmp_path, store)
    async with _ingest(tmp_path, store, Heard()) as ingest:
        old, new = await ingest.transcripts.conversations()
        assert (old.session_id, new.session_id) == (SESSION, OTHER)
        messages = await ingest.transcripts.messages(old.id, 2)
        assert [row.text for row in messages] == ["prompt r", "answer a"]
        assert await ingest.transcripts.messages(old.id, 0) == []


async def test_a_file_that_vanished_has_an_empty_snapshot(tmp_path: Path) -> None:
    """The database still has it; the files do not."""
    store = MemoryStore()
    path = _file(tmp_path, user("q"))
    await _backfill(tmp_path, store)
    async with _ingest(tmp_path, store, Heard()) as ingest:
        (row,) = await ingest.transcripts.conversations()
        path.unlink()
        assert await ingest.transcripts.messages(row.id, 5) == []


# The database ------------------------------------------------------------------------------


async def test_what_was_acknowledged_just_before_a_crash_is_in_the_snapshot(
    tmp_path: Path,
) -> None:
    """The file never came to rest; the next run announces nothing of it, and shows it."""
    _file(tmp_path, user("q"), assistant("a", "m"))
    store = MemoryStore()
    async with _running(_ingest(tmp_path, store, rest_seconds=60.0)):
        await _until(lambda: len(store.messages) == 2)
        await _until(lambda: any(row.message_count for row in store.conversations.values()))
    async with _running(_ingest(tmp_path, store, Heard(), rest_seconds=60.0)) as ingest:
        (row,) = await ingest.transcripts.conversations()
        assert (row.title, row.message_count) == ("prompt q", 2)
        assert len(await ingest.transcripts.messages(row.id, 9)) == 2


async def test_a_later_part_that_was_told_as_the_first_is_taken_back(tmp_path: Path) -> None:
    """Without a checkpoint only the database knows that the file was another conversation once."""
    _file(tmp_path, user("q"), assistant("a", "m"))
    store = MemoryStore()
    await _backfill(tmp_path, store)
    _file(tmp_path, user("other"))
    await _backfill(tmp_path, store)
    first, second = (row.id for row in store.conversations.values())
    shutil.rmtree(tmp_path / "state")
    sink = Heard()
    async with _running(_ingest(tmp_path, store, sink)) as ingest:
        await _until(
            lambda: any(second == getattr(c.row, "conversation_id", 0) for c in sink.changes)
        )
        assert [row.id for row in await ingest.transcripts.conversations()] == [second]
    last: dict[UUID, Any] = {change.row.id: change.row for change in sink.changes}
    mistaken = [row for row in last.values() if getattr(row, "conversation_id", None) == first]
    assert mistaken and all(row.deleted_at for row in mistaken)
    assert last[first].deleted_at is not None


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_what_a_snapshot_went_without_is_told_when_it_is_there_again(
    tmp_path: Path, elsewhere: bool
) -> None:
    """A file that is away for a moment, or moved, is not missing for ever."""
    path, store, sink = _file(tmp_path, user("q")), MemoryStore(), Heard()
    async with _running(_ingest(tmp_path, store, sink)) as ingest:
        await _until(lambda: store.messages)
        await _until(lambda: sink.texts() == ["prompt q"])
        (row,) = await ingest.transcripts.conversations()
        away = path.rename(tmp_path / "away")
        assert await ingest.transcripts.messages(row.id, 9) == []
        back = tmp_path / "projects" / "-elsewhere" / path.name if elsewhere else path
        back.parent.mkdir(exist_ok=True)
        away.rename(back)
        await _until(lambda: sink.texts() == ["prompt q", "prompt q"])
        assert len(await ingest.transcripts.messages(row.id, 9)) == 1


async def test_a_snapshot_that_misses_a_file_on_its_way_back_is_made_up_for(
    tmp_path: Path,
) -> None:
    """It was sent from both places, so nothing is new where it is found again."""
    path, store, sink = _file(tmp_path, user("q")), MemoryStore(), Heard()
    place = tmp_path / "projects" / "-elsewhere" / path.name
    place.parent.mkdir()
    store.down = True
    async with _running(_ingest(tmp_path, store, sink)) as ingest:
        await _until(lambda: sink.texts() == ["prompt q"])
        path.rename(place)
        await _until(lambda: sink.texts() == ["prompt q"] * 2)
        store.down = False
        checkpoints = ingest._opened[0].shelf.checkpoints
        await _until(lambda: {str(path), str(place)} <= checkpoints.keys())
        await _until(lambda: ingest.health()["queue"] == 0)
        (row,) = await ingest.transcripts.conversations()
        place.rename(path)
        await _until(lambda: ingest._opened[0].shelf.book(str(place)).owner == str(path))
        assert await ingest.transcripts.messages(row.id, 9) == []
        await _until(lambda: sink.texts() == ["prompt q"] * 3)
        assert len(await ingest.transcripts.messages(row.id, 9)) == 1


async def test_what_moved_in_an_earlier_run_is_in_snapshots(tmp_path: Path) -> None:
    """A file goes on where it was moved to, and nothing of it is told again."""
    path, store, sink = _file(tmp_path, user("q")), MemoryStore(), Heard()
    place = tmp_path / "projects" / "-elsewhere" / path.name
    place.parent.mkdir()
    async with _running(_ingest(tmp_path, store, sink, sweep_seconds=0.1)) as ingest:
        checkpoints = ingest._opened[0].shelf.checkpoints
        await _until(lambda: str(path) in checkpoints and ingest.health()["queue"] == 0)
        path.rename(place)
        await _until(lambda: str(place) in checkpoints)
    async with _running(_ingest(tmp_path, store, sink)) as ingest:
        (row,) = await ingest.transcripts.conversations()
        rows = await ingest.transcripts.messages(row.id, 9)
    assert [one.text for one in rows] == sink.texts() == ["prompt q"]


async def test_a_copy_that_stated_it_once_has_no_messages_for_a_snapshot(tmp_path: Path) -> None:
    """What it states is a later part by now, and nobody remembers which."""
    store, sink = MemoryStore(), Heard()
    _file(tmp_path, user("q"))
    await _backfill(tmp_path, store)
    (earlier,) = store.conversations
    path = _file(tmp_path, user("x"), user("y"))
    await _backfill(tmp_path, store)
    path.unlink()
    _file(tmp_path, user("x"), user("z"), name=f"-q/{SESSION}.jsonl")
    await _backfill(tmp_path, store)
    _file(tmp_path, user("x"), user("y"))
    async with _running(_ingest(tmp_path, store, sink)) as ingest:
        assert await ingest.transcripts.messages(earlier, 9) == []


async def test_another_database_behind_the_address_gets_everything(tmp_path: Path) -> None:
    """After a reset the old checkpoints say nothing: no row is missing because of them."""
    _file(tmp_path, user("q"))
    await _backfill(tmp_path, MemoryStore())
    fresh = MemoryStore()
    assert (await _backfill(tmp_path, fresh)).changed == 3
    assert _texts(fresh) == ["prompt q"]


async def test_a_database_replaced_while_running_gets_everything(tmp_path: Path) -> None:
    """`supabase db reset` under a running ingest loses nothing either."""
    store = MemoryStore()
    _file(tmp_path, user("q"))
    async with _running(_ingest(tmp_path, store, sweep_seconds=0.05)):
        await _until(lambda: _texts(store) == ["prompt q"])
        store.__init__()  # type: ignore[misc]
        await _until(lambda: _texts(store) == ["prompt q"])


class Picky(MemoryStore):
    """A store that refuses rows for what they say."""

    async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
        """Refuse a whole request for one bad row, as PostgreSQL does."""
        if any(isinstance(row, Message) and "poison" in row.text for row in rows):
            raise StoreError(table, "22P05", "unsupported Unicode escape", retryable=False)
        return await super().write(table, rows, **hints)


async def test_a_row_that_is_refused_holds_up_nothing(tmp_path: Path) -> None:
    """It is narrowed down, noted as a dead letter, and the rest of its batch is written."""
    store = Picky()
    _file(tmp_path, *(user(n, "poison" if n == 5 else f"p{n}") for n in range(9)))
    async with _ingest(tmp_path, store) as ingest:
        await ingest.backfill()
        assert _texts(store) == [f"p{n}" for n in range(9) if n != 5]
        assert ingest.health()["dead_letters"] == 1
    with Checkpoints(tmp_path / "state", "Picky", f"{IDENTITY.owner_id} bench") as kept:
        (fault,) = kept.letters.faults.values()
    assert (fault.table, fault.code) == ("messages", "22P05")


class Bounded(MemoryStore):
    """A store that refuses conversations, and then their messages for having none."""

    attempts = 0

    async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
        """Refuse what PostgreSQL would, with its codes."""
        self.attempts += 1
        for row in rows:
            if isinstance(row, Conversation) and row.git_branch == "poison":
                raise StoreError(table, "23514", "check constraint", retryable=False)
            if isinstance(row, Message) and row.conversation_id not in self.conversations:
                raise StoreError(table, "23503", "missing parent", retryable=False)
        return await super().write(table, rows, **hints)


async def test_a_refused_conversation_is_not_sent_for_ever(tmp_path: Path) -> None:
    """Its messages are not taken for rows that the database lost; other files go on."""
    store = Bounded()
    _file(tmp_path, *(user(n, "p", gitBranch="poison") for n in range(3)))
    other = "22222222-2222-4222-8222-222222222222"
    _file(tmp_path, user("good", sessionId=other), name=f"-p/{other}.jsonl")
    async with asyncio.timeout(20), _ingest(tmp_path, store) as ingest:
        await ingest.backfill()
        assert _texts(store) == ["prompt good"]
        assert ingest.health()["dead_letters"] == 1
    assert store.attempts < 20


class Forgetful(MemoryStore):
    """A store that knows of parents, and can lose everything without a word."""

    async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
        """Refuse messages whose conversation is missing."""
        for row in rows:
            if isinstance(row, Message) and row.conversation_id not in self.conversations:
                raise StoreError(table, "23503", "missing parent", retryable=False)
        return await super().write(table, rows, **hints)


async def test_rows_that_the_database_lost_are_sent_again(tmp_path: Path) -> None:
    """Where a parent row is missing, the whole file is sent once more."""
    store = Forgetful()
    path = _file(tmp_path, user("q"))
    async with _running(_ingest(tmp_path, store)):
        await _until(lambda: _texts(store) == ["prompt q"])
        for table in (store.projects, store.conversations, store.messages):
            table.clear()
        with path.open("ab") as file:
            file.write(user("r"))
        await _until(lambda: _texts(store) == ["prompt q", "prompt r"])
    assert len(store.projects) == 1


class Unprepared(MemoryStore):
    """A database without our schema."""

    async def database(self) -> str:
        """Say what is missing."""
        raise MigrationError("schema", "is not in this database")

    async def known(self, conversations: Collection[UUID]) -> Mapping[UUID, KnownConversation]:
        """Never asked."""
        raise AssertionError


async def test_a_database_without_the_schema_is_refused_at_once(tmp_path: Path) -> None:
    """The user is told before anything is read."""
    with pytest.raises(MigrationError):
        await _backfill(tmp_path, Unprepared())


async def test_an_owner_must_be_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows without an owner would be nobody's: the error names the setting."""
    monkeypatch.delenv("CONV_REALTIME_OWNER_ID", raising=False)
    with pytest.raises(ConfigError, match="CONV_REALTIME_OWNER_ID"):
        await _backfill(tmp_path, MemoryStore(), owner_id=None)


async def test_inline_subagents_and_late_lines_of_a_response(tmp_path: Path) -> None:
    """Children are written beside their parent, and a late block revises its message once."""
    store = MemoryStore()
    path = _file(tmp_path, user("q"), user("s1", isSidechain=True), assistant("a", "m", says("x")))
    async with _running(_ingest(tmp_path, store)):
        await _until(lambda: len(store.messages) == 3)
        with path.open("ab") as file:
            file.write(user("s2", isSidechain=True, parentUuid=uuid("s1")))
            file.write(assistant("b", "m", says("y")))
        await _until(lambda: len(store.messages) == 4)
        await _until(lambda: "x\n\ny" in _texts(store))
    main, child = sorted(store.conversations.values(), key=lambda row: row.agent_id or "")
    assert (main.message_count, child.message_count, child.parent_id) == (2, 2, main.id)


async def test_a_folder_that_was_deleted_and_made_again_is_watched_again(tmp_path: Path) -> None:
    """A watch stays with the folder that is gone; without a new one only sweeps would see."""
    store = MemoryStore()
    path = _file(tmp_path, user("q"))
    async with _running(_ingest(tmp_path, store, sweep_seconds=3600)) as ingest:
        await _until(lambda: _texts(store) == ["prompt q"])
        shutil.rmtree(tmp_path / "projects")
        await _until(lambda: ingest.health()["watcher"] == "partial")
        _file(tmp_path, user("q"), user("r"))
        await _until(lambda: ingest.health()["watcher"] == "ok")
        with path.open("ab") as file:
            file.write(user("s"))
        await _until(lambda: _texts(store) == ["prompt q", "prompt r", "prompt s"])


async def test_a_folder_that_takes_the_place_of_another_is_watched(tmp_path: Path) -> None:
    """It was never missing, so only what it is tells that it is another one."""
    store = MemoryStore()
    _file(tmp_path, user("q"))
    async with _running(_ingest(tmp_path, store, sweep_seconds=3600)):
        await _until(lambda: len(store.messages) == 1)
        _file(tmp_path / "new", user("o", session=OTHER), name=f"-p/{OTHER}.jsonl")
        os.rename(tmp_path / "projects", tmp_path / "old")
        os.rename(tmp_path / "new" / "projects", tmp_path / "projects")
        await _until(lambda: len(store.messages) == 2)
        with (tmp_path / "projects" / f"-p/{OTHER}.jsonl").open("ab") as file:
            file.write(user("p", session=OTHER))
        await _until(lambda: len(store.messages) == 3)


async def test_a_users_key_writes_rows_of_that_user_alone(tmp_path: Path) -> None:
    """Told at once: the database would refuse every row for ever."""
    key = jwt.encode({"role": "authenticated", "sub": OTHER}, "s" * 32)
    with pytest.raises(ConfigError, match=OTHER) as refused:
        async with _ingest(tmp_path, MemoryStore(), supabase_key=key):
            pass
    assert refused.value.name == "CONV_REALTIME_OWNER_ID"


async def test_listeners_hear_while_the_schema_is_gone(tmp_path: Path) -> None:
    """Somebody at work on the database neither ends ingest nor stays unnoticed in its health."""

    class Bare(MemoryStore):
        bare = False

        async def database(self) -> str:
            if self.bare:
                raise MigrationError("schema", "is not in this database")
            return await super().database()

    store, heard = Bare(), Heard()
    (tmp_path / "projects").mkdir()
    async with _running(_ingest(tmp_path, store, heard, sweep_seconds=0.02)) as ingest:
        store.bare = True
        await _until(lambda: ingest.health()["last_error"] == "schema: is not in this database")
        _file(tmp_path, user("q"))
        await _until(lambda: heard.texts() == ["prompt q"])
        store.bare = False
        await _until(lambda: ingest.health()["last_error"] is None)


async def test_a_file_that_cannot_be_read_is_skipped_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once, and the others are read."""
    closed = _file(tmp_path, user("q"))
    _file(tmp_path, user("o", session=OTHER), name=f"-p/{OTHER}.jsonl")
    real_open = os.open

    def refusing(path: Any, *arguments: Any, **keywords: Any) -> int:
        if path == str(closed):  # root may read what is closed to others
            raise PermissionError(13, "Permission denied", path)
        return real_open(path, *arguments, **keywords)

    monkeypatch.setattr(os, "open", refusing)
    summary = await _backfill(tmp_path, MemoryStore())
    assert (summary.files, summary.messages) == (1, 1)
    assert [(skip.path, skip.reason) for skip in summary.skips] == [
        (str(closed), "Permission denied")
    ]
    assert len([text for text in caplog.messages if "Permission denied" in text]) == 1


async def test_a_refusal_is_told_once_and_waited_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A key that was revoked needs somebody: one line says so, and the rows wait in the files."""
    monkeypatch.setattr("conv_realtime.ingest.pace.LONGEST_DELAY", 0.01)

    class Refusing(MemoryStore):
        refused = 0

        async def write(
            self, table: Table, rows: Sequence[Row], *, history: bool = False, more: bool = False
        ) -> int:
            if self.refused < 20:
                self.refused += 1
                raise StoreError(table, "PGRST301", "No suitable key", retryable=False)
            return await super().write(table, rows, history=history, more=more)

    store = Refusing()
    _file(tmp_path, user("q"))
    async with _running(_ingest(tmp_path, store)):
        await _until(lambda: _texts(store) == ["prompt q"])
    assert len([text for text in caplog.messages if "No suitable key" in text]) == 1
