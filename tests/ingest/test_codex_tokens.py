"""Codex rollouts: what a thread spends, by reports that repeat themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ingest.rollouts import answers, calls, event, meta, says, stated, tokens


def test_tokens_of_messages_together_are_the_last_total(tmp_path: Path) -> None:
    """Repeated reports add nothing; cached input is counted apart, reasoning within output."""
    last = {"input_tokens": 50, "cached_input_tokens": 30, "output_tokens": 9}
    more = {"cache_write_input_tokens": 5, "reasoning_output_tokens": 4}
    info = {
        "total_token_usage": {
            "input_tokens": 150, "cached_input_tokens": 90, "output_tokens": 29, **more
        },
        "last_token_usage": {**last, **more},
    }  # fmt: skip
    row, messages = stated(
        tmp_path,
        meta(),
        event("token_count", info=None),
        says("user", "hi"),
        calls("c"),
        tokens((100, 60, 20), (100, 60, 20)),
        tokens((100, 60, 20), (100, 60, 20)),
        answers("c"),
        says("assistant", "done"),
        event("token_count", info=info),
        event("token_count", info=info),
    )
    assert [m.usage for m in messages if m.role == "assistant"] == [
        {"input_tokens": 40, "cache_read_tokens": 60, "output_tokens": 20},
        {
            "input_tokens": 15, "cache_read_tokens": 30, "cache_write_tokens": 5,
            "output_tokens": 9, "reasoning_tokens": 4,
        },
    ]  # fmt: skip
    assert (row.input_tokens + row.cache_read_tokens + row.cache_write_tokens) == 150
    assert (row.cache_read_tokens, row.output_tokens, row.reasoning_tokens) == (90, 29, 4)


def test_tokens_before_any_answer_belong_to_the_first(tmp_path: Path) -> None:
    """They are spent, so they are counted."""
    row, messages = stated(
        tmp_path, meta(), tokens((7, 0, 1), (7, 0, 1)), says("user", "?"), says("assistant", "!")
    )
    assert messages[1].usage == {"input_tokens": 7, "output_tokens": 1}
    assert row.input_tokens == 7


def test_a_total_that_is_set_anew_takes_nothing_back(tmp_path: Path) -> None:
    """Where the context is full Codex sets its total to something else."""
    row, _ = stated(
        tmp_path,
        meta(),
        says("assistant", "a"),
        tokens((100, 0, 10), (100, 0, 10)),
        tokens((0, 0, 0), (0, 0, 0)),
        says("assistant", "b"),
        tokens((40, 0, 4), (40, 0, 4)),
        says("assistant", "c"),
        tokens((30, 0, 3), (7, 0, 1)),
        tokens((32, 0, 4), (2, 0, 1)),
    )
    assert (row.input_tokens, row.output_tokens) == (149, 16)


def _limited(limit: str | None, total: int, last: int) -> bytes:
    """Return a report of input, counted against a limit."""
    limits = None if limit is None else {"limit_id": limit, "primary": None}
    return tokens((total, 0, 0), (last, 0, 0), rate_limits=limits)


@pytest.mark.parametrize(
    "limits",
    [
        # Each has a total of its own, and what is told twice may be told between others.
        [("a", 100, 100), ("b", 900, 20), ("a", 100, 100), ("b", 900, 20), ("a", 130, 30)],
        # One total goes on, whatever a response is counted against.
        [("a", 100, 100), ("b", 120, 20), ("b", 120, 20), ("a", 150, 30), (None, 150, 30)],
        # Another limit is told first, of what is known.
        [(None, 100, 100), ("a", 100, 100), ("a", 120, 20), ("b", 120, 20), ("b", 150, 30)],
        # Where a line is lost, the total says what it said.
        [("a", 100, 100), ("a", 130, 10), ("b", 150, 20)],
    ],
)
def test_totals_of_several_limits_are_not_taken_for_one(
    limits: list[tuple[str | None, int, int]], tmp_path: Path
) -> None:
    """Their reports alternate; the difference of two of them is nobody's."""
    reports = [_limited(*one) for one in limits]
    row, _ = stated(tmp_path, meta(), says("assistant", "a"), *reports)
    assert row.input_tokens == 150
