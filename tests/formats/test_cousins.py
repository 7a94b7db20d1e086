"""What people ask of a conversation, the same in every format that is a log of lines."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from conv_realtime.core.formats import BUILT_IN
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
        ("cursor", {"title": "Plant the roses", "model": None, "started_at": None}),
        ("qwen_code", {"title": "Roses behind the shed", "model": "qwen-test", **_GARDEN}),
        ("copilot_cli", {"title": "Roses behind the shed", "model": "gpt-test", **_GARDEN}),
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
    ],
)
def test_whose_turn_it_is_follows_from_the_last_line(
    source: str, expected: tuple[str, str]
) -> None:
    """At the end it is the person's; while a tool runs it is the assistant's."""
    (example, *_) = built_in(source)
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
        ("cursor", "user assistant assistant"),
        ("qwen_code", "user assistant tool system assistant"),
        ("copilot_cli", "system user assistant tool assistant"),
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


@pytest.mark.parametrize("source", ["pi", "vibe", "cursor", "qwen_code", "copilot_cli"])
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


@pytest.mark.parametrize("source", ["cursor", "copilot_cli"])
def test_a_subagent_is_a_child_of_its_session(source: str) -> None:
    """In a file of its own, or between the session's lines."""
    main, _ = _main(source)
    rows = [row for e in built_in(source) for row in _read(source, e).conversations.values()]
    (child,) = [row for row in rows if row.agent_id is not None]
    assert (child.parent_id, child.session_id) == (main.id, main.session_id)
    assert child.project_name == main.project_name
    assert child.message_count == 2


def test_what_copilot_rewinds_is_taken_back() -> None:
    """Its messages are marked deleted; what they cost to read stays counted."""
    (example,) = built_in("copilot_cli")
    stated = _read("copilot_cli", example)
    gone = sorted(row.text for row in stated.messages.values() if row.deleted_at is not None)
    assert gone == ["No, tulips", "Tulips."]
