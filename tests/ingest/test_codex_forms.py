"""Codex rollouts of every form, and files that are none."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conv_realtime.core.format import Head, Recognised
from conv_realtime.core.formats.codex import Codex
from tests.ingest.folding import check_growth, state
from tests.ingest.rollouts import (
    NAME,
    THREAD,
    answers,
    calls,
    event,
    follow,
    item,
    line,
    meta,
    says,
    stated,
    thread,
    tokens,
    voice,
)

CONTEXT = "<environment_context>\n  <cwd>/work/garden</cwd>\n</environment_context>"


def test_the_oldest_form_has_items_alone(tmp_path: Path) -> None:
    """Until September 2025: a header without type, no times, the folder only in a context."""
    header = {"id": THREAD, "timestamp": "2025-08-18T01:16:13.522Z", "instructions": None}
    said = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
    context = {**said, "content": [{"type": "input_text", "text": CONTEXT}]}
    call = {"type": "function_call", "name": "shell", "arguments": "{}", "call_id": "c"}
    lines = [header, {"record_type": "state"}, context, said, call]
    row, messages = stated(tmp_path, *(json.dumps(one).encode() + b"\n" for one in lines))
    assert [m.role for m in messages] == ["system", "user", "assistant"]
    assert (row.session_id, row.cwd, row.project_name) == (THREAD, "/work/garden", "garden")
    assert (row.title, row.tool_usage_count) == ("hi", 1)
    assert row.started_at is not None and row.started_at.year == 2025


def test_the_form_with_record_types(tmp_path: Path) -> None:
    """Some weeks of September 2025."""
    at = {"timestamp": "2025-09-08T01:16:13.522Z"}
    lines = [
        {**at, "record_type": "session_meta", "id": THREAD, "cwd": "/work/garden"},
        {**at, "record_type": "response", "type": "message", "role": "user", "content": "hi"},
        {**at, "record_type": "event", "id": "0", "msg": {"type": "task_started"}},
    ]
    row, messages = stated(tmp_path, *(json.dumps(one).encode() + b"\n" for one in lines))
    assert ([m.text for m in messages], row.activity) == (["hi"], "working")


def _claim(name: str, *lines: bytes) -> object:
    return Codex().claim(PurePath("/x") / name, Head(b"".join(lines), whole=True, resting=True))


def test_a_file_is_claimed_by_its_first_lines() -> None:
    """By its header, also under another name; without one by its name."""
    assert _claim(NAME, meta()) == Recognised("codex", THREAD, named=True)
    assert _claim("copy.jsonl", b"{torn\n", meta()) == Recognised("codex", THREAD)
    assert _claim(NAME, says("user", "x")) == Recognised("codex", THREAD, named=True)
    assert _claim(NAME, event("task_started")) == "unsure"
    assert _claim(NAME, b'{"type":"user","sessionId":"s","message":{}}\n') is None
    assert _claim(NAME + ".zst", meta()) == Recognised("codex", THREAD, named=True)


def test_what_others_write_with_the_same_words_is_not_codex() -> None:
    """Pi writes `message` lines, too."""
    pi = b'{"type":"session","id":"1","cwd":"/x"}\n{"type":"message","id":"2","message":{}}\n'
    assert _claim("a.jsonl", pi) is None


@pytest.mark.parametrize(
    ("said", "role"),
    [
        (
            "Warning: The maximum number of unified exec processes you can keep open is 60.",
            "system",
        ),
        ("Warning: Your account was flagged for potentially high-risk cyber activity.", "system"),
        (
            "Warning: apply_patch was requested via shell. "
            "Use the apply_patch tool instead of exec_command.",
            "system",
        ),
        ("Here is a list of plugins that are available but not installed.\n\n- Roses", "system"),
        ("Warning: The roses are dry.", "user"),
    ],
)
def test_what_older_codexes_warn_of_is_the_systems(said: str, role: str, tmp_path: Path) -> None:
    """In a user's name, and without a tag; what else a person writes so is theirs."""
    row, messages = stated(tmp_path, meta(), says("user", "Water them"), says("user", said))
    assert [message.role for message in messages] == ["user", role]
    assert row.title == "Water them"


@pytest.mark.parametrize(
    ("kinds", "role", "title"),
    [
        (["environments.environment_context", "user.text"], "user", "<b>Roses</b>"),
        (["environments.environment_context", "skills.selected"], "system", None),
        (["environments.environment_context", "user.heartbeat"], "system", None),
        # Without a kind it is known by its words.
        (["environments.environment_context"], "system", None),
        ([None, "user.text"], "user", "<b>Roses</b>"),
        ("odd", "system", None),
    ],
)
def test_parts_that_say_of_what_kind_they_are_are_believed(
    kinds: Any, role: str, title: str | None, tmp_path: Path
) -> None:
    """Context and prompt may stand in one message; the title is what was typed."""
    passed = {"internal_chat_message_metadata_passthrough": {"content_item_kinds": kinds}}
    row, (message,) = stated(tmp_path, meta(), says("user", CONTEXT, "<b>Roses</b>", **passed))
    assert (message.role, row.title) == (role, title)


@pytest.mark.parametrize("begins", ["<image>", "<image name=[Image #1]>"])
def test_what_codex_puts_around_an_image_is_not_typed(begins: str, tmp_path: Path) -> None:
    """Parts that say where one begins and ends; the same words elsewhere are a person's."""
    image = {"type": "input_image", "image_url": "https://example.com/rose.png"}
    parts = [begins, image, "</image>", "What grows here?", "</image>", begins]
    content = [
        {"type": "input_text", "text": one} if isinstance(one, str) else one for one in parts
    ]
    row, (prompt,) = stated(tmp_path, meta(), item("message", role="user", content=content))
    kinds = [block["type"] for block in prompt.content]
    assert kinds == ["image", "text", "text", "text"]
    assert prompt.text == f"What grows here?\n\n</image>\n\n{begins}"
    assert (row.title or "").startswith("What grows here?")


def test_odd_values_are_read_as_absent(tmp_path: Path) -> None:
    """Nothing in a line is promised."""
    odd = [None, 7, [], {}, "x", {"x": [1]}, [None, 3, {"type": 4}], True, "\ud800"]
    lines = [meta(timestamp=[], source=[], history_base=3, forked_from_id=4)]
    for value in odd:
        lines += [
            item("message", role="user", content=value),
            item("reasoning", summary=value, content=value),
            item("function_call", name=value, arguments=value, call_id=value),
            item("function_call_output", call_id="c", output=value),
            item("web_search_call", action=value, id=value),
            line("turn_context", {"cwd": value, "model": value, "turn_id": value}),
            line("compacted", {"message": value}),
            event("token_count", info={"total_token_usage": value, "last_token_usage": value}),
            event("thread_rolled_back", num_turns=value),
            event("user_message", message=value),
            event("item_completed", item=value, thread_id=value),
            line("response_item", {"type": value, "role": value}),
            json.dumps({"type": value, "payload": value, "timestamp": value}).encode() + b"\n",
        ]
    row, _ = stated(tmp_path, *lines)
    assert row.session_id == THREAD


# Growth --------------------------------------------------------------------------------------


_small = st.integers(0, 4)


_line = st.one_of(
    st.builds(lambda n, t: says("user", t, at=n), _small, st.text(max_size=12)),
    st.builds(lambda n: says("user", f"<a>{n}</a>"), _small),
    st.builds(lambda n: event("user_message", message=f"<a>{n}</a>"), _small),
    st.builds(lambda n: says("assistant", f"answer {n}", at=n), _small),
    st.builds(lambda n: voice("transcript_segment", role="assistant", text=f"aloud {n}"), _small),
    st.builds(lambda n: calls(f"c{n}"), _small),
    st.builds(lambda n: answers(f"c{n}"), _small),
    st.builds(lambda n, m: tokens((n * 9, n, m), (n, 0, m)), _small, _small),
    st.builds(lambda n: event("thread_rolled_back", num_turns=n), _small),
    st.builds(lambda n: event("task_started", turn_id=thread(n, n - 2), at=n), _small),
    st.builds(lambda n: meta(thread(n)), _small),
    st.sampled_from([event("task_complete"), event("turn_aborted"), b"\n", b"{torn\n", b"{}{}\n"]),
)


_first = st.sampled_from([meta(), meta(forked_from_id=thread(3)), b""])


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder for files that are written over and over."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@given(
    _first,
    st.lists(_line, max_size=14).map(b"".join),
    st.lists(st.integers(0, 4000), max_size=6),
)
@settings(deadline=None)
def test_any_growth_of_the_file_ends_in_the_rows_of_one_read(
    folder: Path, first: bytes, rest: bytes, cuts: list[int]
) -> None:
    """In every column, and what is fed twice changes nothing."""
    check_growth(folder, NAME, first + rest, cuts, follow, state)
