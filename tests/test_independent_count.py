"""The library against a count that shares no code with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.independent_count.__main__ import Line, line_of, paths, table
from tests.independent_count.counting import Count, count
from tests.ingest.lines import SESSION, assistant, calls, says, user
from tests.ingest.rollouts import NAME, answers, event, meta, tokens
from tests.ingest.rollouts import calls as codex_calls
from tests.ingest.rollouts import says as codex_says
from tests.samples import SAMPLES


@pytest.mark.parametrize("path", paths(SAMPLES), ids=lambda path: path.stem[-24:])
def test_a_sample_says_what_was_counted(path: Path) -> None:
    """Conversations, messages, tool calls, tokens and skipped lines, of each file by itself."""
    line = line_of(path, check=True)
    if line is not None:  # else it is of a format that nobody has counted yet
        assert line.verdict == "equal"


def _claude(folder: Path) -> Path:
    path = folder / f"{SESSION}.jsonl"
    usage = {"input_tokens": 3, "output_tokens": 5}
    path.write_bytes(
        user("q")
        + assistant("a", "m1", says("one"), usage=usage)
        + assistant("b", "m1", calls("t1"), usage={**usage, "output_tokens": 9})
        + b"{torn\n"
        + user("s", isSidechain=True)
    )
    return path


def _codex(folder: Path) -> Path:
    path = folder / NAME
    once = tokens((10, 4, 2), (10, 4, 2)).replace(
        b'"output_tokens": 2', b'"output_tokens": 2, "total_tokens": 12'
    )
    path.write_bytes(
        meta()
        + event("task_started")
        + codex_says("user", "look")
        + codex_says("assistant", "I look")
        + codex_calls("c")
        + once
        + once
        + answers("c")
        + codex_says("assistant", "done")
    )
    return path


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (_claude, Count(2, 3, 1, tokens=12, naive=20, skipped=1)),
        (_codex, Count(1, 4, 1, tokens=12, naive=24)),
    ],
    ids=["claude_code", "codex"],
)
def test_it_counts_what_can_be_counted_by_hand(make: Any, expected: Count, tmp_path: Path) -> None:
    """And the library says the same; numbers that are written again are in the naive sum alone."""
    path = make(tmp_path)
    assert count(path)[1] == expected
    line = line_of(path, check=True)
    assert line is not None and line.verdict == "equal"


def test_a_difference_is_told_and_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the table and in the verdict."""
    path = _claude(tmp_path)
    counted = count(path)[1]
    line = Line(path, "claude_code", counted, Count(2, 4, 1, 12, 0, 1))
    assert line.verdict.startswith("differs")
    assert "messages=4" in "".join(table(tmp_path, [line], files=True))


def test_it_shares_no_code_with_the_library() -> None:
    """The counting half imports nothing of it."""
    source = (Path(__file__).parent / "independent_count" / "counting.py").read_text()
    assert "import conv_realtime" not in source
    assert "from conv_realtime" not in source
