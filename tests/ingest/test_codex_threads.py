"""Codex rollouts: whose lines they are, of a fork, a subagent, a thread that was reverted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conv_realtime.models import conversation_id
from tests.ingest.folding import IDENTITY
from tests.ingest.rollouts import (
    THREAD,
    event,
    line,
    meta,
    says,
    stated,
    thread,
    tokens,
)


def _id(session: str, agent: str | None = None) -> object:
    return conversation_id(IDENTITY.owner_id, "codex", IDENTITY.machine, session, agent)


def _parent(at: float, turn: str | None = None) -> list[bytes]:
    """Return a parent's history as a fork has it: all lines at the time of copying."""
    begun: dict[str, Any] = {} if turn is None else {"turn_id": turn}
    return [
        meta(thread(9), at=at, cwd="/elsewhere"),
        event("task_started", at=at, **begun),
        line("turn_context", {"cwd": "/elsewhere", "model": "old", **begun}, at=at),
        says("user", "the parent's", at=at),
        says("assistant", "its answer", at=at),
        tokens((1000, 500, 100), (1000, 500, 100), at=at),
        event("task_complete", at=at, **begun),
    ]


def _own(at: float, turn: str | None = None) -> list[bytes]:
    begun: dict[str, Any] = {} if turn is None else {"turn_id": turn}
    return [
        event("task_started", at=at, **begun),
        line("turn_context", {"cwd": "/work/garden", "model": "new", **begun}, at=at),
        says("user", "the fork's", at=at),
        says("assistant", "own answer", at=at),
        tokens((1020, 510, 103), (20, 10, 3), at=at),
    ]


_FORKS = {
    "by when turns began": (
        [meta(forked_from_id=thread(9))], _parent(0.0, thread(8, -60)), _own(0.0, thread(7, 0.1))
    ),
    "by the second header and the pace": ([meta()], _parent(0.0), _own(1.5)),
    "of a subagent": (
        [meta(source={"subagent": {"thread_spawn": {"parent_thread_id": thread(9)}}})],
        _parent(0.0, thread(8, -60)),
        _own(0.0, thread(7, 0.1)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", _FORKS)
def test_what_was_copied_from_the_parent_is_not_counted_again(how: str, tmp_path: Path) -> None:
    """Only the first header names the file; copied messages and tokens are the parent's."""
    first, copied, own = _FORKS[how]
    row, messages = stated(tmp_path, *first, *copied, *own)
    assert [m.text for m in messages] == ["the fork's", "own answer"]
    assert (row.session_id, row.cwd, row.model) == (THREAD, "/work/garden", "new")
    assert (row.input_tokens, row.cache_read_tokens, row.output_tokens) == (10, 10, 3)
    assert row.title == "the fork's"


def test_a_copy_ends_at_the_line_that_the_header_names(tmp_path: Path) -> None:
    """Paginated histories number their lines."""
    row, messages = stated(
        tmp_path,
        meta(ordinal=0, parent_thread_id=thread(9), subagent_history_start_ordinal=3),
        meta(thread(9), ordinal=1),
        says("user", "the parent's", ordinal=2),
        says("user", "its own", ordinal=3),
        says("assistant", "yes", ordinal=4),
    )
    assert [m.text for m in messages] == ["its own", "yes"]
    assert row.parent_id == _id(thread(9))
    assert row.metadata == {}  # a subagent, not a fork


def test_a_line_that_names_another_thread_is_not_this_ones(tmp_path: Path) -> None:
    """The copy ends where a line names this one."""
    _, messages = stated(
        tmp_path,
        meta(forked_from_id=thread(9)),
        event("item_completed", thread_id=thread(9), item={"type": "Plan"}),
        says("user", "the parent's"),
        event("item_completed", thread_id=THREAD, item={"type": "Plan"}),
        says("user", "its own"),
    )
    assert [m.text for m in messages] == ["its own"]


def test_a_fork_that_copies_nothing_has_all_of_its_lines(tmp_path: Path) -> None:
    """`history_base` says where its history is; its first total is its parent's."""
    base = {"thread_id": thread(9), "end_ordinal_exclusive": 5, "end_byte_offset": 900}
    row, messages = stated(
        tmp_path,
        meta(forked_from_id=thread(9), history_base=base),
        says("user", "own"),
        says("assistant", "yes"),
        tokens((500, 0, 50), (40, 0, 4)),
    )
    assert [m.text for m in messages] == ["own", "yes"]
    assert (row.input_tokens, row.output_tokens) == (40, 4)
    assert row.parent_id == _id(thread(9))
    assert row.metadata == {"forked_from": thread(9)}


def test_a_header_that_is_written_again_copies_nothing(tmp_path: Path) -> None:
    """Codex appends it when something of it changes; another's that comes late is ignored."""
    row, messages = stated(
        tmp_path,
        meta(),
        says("user", "one"),
        meta(cwd="/moved", memory_mode="x"),
        says("user", "two"),
        meta(thread(9), cwd="/elsewhere"),
        says("user", "three"),
    )
    assert [m.text for m in messages] == ["one", "two", "three"]
    assert (row.session_id, row.cwd) == (THREAD, "/moved")


def test_a_subagent_ends_with_its_answer_and_hears_others_as_users(tmp_path: Path) -> None:
    """What its parent sends is its prompt; to the parent what it sends back is none."""
    sent = {"author": "/root", "recipient": "/root/x", "content": "explore", "trigger_turn": True}
    lines = [
        line("inter_agent_communication", sent),
        event("task_started", turn_id=thread(5, 2.0)),
        says("assistant", "explored"),
        event("task_complete", turn_id=thread(5, 2.0)),
    ]
    row, messages = stated(tmp_path, meta(parent_thread_id=thread(9)), *lines)
    assert [(m.role, m.text) for m in messages] == [("user", "explore"), ("assistant", "explored")]
    assert (row.status, row.activity, row.title) == ("completed", "ended", "explore")
    failed = event("task_complete", error={"message": "no more"})
    row, _ = stated(tmp_path, meta(parent_thread_id=thread(9)), *lines[:2], failed)
    assert (row.status, row.activity) == ("error", "ended")
    _, messages = stated(tmp_path, meta(), *lines)
    assert messages[0].role == "system"


def test_a_reverted_thread_goes_on_below_itself(tmp_path: Path) -> None:
    """Its new file is named by the thread and the rollout, and is no copy of the old one."""
    name = f"rollout-2026-03-04T06-00-00-{THREAD}_{thread(2)}.jsonl"
    base = {"thread_id": THREAD, "end_ordinal_exclusive": 5, "end_byte_offset": 900}
    row, _ = stated(tmp_path, meta(history_base=base), says("user", "again"), name=name)
    assert (row.session_id, row.agent_id) == (THREAD, thread(2))
    assert (row.id, row.parent_id) == (_id(THREAD, thread(2)), _id(THREAD))
