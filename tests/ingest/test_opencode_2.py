"""OpenCode 2's tables, alone in a database and beside those of OpenCode 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conv_realtime.ingest import Ingest, Summary
from conv_realtime.models import Conversation, Message
from conv_realtime.testing import MemoryStore
from tests.ingest.folding import IDENTITY
from tests.ingest.running import running, until
from tests.opencode import NOON, Writer, Writer2, converse, converse_2


def _path(folder: Path) -> Path:
    return folder / "opencode" / "opencode.db"


def _ingest(folder: Path, store: MemoryStore, **settings: Any) -> Ingest:
    return Ingest(
        store=store, state_dir=folder / "state", owner_id=IDENTITY.owner_id, machine="m",
        paths=[_path(folder)], rest_seconds=0.05, **settings,
    )  # fmt: skip


async def _read(folder: Path, store: MemoryStore) -> Summary:
    async with _ingest(folder, store) as river:
        return await river.backfill()


def _live(store: MemoryStore) -> list[Message]:
    rows = [row for row in store.messages.values() if row.deleted_at is None]
    return sorted(rows, key=lambda row: row.seq)


def _said(store: MemoryStore) -> list[tuple[str, str]]:
    return [(row.role, row.text) for row in _live(store)]


_WHOLE = [("user", "Which roses are dry?"), ("assistant", "Those in bed 3.")]


async def test_a_session_has_what_its_rows_say(tmp_path: Path) -> None:
    """As one of OpenCode 1, and thoughts are counted among the output."""
    store = MemoryStore()
    with Writer2(_path(tmp_path)) as writer:
        converse_2(writer)
        summary = await _read(tmp_path, store)
    (row,) = store.conversations.values()
    assert (row.source, row.session_id, row.title) == ("opencode", "ses_1", "Roses")
    assert (row.cwd, row.project_name, row.model) == ("/work/garden", "garden", "gpt-test")
    assert (row.message_count, row.tool_usage_count) == (2, 1)
    assert (row.status, row.activity) == ("active", "waiting")
    assert (row.input_tokens, row.output_tokens, row.reasoning_tokens) == (100, 25, 5)
    assert (row.cache_read_tokens, row.cache_write_tokens) == (50, 7)
    assert row.metadata == {"cost_usd": 0.0125}
    assert _said(store) == _WHOLE
    _, answer = _live(store)
    assert [b["type"] for b in answer.content] == ["thinking", "tool_use", "tool_result", "text"]
    assert answer.content[2]["content"] == [{"type": "text", "text": "bed 3"}]
    assert (summary.messages, summary.skipped) == (2, 0)


async def _one(folder: Path, kind: str, **data: Any) -> tuple[Conversation, Message]:
    store = MemoryStore()
    with Writer2(_path(folder)) as writer:
        writer.session("ses_1")
        writer.row("msg_1", "ses_1", kind, **data)
        await _read(folder, store)
    (row,), (message,) = store.conversations.values(), _live(store)
    return row, message


_SPENT = {"tokens": {"input": 9, "output": 1}}
_ABORTED = {"type": "aborted", "message": "Step interrupted"}


@pytest.mark.parametrize(
    ("kind", "data", "said", "state"),
    [
        ("user", {"text": "Go", "files": [{"uri": "file:///a.png", "mime": "image/png"}]},
         ("user", "Go"), ("active", "working")),
        ("synthetic", {"text": "A task ended"}, ("system", "A task ended"), None),
        ("system", {"text": "The date is another"}, ("system", "The date is another"), None),
        ("skill", {"skill": "prune", "name": "prune", "text": "Cut"}, ("system", "Cut"), None),
        ("shell", {"command": "ls", "output": {"output": "beds\n"}},
         ("system", "$ ls\nbeds"), None),
        ("compaction", {"status": "completed", "summary": "So far"}, ("system", "So far"), None),
        ("assistant", {"content": [], "error": {"type": "rate", "message": "Too much"}},
         ("assistant", "Too much"), ("error", "waiting")),
        ("assistant", {"content": [{"type": "text", "text": "I"}], "error": _ABORTED},
         ("assistant", "I"), ("active", "waiting")),
        ("assistant", {"content": [{"type": "text", "text": "I"}], "finish": "tool-calls",
                       "time": {"created": NOON, "completed": NOON}},
         ("assistant", "I"), ("active", "working")),
        ("hologram", {"beam": 1}, ("other", ""), None),
    ],
)  # fmt: skip
async def test_each_kind_of_row_has_its_words(
    tmp_path: Path,
    kind: str,
    data: dict[str, Any],
    said: tuple[str, str],
    state: tuple[str, str] | None,
) -> None:
    """What a person, the model and OpenCode itself say are told apart, and whose turn it is."""
    row, message = await _one(tmp_path, kind, **data)
    assert (message.role, message.text) == said
    assert state in (None, (row.status, row.activity))


async def test_what_a_compaction_costs_is_counted(tmp_path: Path) -> None:
    """It is a response that nobody reads."""
    row, _ = await _one(tmp_path, "compaction", summary="So far", cost=0.5, **_SPENT)
    assert (row.input_tokens, row.metadata) == (9, {"cost_usd": 0.5})


async def test_the_end_of_a_turn_says_how_it_went(tmp_path: Path) -> None:
    """One that failed at once has left no answer."""
    store = MemoryStore()
    with Writer2(_path(tmp_path)) as writer:
        writer.session("ses_1")
        writer.row("msg_1", "ses_1", "user", text="Go")
        writer.row("msg_2", "ses_1", "idle", outcome="failed")
        await _read(tmp_path, store)
    (row,) = store.conversations.values()
    assert (row.status, row.activity, row.message_count) == ("error", "waiting", 1)


async def test_what_is_reverted_is_taken_back(tmp_path: Path) -> None:
    """Until that is undone."""
    store = MemoryStore()
    with Writer2(_path(tmp_path)) as writer:
        converse_2(writer)
        writer.session("ses_1", revert=json.dumps({"messageID": "msg_ses_1_2"}))
        await _read(tmp_path, store)
        assert _said(store) == _WHOLE[:1]
        writer.session("ses_1", revert=None)
        await _read(tmp_path, store)
        assert _said(store) == _WHOLE
        writer.delete("session_message", "msg_ses_1_2")
        await _read(tmp_path, store)
    assert _said(store) == _WHOLE[:1]


async def test_a_database_that_was_taken_over_has_the_sessions_of_both(tmp_path: Path) -> None:
    """What one has of a session counts from the first message on that OpenCode 2 wrote of it."""
    store = MemoryStore()
    with Writer(_path(tmp_path)) as first:
        converse(first, "ses_0")
        converse(first, "ses_1")
    with Writer2(_path(tmp_path)) as second:
        second.session("ses_1", title="Tulips")
        await _read(tmp_path, store)
        titles = {row.session_id: row.title for row in store.conversations.values()}
        assert titles == {"ses_0": "Roses", "ses_1": "Roses"}
        converse_2(second, "ses_1", step=1)
        converse_2(second, "ses_2", step=1)
        await _read(tmp_path, store)
        assert (await _read(tmp_path, store)).changed == 0
    counts = {row.session_id: row.message_count for row in store.conversations.values()}
    assert counts == {"ses_0": 2, "ses_1": 1, "ses_2": 1}


async def test_changes_are_told_as_they_are_written(tmp_path: Path) -> None:
    """A row that grows in place, and one that is new."""
    store = MemoryStore()
    with Writer2(_path(tmp_path)) as writer:
        converse_2(writer, step=1)
        async with running(_ingest(tmp_path, store, sweep_seconds=600)):
            await until(lambda: len(_live(store)) == 1)
            for step in (2, 3, 4):
                converse_2(writer, step=step)
            await until(lambda: _said(store) == _WHOLE)
            converse_2(writer, "ses_2", step=1)
            await until(lambda: len(store.conversations) == 2)
    assert (await _read(tmp_path, store)).skipped == 0


@pytest.mark.parametrize(
    ("tokens", "output"),
    [
        ({"output": 20, "reasoning": 5}, 20),
        ({"output": 20, "reasoning": 5, "input": 7, "total": 32}, 25),
        ({"output": 20, "reasoning": 5, "input": 7, "total": 27}, 20),
    ],
)
async def test_thoughts_are_among_the_output_whatever_wrote_it(
    tmp_path: Path, tokens: dict[str, int], output: int
) -> None:
    """OpenCode 1 counted them in, and later apart: the total that it states tells."""
    store = MemoryStore()
    with Writer(_path(tmp_path)) as writer:
        writer.session("ses_1")
        writer.message("msg_1", "ses_1", "assistant", tokens=tokens)
        writer.part("prt_1", "msg_1", "ses_1", type="text", text="Those.")
        await _read(tmp_path, store)
    (row,) = store.conversations.values()
    assert (row.output_tokens, row.reasoning_tokens) == (output, 5)
