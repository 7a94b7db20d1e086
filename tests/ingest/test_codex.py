"""Codex rollouts: what each kind of line becomes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.ingest.rollouts import (
    THREAD,
    answers,
    calls,
    event,
    item,
    line,
    meta,
    says,
    stated,
    tokens,
    voice,
)

CONTEXT = "<environment_context>\n  <cwd>/work/garden</cwd>\n</environment_context>"
AGENTS = "# AGENTS.md instructions for /work\n\n<INSTRUCTIONS>\nbe kind\n</INSTRUCTIONS>"


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
    asked = item("function_call", name="request_user_input", arguments="{}", call_id="c")
    assert stated(tmp_path, *begun, asked)[0].activity == "waiting"
    assert stated(tmp_path, *begun, asked, answers("c"))[0].activity == "working"


_LIMIT: dict[str, Any] = {
    "message": "You've hit your usage limit.",
    "codex_error_info": "usage_limit_exceeded",
}


@pytest.mark.parametrize(
    ("ends", "state", "said"),
    [
        ([event("task_complete", error=_LIMIT)], "error", [_LIMIT["message"]]),
        ([event("error", **_LIMIT), event("task_complete")], "error", [_LIMIT["message"]]),
        (
            [event("error", **_LIMIT), event("task_complete", error=_LIMIT)],
            "error",
            [_LIMIT["message"]],
        ),
        (
            [event("error", message="again"), event("task_complete", last_agent_message="ok")],
            "active",
            ["again"],
        ),
        ([event("task_complete", error=None, last_agent_message="ok")], "active", []),
        (
            [event("task_complete", error=_LIMIT), event("task_started")],
            "active",
            [_LIMIT["message"]],
        ),
        ([event("task_complete", error={"codex_error_info": "other"})], "error", ["other"]),
        ([event("task_complete", error=["odd"])], "active", []),
    ],
)
def test_a_turn_that_failed_says_why(
    tmp_path: Path, ends: list[bytes], state: str, said: list[str]
) -> None:
    """Codex writes no item of it: without the event a prompt would stand there unanswered."""
    begun = [meta(), event("task_started"), says("user", "go")]
    row, messages = stated(tmp_path, *begun, *ends)
    told = [m for m in messages if m.role == "system"]
    assert row.status == state
    assert [m.text for m in told] == said
    assert all(m.created_at is not None for m in told)


def test_a_failure_moves_no_message(tmp_path: Path) -> None:
    """Items are counted without it: their names are those that they had before it was told."""
    failed = event("task_complete", error=_LIMIT)
    lines = [meta(), says("user", "go"), failed, says("user", "on"), failed]
    _, messages = stated(tmp_path, *lines)
    _, plain = stated(tmp_path, *(line for line in lines if line is not failed))
    assert [m.id for m in messages if m.role == "user"] == [m.id for m in plain]
    assert [m.role for m in messages] == ["user", "system", "user", "system"]


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


def test_what_is_said_aloud_is_said(tmp_path: Path) -> None:
    """A talk beside the turns, by a model whose tokens none reports: what no item says again.

    As Codex's own clients show it: `ThreadRealtimeItemContent` in openai/codex at 4c2a8531,
    `codex-rs/app-server-protocol/src/protocol/v2/realtime.rs`.
    """
    row, messages = stated(
        tmp_path,
        meta(),
        voice("realtime_session_started"),
        voice("transcript_segment", role="user", text="Water the roses"),
        event("task_started"),
        calls("c"),
        voice("transcript_segment", role="assistant", text="I am at it."),
        answers("c"),
        tokens((10, 0, 1), (10, 0, 1)),
        event("task_complete"),
        voice("bem_item_promoted", item_id="i", turn_id="t"),
        voice("transcript_segment", role="assistant", text="They are wet."),
        voice("realtime_session_closed", outcome="ended"),
        event("thread_rolled_back", num_turns=1),
    )
    assert [(m.role, m.text, bool(m.usage), m.deleted_at) for m in messages] == [
        ("user", "Water the roses", False, None),
        ("assistant", "", True, None),
        ("assistant", "I am at it.", False, None),
        ("tool", "a b", False, None),
        ("assistant", "They are wet.", False, None),
    ]
    assert (row.title, row.activity, row.input_tokens) == ("Water the roses", "waiting", 10)


def test_a_compaction_is_said_by_the_system(tmp_path: Path) -> None:
    """Its summary once; the history that it replaces is none of the file's new messages."""
    history = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}
    ]
    compacted = {"message": "what was done", "replacement_history": history}
    _, messages = stated(tmp_path, meta(), line("compacted", compacted), says("user", "on"))
    assert [(m.role, m.text) for m in messages] == [("system", "what was done"), ("user", "on")]
