"""What Copilot CLI spends, told at each end of the program, and what goes wrong."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from conv_realtime.core.formats.copilot_cli import CopilotCli
from conv_realtime.models import Conversation
from conv_realtime.testing.formats.reading import Reading, folder

Spent = tuple[int, int, int]
"""Tokens of the input, of the cache and of the output."""


def _answer(output: int) -> dict[str, Any]:
    return {"type": "assistant.message", "data": {"content": "Roses.", "outputTokens": output}}


def _end(*spent: Spent) -> dict[str, Any]:
    names = ("inputTokens", "cacheReadTokens", "outputTokens")
    metrics = {
        f"m{number}": {"usage": dict(zip(names, one, strict=True))}
        for number, one in enumerate(spent)
    }
    return {"type": "session.shutdown", "data": {"modelMetrics": metrics}}


def _read(*events: dict[str, Any]) -> Conversation:
    start = {"type": "session.start", "data": {"sessionId": "s1", "context": {"cwd": "/w"}}}
    lines = b""
    for number, event in enumerate((start, *events)):
        data = {"messageId": f"m{number}", **event["data"]}
        lines += json.dumps({**event, "data": data, "id": f"e{number}"}).encode() + b"\n"
    with folder() as place:
        read = Reading(CopilotCli(), place, "s1/events.jsonl").read([lines])
        (row,) = asyncio.run(read).conversations.values()
    return row


@pytest.mark.parametrize(
    ("events", "spent"),
    [
        ([_answer(10), _end((100, 60, 10))], (40, 60, 10)),
        (
            # Resumed twice: the session's totals.
            [
                *(_answer(10), _end((100, 60, 10))),
                *(_answer(30), _end((500, 400, 40))),
                *(_answer(5), _end((600, 480, 45))),
            ],
            (120, 480, 45),
        ),
        (
            # Resumed in an older version: each program's own.
            [_answer(10), _end((100, 60, 10)), _answer(30), _end((400, 340, 30))],
            (100, 400, 40),
        ),
        (
            # Of two models.
            [
                *(_answer(10), _end((100, 60, 4), (50, 0, 6))),
                *(_answer(30), _end((500, 400, 34), (50, 0, 6))),
            ],
            (150, 400, 40),
        ),
        (
            # Begun anew by a compaction in between.
            [_answer(10), _end((100, 60, 10)), _answer(200), _answer(3), _end((90, 50, 3))],
            (80, 110, 213),
        ),
        (
            # An end that states nothing.
            [_answer(10), _end((100, 60, 10)), _answer(1), _end(), _answer(2), _end((200, 70, 13))],
            (130, 70, 13),
        ),
        # Before any answer: there is no message that it could be of.
        ([{"type": "user.message", "data": {"content": "Hi"}}, _end((100, 60, 0))], (0, 0, 0)),
    ],
)
def test_what_was_read_is_counted_once(events: list[dict[str, Any]], spent: Spent) -> None:
    """What each answer states of itself tells how a total is meant."""
    row = _read(*events)
    assert (row.input_tokens, row.cache_read_tokens, row.output_tokens) == spent


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("session.error", {"errorType": "quota", "message": "None is left."}),
        ("session.compaction_complete", {"success": True, "summaryContent": "None is left."}),
    ],
)
def test_why_copilot_failed_and_what_it_compacts_to_is_said(
    kind: str, data: dict[str, Any]
) -> None:
    """As in every format; an event that states no text of it is no message."""
    said = CopilotCli().said({"type": kind, "id": "e1", "data": data})
    assert said is not None and (said.role, said.content) == ("system", "None is left.")
    assert CopilotCli().said({"type": kind, "id": "e1", "data": {"success": False}}) is None


def test_a_command_of_the_shell_is_no_work_of_the_model() -> None:
    """What a person runs with `!`, and its output, are there; it is still their turn."""
    command = {"toolCallId": "c1", "toolName": "local_shell", "arguments": {"command": "ls"}}
    done = {"toolCallId": "c1", "isUserRequested": True, "success": True}
    empty = {"type": "tool.execution_complete", "data": {**done, "result": {"content": ""}}}
    row = _read(
        _answer(10),
        {"type": "tool.user_requested", "data": command},
        {"type": "tool.execution_complete", "data": {**done, "result": {"content": "spade"}}},
        empty,
    )
    assert (row.activity, row.message_count, row.tool_usage_count) == ("waiting", 1, 0)
    said = [
        CopilotCli().said(event)
        for event in (
            {"type": "tool.user_requested", "data": command},
            {"type": "tool.execution_complete", "data": {**done, "error": {"message": "no"}}},
            empty,
        )
    ]
    assert [one and (one.role, one.content) for one in said] == [
        ("system", "$ ls"),
        ("system", "no"),
        None,
    ]
