"""OpenCode's database, read while it writes: what changed in it is sent, and nothing is left."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from conv_realtime.ingest import Ingest, Summary
from conv_realtime.ingest.tender import Tender
from conv_realtime.models import conversation_id
from conv_realtime.testing import MemoryStore
from tests.ingest.folding import IDENTITY
from tests.ingest.running import Heard, running, until
from tests.opencode import Writer, converse


def _ingest(folder: Path, store: Any, sink: Any = None, **settings: Any) -> Ingest:
    values: dict[str, Any] = {
        "state_dir": folder / "state", "owner_id": IDENTITY.owner_id, "machine": "m",
        "paths": [folder / "opencode" / "opencode.db"], "rest_seconds": 0.05, **settings,
    }  # fmt: skip
    return Ingest(store=store, sink=sink, **values)


async def _read(folder: Path, store: MemoryStore) -> Summary:
    async with _ingest(folder, store) as river:
        return await river.backfill()


def _writer(folder: Path) -> Writer:
    return Writer(folder / "opencode" / "opencode.db")


def _live(store: MemoryStore) -> list[tuple[str, str]]:
    rows = [row for row in store.messages.values() if row.deleted_at is None]
    return [(row.role, row.text) for row in sorted(rows, key=lambda row: row.seq)]


async def test_a_session_has_what_its_rows_say(tmp_path: Path) -> None:
    """Title, place, model, tokens and cost; a response with its calls and their results."""
    store = MemoryStore()
    with _writer(tmp_path) as writer:
        converse(writer)
        summary = await _read(tmp_path, store)
    (row,) = store.conversations.values()
    assert (row.source, row.session_id, row.title) == ("opencode", "ses_1", "Roses")
    assert (row.cwd, row.project_name, row.model) == ("/work/garden", "garden", "gpt-test")
    assert (row.message_count, row.tool_usage_count, row.activity) == (2, 1, "waiting")
    assert (row.input_tokens, row.cache_read_tokens, row.reasoning_tokens) == (100, 50, 5)
    assert row.metadata == {"cost_usd": 0.0125}
    assert _live(store) == [("user", "Which roses are dry?"), ("assistant", "Those in bed 3.")]
    answer = next(m for m in store.messages.values() if m.role == "assistant")
    assert [b["type"] for b in answer.content] == ["thinking", "tool_use", "tool_result", "text"]
    assert (summary.messages, summary.skipped) == (2, 0)


@pytest.mark.parametrize("kind", ["New", "Child"])
async def test_a_session_without_a_title_has_its_prompt_for_one(tmp_path: Path, kind: str) -> None:
    """What stands there until a model makes one is none; the same words of a person are one."""
    store = MemoryStore()
    with _writer(tmp_path) as writer:
        converse(writer)
        for title, shown in [
            (f"{kind} session - 2026-03-04T05:06:07.089Z", "Which roses are dry?"),
            (f"{kind} session - roses", f"{kind} session - roses"),
        ]:
            writer.session("ses_1", title=title)
            await _read(tmp_path, store)
            assert [row.title for row in store.conversations.values()] == [shown]


@pytest.mark.parametrize(
    ("error", "status"), [("MessageAbortedError", "active"), ("ProviderAuthError", "error")]
)
async def test_an_answer_that_a_person_ended_is_no_error(
    tmp_path: Path, error: str, status: str
) -> None:
    """It is their turn in any case; any other error is one."""
    store = MemoryStore()
    with _writer(tmp_path) as writer:
        converse(writer, step=1)
        writer.message("msg_9", "ses_1", "assistant", error={"name": error, "data": {}})
        await _read(tmp_path, store)
    (row,) = store.conversations.values()
    assert (row.status, row.activity) == (status, "waiting")


@pytest.mark.parametrize(
    ("tool", "activity"), [("question", "waiting"), ("plan_exit", "waiting"), ("list", "working")]
)
async def test_a_question_is_the_persons_turn_until_it_is_answered(
    tmp_path: Path, tool: str, activity: str
) -> None:
    """A response is not completed before; any other tool is work."""
    store = MemoryStore()
    call = {"type": "tool", "callID": "call_ses_1", "tool": tool}
    with _writer(tmp_path) as writer:
        converse(writer, step=2)
        for state, expected in [
            ({"status": "running", "input": {}}, activity),
            ({"status": "completed", "input": {}, "output": "Red"}, "working"),
        ]:
            writer.part("prt_ses_1_3", "msg_ses_1_2", "ses_1", **call, state=state)
            await _read(tmp_path, store)
            assert [row.activity for row in store.conversations.values()] == [expected]


async def test_any_growth_ends_in_the_rows_of_one_read(tmp_path: Path) -> None:
    """Also by a new process for each step; read again, nothing changes."""
    once = MemoryStore()
    with _writer(tmp_path / "once") as writer:
        converse(writer)
        await _read(tmp_path / "once", once)
    grown = MemoryStore()
    with _writer(tmp_path) as writer:
        for step in range(1, 5):
            converse(writer, step=step)
            await _read(tmp_path, grown)
        assert (await _read(tmp_path, grown)).changed == 0
    assert _live(grown) == _live(once)
    (one,), (other,) = grown.conversations.values(), once.conversations.values()
    left = {"revision", "updated_at", "created_at", "started_at"}
    assert one.model_dump(exclude=left) == other.model_dump(exclude=left)


async def test_what_is_reverted_or_deleted_is_taken_back(tmp_path: Path) -> None:
    """An undone revert brings it back; a deleted session stays."""
    store = MemoryStore()
    with _writer(tmp_path) as writer:
        converse(writer)
        await _read(tmp_path, store)
        writer.session("ses_1", revert=json.dumps({"messageID": "msg_ses_1_2"}))
        await _read(tmp_path, store)
        assert _live(store) == [("user", "Which roses are dry?")]
        writer.session("ses_1", revert=None)
        await _read(tmp_path, store)
        assert len(_live(store)) == 2
        writer.delete("message", "msg_ses_1_2")
        await _read(tmp_path, store)
        assert _live(store) == [("user", "Which roses are dry?")]
        writer.delete("session", "ses_1")
        await _read(tmp_path, store)
    assert _live(store) == [("user", "Which roses are dry?")]


async def test_a_subagents_session_names_its_parent(tmp_path: Path) -> None:
    """It is a conversation of its own below that one."""
    store = MemoryStore()
    with _writer(tmp_path) as writer:
        converse(writer)
        converse(writer, "ses_2")
        writer.session("ses_2", parent_id="ses_1")
        await _read(tmp_path, store)
    rows = {row.session_id: row for row in store.conversations.values()}
    expected = conversation_id(IDENTITY.owner_id, "opencode", "m", "ses_1")
    assert rows["ses_2"].parent_id == rows["ses_1"].id == expected


async def test_changes_are_told_as_they_are_written(tmp_path: Path) -> None:
    """They lie in the log beside the database, whose own file does not change."""
    store, heard = MemoryStore(), Heard()
    with _writer(tmp_path) as writer:
        converse(writer, step=1)
        async with running(_ingest(tmp_path, store, heard, sweep_seconds=600)):
            await until(lambda: len(_live(store)) == 1)
            before = os.stat(tmp_path / "opencode" / "opencode.db").st_mtime_ns
            for step in (2, 3, 4):
                converse(writer, step=step)
            await until(lambda: ("assistant", "Those in bed 3.") in _live(store))
            assert os.stat(tmp_path / "opencode" / "opencode.db").st_mtime_ns == before
            converse(writer, "ses_2", step=1)
            await until(lambda: len(store.conversations) == 2)
    assert [row for row in heard.texts() if row][-1] == "Which roses are dry?"


async def test_only_sessions_that_changed_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many others there are."""
    monkeypatch.setattr(Tender, "let_go", lambda tender, path: None)
    store = MemoryStore()
    with _writer(tmp_path) as writer:
        for number in range(20):
            converse(writer, f"ses_{number}")
        async with running(_ingest(tmp_path, store)) as river:
            await until(lambda: river.caught_up)
            book = river._desk.shelf.book(str(tmp_path / "opencode" / "opencode.db"))  # type: ignore[union-attr]
            folds = dict(book.follower.transcript.conversations)  # type: ignore[union-attr]
            converse(writer, "ses_7")
            now = book.follower.transcript.conversations  # type: ignore[union-attr]
            await until(lambda: any(now[name] is not folds[name] for name in folds))
    assert [name for name in folds if now[name] is not folds[name]] == ["ses_7"]


async def test_nothing_is_left_beside_a_database_that_nobody_has_open(tmp_path: Path) -> None:
    """Reading it makes no file; and one that is no database is told."""
    store = MemoryStore()
    with _writer(tmp_path) as writer:
        converse(writer)
    await _read(tmp_path, store)
    assert len(_live(store)) == 2
    assert os.listdir(tmp_path / "opencode") == ["opencode.db"]
    path = tmp_path / "opencode" / "opencode.db"
    path.write_bytes(path.read_bytes()[:3000])
    summary = await _read(tmp_path, store)
    assert (summary.skipped, summary.changed) == (1, 0)
    assert len(_live(store)) == 2


async def test_without_a_state_directory_equal_rows_are_silent(tmp_path: Path) -> None:
    """As with every other format."""
    store = MemoryStore()
    with _writer(tmp_path) as writer:
        converse(writer, step=2)
        await _read(tmp_path, store)
        converse(writer)
        await _read(tmp_path, store)
        async with _ingest(tmp_path, store, state_dir=tmp_path / "new") as river:
            assert (await river.backfill()).changed == 0
            assert [one.state async for one in river.verify()] == ["equal"]


_SPOILT = {
    "a message that is no JSON": (
        "update message set data = '{nope' where id = 'msg_ses_1_1'",
        ["rows of session ses_1 that cannot be read: 1"], ["", "Those in bed 3."],
    ),
    "parts that are lists or bytes": (
        "update part set data = iif(id < 'prt_ses_1_3', '[1]', x'ff') where id < 'prt_ses_1_4'",
        ["rows of session ses_1 that cannot be read: 3"], ["Those in bed 3."],
    ),
    "times that are none": (
        "update message set time_created = 'x', time_updated = -1e300; update session set"
        " time_updated = x'ff', time_created = 9e99",
        [], ["Which roses are dry?", "Those in bed 3."],
    ),
    "a session below itself": (
        "update session set parent_id = id", [], ["Which roses are dry?", "Those in bed 3."],
    ),
    "no ids": ("update session set id = null; update message set session_id = ''", [], []),
    "a table that is missing": ("drop table part", ["no such table: part"], []),
    "a column that is missing": (
        "alter table message drop column time_updated", ["no such column: time_updated"], [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("spoilt", _SPOILT.values(), ids=_SPOILT.keys())
async def test_what_cannot_be_read_in_a_database_is_told(
    tmp_path: Path, spoilt: tuple[str, list[str], list[str]]
) -> None:
    """Rows by their number and session, everything else in SQLite's words; the rest is read."""
    script, skips, said = spoilt
    store = MemoryStore()
    with _writer(tmp_path) as writer:
        converse(writer)
    with closing(sqlite3.connect(tmp_path / "opencode" / "opencode.db")) as db:
        db.executescript(f"pragma foreign_keys = off; {script}")
    summary = await _read(tmp_path, store)
    assert [skip.reason for skip in summary.skips] == skips
    assert [text for _, text in _live(store)] == said
    assert all(row.parent_id is None for row in store.conversations.values())
