"""OpenCode's database at a start: what changed meanwhile is read, nothing else is lost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conv_realtime.errors import StoreError
from conv_realtime.ingest import Ingest, Summary
from conv_realtime.ingest.tender import Tender
from conv_realtime.models import Row, Table, conversation_id
from conv_realtime.testing import MemoryStore
from tests.ingest.folding import IDENTITY
from tests.ingest.running import Heard, running, until
from tests.ingest.running import ingest as ingest_of
from tests.ingest.stores import Strict
from tests.opencode import NOON, Writer, converse

SESSIONS = 5
_HOUR_MS = 3_600_000


def ingest(folder: Path, store: Any, sink: Heard | None = None, **settings: Any) -> Ingest:
    return ingest_of(folder, store, sink, paths=[_database(folder)], **settings)


def _database(folder: Path) -> Path:
    return folder / "opencode" / "opencode.db"


def _writer(folder: Path) -> Writer:
    return Writer(_database(folder))


def _read_sessions(river: Ingest, folder: Path) -> set[str]:
    """Gives the sessions that an ingest has read, of those that there are."""
    book = river._desk.shelf.book(str(_database(folder)))  # type: ignore[union-attr]
    return set(book.follower.transcript.conversations)  # type: ignore[union-attr, arg-type]


async def _start(folder: Path, store: MemoryStore, **settings: Any) -> tuple[Summary, set[str]]:
    """Reads once, as a process of its own would; gives what that came to, and what was read."""
    async with ingest(folder, store, **settings) as river:
        summary = await river.backfill()
        return summary, _read_sessions(river, folder)


def _id(session: str) -> Any:
    return conversation_id(IDENTITY.owner_id, "opencode", IDENTITY.machine, session)


def _texts(store: MemoryStore, session: str) -> list[str]:
    rows = [row for row in store.messages.values() if row.conversation_id == _id(session)]
    return [row.text for row in sorted(rows, key=lambda row: row.seq) if row.deleted_at is None]


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folds stay when everything is sent, so that one can see what was read."""
    monkeypatch.setattr(Tender, "let_go", lambda tender, path: None)


@pytest.fixture
def store() -> MemoryStore:
    """A store that has what `sent` has written."""
    return MemoryStore()


@pytest.fixture
async def sent(tmp_path: Path, store: MemoryStore) -> Path:
    """A folder with some sessions that were read and sent by an earlier process."""
    with _writer(tmp_path) as writer:
        for number in range(SESSIONS):
            converse(writer, f"ses_{number}")
    _, read = await _start(tmp_path, store)
    assert len(read) == SESSIONS
    return tmp_path


async def test_a_start_reads_only_what_changed(sent: Path, store: MemoryStore) -> None:
    """And says of all of it what there is; a session that came meanwhile is one of them."""
    summary, read = await _start(sent, store)
    assert (read, summary.changed) == (set(), 0)
    with _writer(sent) as writer:
        writer._now = NOON + 10 * _HOUR_MS
        writer.part("prt_z", "msg_ses_2_1", "ses_2", type="text", text="And the beans?")
        converse(writer, "ses_new", step=1)
    summary, read = await _start(sent, store)
    assert read == {"ses_2", "ses_new"}
    assert (summary.conversations, summary.messages) == (SESSIONS + 1, 2 * SESSIONS + 1)
    assert _texts(store, "ses_2")[0] == "Which roses are dry?\n\nAnd the beans?"
    assert (await _start(sent, store))[1] == set()


async def test_a_part_alone_is_noticed_however_old_its_session_is(
    sent: Path, store: MemoryStore
) -> None:
    """While it is watched, only parts of the last hour's sessions are looked at."""
    with _writer(sent) as writer:
        writer._now = NOON + 10 * _HOUR_MS
        converse(writer, "ses_new")
    await _start(sent, store)
    with _writer(sent) as writer:
        writer._now = NOON + _HOUR_MS
        writer.part("prt_z", "msg_ses_1_2", "ses_1", type="text", text="It rained.")
    assert (await _start(sent, store))[1] == {"ses_1"}
    assert _texts(store, "ses_1")[1] == "Those in bed 3.\n\nIt rained."


class Limited(MemoryStore):
    """A store that refuses everybody after some writes."""

    left = 10_000

    async def write(
        self, table: Table, rows: Sequence[Row], *, history: bool = False, more: bool = False
    ) -> int:
        """Write as long as it is allowed."""
        if self.left <= 0:
            raise StoreError(table, "PGRST301", "no", retryable=False)
        self.left -= 1
        return await super().write(table, rows, history=history, more=more)


async def test_what_was_not_acknowledged_is_read_again(tmp_path: Path) -> None:
    """A store that goes away in the middle has some sessions; the next start reads the others."""
    store = Limited()
    with _writer(tmp_path) as writer:
        for number in range(SESSIONS):
            converse(writer, f"ses_{number}")
    store.left = 8
    with pytest.raises(StoreError):
        await _start(tmp_path, store, batch_rows=2)
    store.left = 10_000
    await _start(tmp_path, store, batch_rows=2)
    assert len(store.messages) == 2 * SESSIONS
    async with ingest(tmp_path, store) as river:
        assert {one.state async for one in river.verify()} == {"equal"}


async def test_a_database_from_a_backup_says_what_it_says(tmp_path: Path) -> None:
    """Its marks are those that were judged; what was sent since, or in part, is taken back."""
    store = Limited()
    with _writer(tmp_path) as writer:
        converse(writer)
    await _start(tmp_path, store)
    backup = _database(tmp_path).read_bytes()
    with _writer(tmp_path) as writer:
        writer._now = NOON + _HOUR_MS
        writer.part("prt_z", "msg_ses_1_2", "ses_1", type="text", text="It rained.")
    store.left = 2
    with pytest.raises(StoreError):
        await _start(tmp_path, store)
    assert _texts(store, "ses_1")[1] == "Those in bed 3.\n\nIt rained."
    store.left = 10_000
    _database(tmp_path).write_bytes(backup)
    await _start(tmp_path, store)
    assert _texts(store, "ses_1")[1] == "Those in bed 3."


async def test_everything_is_verified(sent: Path, store: MemoryStore) -> None:
    """Also what a start leaves unread; and what differs is repaired."""
    async with ingest(sent, store) as river:
        await river.backfill()
        assert [one.state async for one in river.verify()] == ["equal"] * SESSIONS
        lost = next(row for row in store.messages.values() if row.conversation_id == _id("ses_3"))
        del store.messages[lost.id]
        found = [one async for one in river.verify()]
        assert [one.id for one in found if one.state == "different"] == [_id("ses_3")]
        await river.repair(found)
    assert lost.id in store.messages


async def test_a_snapshot_reads_the_one_session_that_is_asked_for(
    sent: Path, store: MemoryStore
) -> None:
    """All are named; the messages of one cost reading that one."""
    async with running(ingest(sent, store, Heard())) as river:
        await until(lambda: river.caught_up)
        assert _read_sessions(river, sent) == set()
        assert len(await river.conversations()) == SESSIONS
        rows = await river.messages(_id("ses_4"), 9)
        assert [row.text for row in rows] == ["Which roses are dry?", "Those in bed 3."]
        assert _read_sessions(river, sent) == {"ses_4"}


async def test_secrets_that_were_found_before_are_counted(
    tmp_path: Path, store: MemoryStore
) -> None:
    """Those of sessions that are not read again as well."""
    with _writer(tmp_path) as writer:
        for name in ("ses_a", "ses_b"):
            converse(writer, name, step=1)
            key = f"ghp_{name[-1] * 6}Y5fV2mQ8sK1xW9zT4cR7bN0aLd3eHj"
            writer.part(f"prt_{name}", f"msg_{name}_1", name, type="text", text=key)
    first, _ = await _start(tmp_path, store)
    with _writer(tmp_path) as writer:
        writer._now = NOON + _HOUR_MS
        writer.part("prt_z", "msg_ses_a_1", "ses_a", type="text", text="more")
    again, read = await _start(tmp_path, store)
    assert read == {"ses_a"}
    assert first.redacted == again.redacted and first.redacted.total() == 2


async def test_rows_that_the_database_lost_are_sent_again(sent: Path, store: MemoryStore) -> None:
    """Of all sessions, whichever told of it: a parent that is missing shows that it lost them."""
    forgetful = Strict()
    await _start(sent, forgetful)
    for table in (forgetful.projects, forgetful.conversations, forgetful.messages):
        table.clear()
    with _writer(sent) as writer:
        writer._now = NOON + _HOUR_MS
        writer.part("prt_z", "msg_ses_2_1", "ses_2", type="text", text="And the beans?")
    await _start(sent, forgetful)
    assert len(forgetful.conversations) == SESSIONS
    assert len(forgetful.messages) == 2 * SESSIONS


async def test_two_changes_within_a_millisecond_are_both_seen(tmp_path: Path) -> None:
    """The second one has the same marks as the first: what is that new is looked at once more."""
    store = MemoryStore()
    with _writer(tmp_path) as writer:
        converse(writer, step=1)
        writer.part("prt_x", "msg_ses_1_1", "ses_1", type="text", text="?")
        async with running(ingest(tmp_path, store, sweep_seconds=0.2)):
            await until(lambda: len(store.messages) == 1)
            moment = time.time_ns() // 10**6
            for said in ("One.", "Two."):
                writer._now = moment - 1000
                writer.part("prt_x", "msg_ses_1_1", "ses_1", type="text", text=said)
                await until(partial(_ends_with, store, said))


def _ends_with(store: MemoryStore, said: str) -> bool:
    return _texts(store, "ses_1")[0].endswith(said)
