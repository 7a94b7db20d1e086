"""What people ask of a conversation, the same in every format that is a log of lines."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

import pytest

from conv_realtime.core.formats import BUILT_IN
from conv_realtime.core.formats.copilot_cli import CopilotCli
from conv_realtime.core.formats.gptme import Gptme
from conv_realtime.core.formats.kimi_cli import KimiCli
from conv_realtime.models import Conversation, Message, conversation_id
from conv_realtime.testing.formats.examples import Example, built_in
from conv_realtime.testing.formats.reading import MACHINE, OWNER, Reading, Stated, folder

FORMS = {form.source: form for form in BUILT_IN}


def _read(source: str, example: Example) -> Stated:
    with folder() as place:
        return asyncio.run(Reading(FORMS[source], place, example.name).read(example.states))


def _main(source: str) -> tuple[Conversation, list[Message]]:
    """Return the session of a format's example, and its live messages."""
    found = [_read(source, example) for example in built_in(source)]
    ((row, stated),) = [
        (row, stated)
        for stated in found
        for row in stated.conversations.values()
        if row.agent_id is None
    ]
    mine = [m for m in stated.live.messages.values() if m.conversation_id == row.id]
    return row, sorted(mine, key=lambda message: message.seq)


_GARDEN = {"project_name": "garden", "cwd": "/work/garden", "git_branch": "main"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "pi",
            {"title": "Roses behind the shed", "project_name": "garden", "model": "claude-test"},
        ),
        ("gptme", {"title": "Plant the roses", "model": "anthropic/claude-test"}),
        ("vibe", {"title": "Plant the roses", "model": None, "started_at": None}),
        ("cursor", {"title": "Plant the roses", "model": None, "cwd": None}),
        ("qwen_code", {"title": "Roses behind the shed", "model": "qwen-test", **_GARDEN}),
        ("copilot_cli", {"title": "Roses behind the shed", "model": "gpt-test", **_GARDEN}),
        ("kimi_cli", {"title": "Plant the roses", "model": None, "cwd": None}),
        ("iflow", {"title": "Plant the roses", "model": "glm-test", **_GARDEN}),
        ("chat_log", {"title": "Plant the roses", "model": None, "cwd": None}),
    ],
)
def test_a_session_has_the_title_place_and_model_that_are_stated(
    source: str, expected: dict[str, Any]
) -> None:
    """A name that was given, else the first prompt; what no line states is empty, never guessed."""
    row, _ = _main(source)
    assert {name: getattr(row, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("pi", ("active", "waiting")),
        ("gptme", ("active", "waiting")),
        ("vibe", ("active", "waiting")),
        ("cursor", ("active", "waiting")),
        ("qwen_code", ("active", "waiting")),
        ("copilot_cli", ("completed", "ended")),
        ("kimi_cli", ("active", "waiting")),
        ("iflow", ("active", "waiting")),
        ("chat_log", ("active", "waiting")),
    ],
)
def test_whose_turn_it_is_follows_from_the_last_line(
    source: str, expected: tuple[str, str]
) -> None:
    """At the end it is the person's; while a tool runs it is the assistant's."""
    example = max(built_in(source), key=lambda example: len(example.whole))  # the session's
    row, messages = _main(source)
    assert (row.status, row.activity) == expected
    (result, *_) = [m for m in messages if m.role == "tool"] or messages[1:]
    until = Example(example.name, (example.whole[: result.revision + 1],))
    (at_work,) = [row for row in _read(source, until).conversations.values() if not row.agent_id]
    assert at_work.activity == "working"


@pytest.mark.parametrize(
    ("source", "roles"),
    [
        ("pi", "user assistant tool assistant assistant system system"),
        ("gptme", "system user assistant tool assistant"),
        ("vibe", "user system assistant tool assistant"),
        ("cursor", "system user assistant assistant"),
        ("qwen_code", "user assistant tool system assistant"),
        ("copilot_cli", "system user assistant tool assistant"),
        ("kimi_cli", "user assistant tool assistant"),
        ("iflow", "user assistant tool tool assistant"),
        ("chat_log", "system user assistant tool assistant"),
    ],
)
def test_each_message_is_there_once_with_who_spoke(source: str, roles: str) -> None:
    """What the client put in for itself is the system's, what a tool gave back the tool's."""
    _, messages = _main(source)
    assert [message.role for message in messages] == roles.split()
    said = {message.text for message in messages}
    assert {"Plant the roses", "They are planted. \u2028 \U0001f339"} <= said


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("pi", (220, 29, 140, 3, 0)),
        ("gptme", (220, 29, 40, 3, 0)),
        ("vibe", (0, 0, 0, 0, 0)),
        ("cursor", (0, 0, 0, 0, 0)),
        ("qwen_code", (300, 29, 40, 0, 5)),
        ("copilot_cli", (200, 29, 100, 0, 5)),
        ("kimi_cli", (220, 29, 40, 0, 0)),
    ],
)
def test_tokens_are_counted_once_and_input_without_cache(
    source: str, expected: tuple[int, ...]
) -> None:
    """Whatever the provider counts into its input."""
    row, _ = _main(source)
    assert expected == (
        row.input_tokens,
        row.output_tokens,
        row.cache_read_tokens,
        row.cache_write_tokens,
        row.reasoning_tokens,
    )


@pytest.mark.parametrize("source", ["pi", "vibe", "cursor", "qwen_code", "copilot_cli", "kimi_cli"])
def test_tools_are_counted(source: str) -> None:
    """Also where their calls have no ids."""
    assert _main(source)[0].tool_usage_count == 1


@pytest.mark.parametrize(("source", "expected"), [("pi", 0.0165), ("gptme", 0.0125)])
def test_a_cost_that_is_stated_is_kept(source: str, expected: float) -> None:
    """With the message that it is of, in US dollars; nothing is priced from a table."""
    costs = [message.metadata.get("cost_usd", 0) for message in _main(source)[1]]
    assert sum(costs) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("source", "parent"),
    [
        ("pi", "0199aaaa-0000-7000-8000-000000000000"),
        ("qwen_code", "0199bbbb-0000-7000-8000-000000000000"),
    ],
)
def test_a_session_that_came_from_another_is_its_child(source: str, parent: str) -> None:
    """Whether the parent's file is there or not."""
    assert _main(source)[0].parent_id == conversation_id(OWNER, source, MACHINE, parent)


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("claude_code", 2),
        ("cursor", 1),
        ("copilot_cli", 1),
        ("kimi_cli", 2),
        ("pi", 1),
        ("qwen_code", 1),
        ("vibe", 1),
    ],
)
def test_a_subagent_is_a_child_of_its_session(source: str, count: int) -> None:
    """In a file of its own, or between the session's lines; its answer is its end."""
    main, _ = _main(source)
    rows = [row for e in built_in(source) for row in _read(source, e).conversations.values()]
    children = [row for row in rows if row.agent_id is not None]
    assert len(children) == count
    for child in children:
        assert (child.parent_id, child.session_id) == (main.id, main.session_id)
        assert (child.project_name, child.message_count) == (main.project_name, 2)
        assert (child.status, child.activity) == ("completed", "ended")


def test_what_copilot_rewinds_is_taken_back() -> None:
    """Its messages are marked deleted; what they cost to read stays counted."""
    (example,) = built_in("copilot_cli")
    stated = _read("copilot_cli", example)
    gone = sorted(row.text for row in stated.messages.values() if row.deleted_at is not None)
    assert gone == ["No, tulips", "Tulips."]


@pytest.mark.parametrize(
    ("data", "role"),
    [
        ({"source": "user"}, "user"),
        ({"source": "skill-pdf"}, "system"),
        ({"source": "agent-gardener"}, "system"),
        ({"source": "autopilot"}, "system"),
        ({"source": "system"}, "system"),
        ({"source": "autopilot-objective"}, "user"),
        ({"source": "command-plan"}, "user"),
        ({"isAutopilotContinuation": True}, "system"),
        ({"source": ["odd"]}, "user"),
    ],
)
def test_what_copilot_says_in_a_users_name_is_the_systems(data: dict[str, Any], role: str) -> None:
    """Skills, other agents, and the loop that goes on by itself speak as users to the model."""
    event = {"type": "user.message", "data": {"content": "Go on", **data}}
    said = CopilotCli().said(event)
    assert said is not None and said.role == role


@pytest.mark.parametrize("kind", ["system.message", "system.notification"])
def test_what_copilot_tells_its_model_is_the_systems(kind: str) -> None:
    """Also that a subagent or a command in the background has ended: the answer is to that."""
    said = CopilotCli().said({"type": kind, "data": {"content": "It has ended."}})
    assert said is not None and (said.role, said.content) == ("system", "It has ended.")


def test_subagents_of_older_copilots_are_known_by_the_call_that_began_them() -> None:
    """As jazzyalex/agent-sessions has them, `Resources/Fixtures/stage0/agents/copilot`."""
    (example,) = built_in("copilot_cli")
    lines = [json.loads(line) for line in example.whole.splitlines()]
    for line in lines:
        if agent := line.pop("agentId", None):
            named = "toolCallId" if line["type"].startswith("subagent.") else "parentToolCallId"
            line["data"][named] = agent
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    newer, older = (
        _read("copilot_cli", example),
        _read("copilot_cli", Example(example.name, (data,))),
    )
    assert older.conversations.keys() == newer.conversations.keys()
    assert older.messages.keys() == newer.messages.keys()


def test_who_began_a_subagent_of_copilot_is_its_user() -> None:
    """As in every format: the prompt of a subagent is its title."""
    data = {"content": "Dig a hole", "source": "agent-gardener"}
    said = CopilotCli().said({"type": "user.message", "agentId": "a1", "data": data})
    assert said is not None and said.role == "user"


@pytest.mark.parametrize(
    ("said", "role"),
    [
        ("<system-reminder>A task has ended.</system-reminder>", "system"),
        ([{"type": "text", "text": "<system-reminder>\nGo on.\n</system-reminder>"}], "system"),
        ("Plant the roses", "user"),
    ],
)
def test_a_turn_that_kimi_begins_by_itself_is_its_own(said: Any, role: str) -> None:
    """The model is at work in it, whoever asked."""
    message = {"type": "TurnBegin", "payload": {"user_input": said}}
    found = KimiCli().said({"timestamp": 1.0, "message": message})
    assert found is not None and (found.role, found.state) == (role, ("active", "working"))


def test_what_gptme_asks_by_itself_is_its_own() -> None:
    """Where nobody is asked, it goes on in a user's name (`gptme/tools/complete.py`)."""
    line = {"role": "user", "timestamp": "2026-03-04T05:06:07"}
    found = Gptme().said({**line, "content": "<system>No tool call detected.</system>"})
    assert found is not None and (found.role, found.state) == ("system", ("active", "working"))
    typed = Gptme().said({**line, "content": "Plant the roses"})
    assert typed is not None and typed.role == "user"


def test_a_response_of_iflow_is_one_message_however_many_windows_show_it() -> None:
    """Its calls are there once, in their order, and what tools gave back is readable."""
    _, (_, answer, first, *_) = _main("iflow")
    calls = [block["id"] for block in answer.content if block["type"] == "tool_use"]
    assert (calls, answer.text, first.text) == (["c1", "c2"], "Looking.", "spade\nrake")


def test_each_line_of_a_dataset_is_a_conversation_that_is_over() -> None:
    """Its messages are in their order, under the line's place."""
    (example,) = built_in("chat_dataset")
    stated = _read("chat_dataset", example)
    by_title = {row.title: row for row in stated.conversations.values()}
    assert by_title.keys() == {"Plant the roses", "And tulips?", "Water them"}
    assert {(row.status, row.activity) for row in by_title.values()} == {("completed", "ended")}
    kind = by_title["Water them"].id
    mine = [row for row in stated.messages.values() if row.conversation_id == kind]
    in_order = [(row.role, row.text) for row in sorted(mine, key=lambda row: row.seq)]
    assert in_order == [
        ("system", "Be kind."),
        ("user", "Water them"),
        ("assistant", "They are wet."),
    ]


_UNITS = [" ", "a", "<a", "<user_query>", "</user_query> ", "<cwd>"]


@pytest.mark.parametrize("source", sorted(FORMS))
def test_no_prompt_stalls_a_format(source: str) -> None:
    """Long runs of anything are read in the time of their length, four times that at most."""
    for unit in _UNITS:
        few, many = (_seconds(source, f"<{unit * count}.") for count in (2_000, 100_000))
        assert many < few * 50 * 4 + 0.5, unit


def _seconds(source: str, prompt: str) -> float:
    """Return the CPU time of reading a format's examples with that for a prompt."""
    examples = [
        Example(
            example.name,
            tuple(
                re.sub(rb"Plant the roses|Water them", prompt.encode(), one)
                for one in example.states
            ),
        )
        for example in built_in(source)
    ]
    began = time.process_time()
    for example in examples:
        _read(source, example)
    return time.process_time() - began
