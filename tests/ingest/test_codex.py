"""Codex rollouts: what each kind of line becomes, and whose it is."""

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
from conv_realtime.models import conversation_id
from tests.ingest.folding import IDENTITY, check_growth, state
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
)

CONTEXT = "<environment_context>\n  <cwd>/work/garden</cwd>\n</environment_context>"
AGENTS = "# AGENTS.md instructions for /work\n\n<INSTRUCTIONS>\nbe kind\n</INSTRUCTIONS>"


def _id(session: str, agent: str | None = None) -> object:
    return conversation_id(IDENTITY.owner_id, "codex", IDENTITY.machine, session, agent)


# What is said --------------------------------------------------------------------------------


def test_every_text_is_there_once_though_it_is_written_twice(tmp_path: Path) -> None:
    """Response items are read; events that repeat them are not."""
    row, messages = stated(
        tmp_path,
        meta(),
        says("developer", "<permissions instructions>all</permissions instructions>"),
        says("user", AGENTS, CONTEXT),
        event("task_started", turn_id="t"),
        line("turn_context", {"cwd": "/work/garden", "model": "gpt-test"}),
        says("user", "water the roses"),
        event("user_message", message="water the roses"),
        event("agent_reasoning", text="**Thinking**"),
        item("reasoning", summary=[{"type": "summary_text", "text": "**Thinking**"}]),
        event("agent_message", message="They are wet."),
        says("assistant", "They are wet."),
        event("task_complete", turn_id="t", last_agent_message="They are wet."),
    )
    assert [(m.role, m.text) for m in messages[2:]] == [
        ("user", "water the roses"),
        ("assistant", "They are wet."),
    ]
    assert [m.role for m in messages[:2]] == ["system", "system"]
    assert [block["type"] for block in messages[3].content] == ["thinking", "text"]
    assert messages[3].model == "gpt-test"
    assert (row.title, row.cwd, row.git_branch) == ("water the roses", "/work/garden", "main")
    assert (row.message_count, row.activity, row.session_id) == (2, "waiting", THREAD)


def test_a_response_in_several_items_is_one_message(tmp_path: Path) -> None:
    """Reasoning, text and calls in a row; a result, and tokens, end it."""
    row, messages = stated(
        tmp_path,
        meta(),
        says("user", "look"),
        item("reasoning", summary=[{"text": "where?"}], encrypted_content="xx"),
        says("assistant", "I look."),
        calls("c1"),
        calls("c2", "pwd"),
        answers("c1"),
        answers("c2"),
        item("reasoning", summary=[], encrypted_content="only this"),
        says("assistant", "Found."),
        tokens((10, 0, 5), (10, 0, 5)),
        says("assistant", "And more."),
    )
    assert [m.role for m in messages] == [
        "user", "assistant", "tool", "tool", "assistant", "assistant"
    ]  # fmt: skip
    assert [b["type"] for b in messages[1].content] == ["thinking", "text", "tool_use", "tool_use"]
    assert messages[1].content[3]["input"] == {"cmd": "pwd"}
    assert [m.content[0]["tool_use_id"] for m in messages[2:4]] == ["c1", "c2"]
    assert (row.tool_usage_count, row.message_count) == (2, 4)


def test_tools_of_every_kind_are_calls_with_results(tmp_path: Path) -> None:
    """Custom tools, the local shell, searches and images; a failure is marked."""
    old = json.dumps({"output": "no such file", "metadata": {"exit_code": 1}})
    row, messages = stated(
        tmp_path,
        meta(),
        item("custom_tool_call", name="apply_patch", input="*** Begin", call_id="a"),
        item("custom_tool_call_output", call_id="a", output={"content": "done", "success": False}),
        item("local_shell_call", call_id="b", action={"type": "exec", "command": ["ls"]}),
        answers("b", old),
        item("web_search_call", id="ws", action={"type": "search", "query": "roses"}),
        item("image_generation_call", id="ig", revised_prompt="a rose", result="UE5H"),
        item("function_call", name="odd", arguments="not json", call_id="c"),
        answers("c", [{"type": "input_text", "text": "two"}, {"type": "input_image"}]),
    )
    found = [block for m in messages for block in m.content]
    assert [b["name"] for b in found if b["type"].endswith("tool_use")] == [
        "apply_patch", "local_shell", "web_search", "image_generation", "odd"
    ]  # fmt: skip
    assert found[0]["input"] == {"input": "*** Begin"}
    assert found[1] == {
        "type": "tool_result", "tool_use_id": "a", "content": "done", "is_error": True
    }  # fmt: skip
    assert (found[3]["content"], found[3]["is_error"]) == ("no such file", True)
    assert messages[-1].text == "two"
    assert row.tool_usage_count == 5
    assert row.activity == "working"


def test_a_call_that_the_server_answers_leaves_nothing_open(tmp_path: Path) -> None:
    """A web search is answered within its response."""
    row, _ = stated(
        tmp_path, meta(), says("user", "?"), item("web_search_call", id="w"), says("assistant", "!")
    )
    assert row.activity == "waiting"


def test_a_prompt_that_looks_injected_is_the_persons_once_an_event_says_so(tmp_path: Path) -> None:
    """What is wrapped in a tag is taken for Codex's own, until it is known to be typed."""
    for said in (
        event("user_message", message="<b>bold</b>"),
        event(
            "item_completed",
            item={"type": "UserMessage", "content": [{"type": "text", "text": "<b>bold</b>"}]},
        ),
    ):
        before = [meta(), says("user", CONTEXT), says("user", "<b>bold</b>")]
        row, messages = stated(tmp_path, *before)
        assert ([m.role for m in messages], row.title) == (["system", "system"], None)
        row, messages = stated(tmp_path, *before, said)
        assert [(m.role, m.text) for m in messages] == [
            ("system", CONTEXT),
            ("user", "<b>bold</b>"),
        ]
        assert (row.title, row.message_count) == ("<b>bold</b>", 1)
        assert messages[1].revision > messages[0].revision


def test_the_title_is_what_was_asked_and_what_it_was_called(tmp_path: Path) -> None:
    """Without an editor's context; a name that somebody gave goes before it."""
    asked = (
        "# Context from my IDE setup:\n\n## Open tabs:\n- a.py\n\n## My request for Codex:\nfix it"
    )
    lines = [meta(), says("user", asked)]
    assert stated(tmp_path, *lines)[0].title == "fix it"
    named = event("thread_name_updated", thread_id=THREAD, thread_name="Roses")
    assert stated(tmp_path, *lines, named)[0].title == "Roses"


def test_turns_say_whose_turn_it_is(tmp_path: Path) -> None:
    """Until a turn is over its commentary is no answer; one that is broken off waits."""
    begun = [
        meta(),
        event("task_started", turn_id="t"),
        says("user", "go"),
        says("assistant", "ok"),
    ]
    assert stated(tmp_path, *begun)[0].activity == "working"
    broken = event("turn_aborted", turn_id="t", reason="interrupted")
    row, _ = stated(tmp_path, *begun, calls("c"), broken)
    assert (row.status, row.activity) == ("active", "waiting")


def test_turns_that_are_rolled_back_are_taken_back(tmp_path: Path) -> None:
    """With their tokens and calls; what follows stands, under names that were never used."""
    lines = [
        meta(),
        says("user", "one"),
        says("assistant", "first"),
        tokens((10, 0, 1), (10, 0, 1)),
        says("user", "two"),
        calls("c"),
        tokens((30, 0, 3), (20, 0, 2)),
        answers("c"),
        event("thread_rolled_back", num_turns=1, at=9.0),
        tokens((35, 0, 4), (5, 0, 1)),
        says("user", "three", at=10.0),
        says("assistant", "third", at=11.0),
        tokens((60, 0, 6), (25, 0, 2)),
    ]
    row, messages = stated(tmp_path, *lines)
    assert [m.text for m in messages] == ["one", "first", "three", "third"]
    assert (row.message_count, row.tool_usage_count) == (4, 0)
    assert (row.input_tokens, row.output_tokens) == (40, 4)
    row, messages = stated(tmp_path, *lines, event("thread_rolled_back", num_turns=9))
    assert (messages, row.message_count, row.input_tokens) == ([], 0, 0)


def test_a_compaction_is_said_by_the_system(tmp_path: Path) -> None:
    """Its summary once; the history that it replaces is none of the file's new messages."""
    history = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}
    ]
    compacted = {"message": "what was done", "replacement_history": history}
    _, messages = stated(tmp_path, meta(), line("compacted", compacted), says("user", "on"))
    assert [(m.role, m.text) for m in messages] == [("system", "what was done"), ("user", "on")]


# Tokens --------------------------------------------------------------------------------------


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


# Whose lines they are ------------------------------------------------------------------------


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
    _, messages = stated(tmp_path, meta(), *lines)
    assert messages[0].role == "system"


def test_a_reverted_thread_goes_on_below_itself(tmp_path: Path) -> None:
    """Its new file is named by the thread and the rollout, and is no copy of the old one."""
    name = f"rollout-2026-03-04T06-00-00-{THREAD}_{thread(2)}.jsonl"
    base = {"thread_id": THREAD, "end_ordinal_exclusive": 5, "end_byte_offset": 900}
    row, _ = stated(tmp_path, meta(history_base=base), says("user", "again"), name=name)
    assert (row.session_id, row.agent_id) == (THREAD, thread(2))
    assert (row.id, row.parent_id) == (_id(THREAD, thread(2)), _id(THREAD))


# Older forms, and files that are none ---------------------------------------------------------


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
