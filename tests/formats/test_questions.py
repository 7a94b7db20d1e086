"""Whose turn it is while an assistant asks a person: to choose, to take a plan, to allow."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from conv_realtime.core.formats.copilot_cli import CopilotCli
from conv_realtime.core.formats.kimi_cli import KimiCli
from conv_realtime.core.formats.qwen_code import QwenCode
from conv_realtime.core.json_lines import JsonLines
from conv_realtime.testing.formats.reading import Reading, folder

_SESSION = "0199bbbb-0000-7000-8000-000000000002"
_FILES: dict[type[JsonLines], str] = {
    CopilotCli: f"{_SESSION}/events.jsonl",
    KimiCli: f"{_SESSION}/wire.jsonl",
    QwenCode: f"{_SESSION}.jsonl",
}


def _turn(form: type[JsonLines], *lines: dict[str, Any]) -> dict[str | None, tuple[str, str]]:
    """Return status and activity of the session, and of each subagent in its file."""
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    with folder() as place:
        stated = asyncio.run(Reading(form(), place, _FILES[form]).read([data]))
    return {row.agent_id: (row.status, row.activity) for row in stated.conversations.values()}


def _copilot(kind: str, agent: str | None = None, **data: Any) -> dict[str, Any]:
    begins = {"sessionId": _SESSION} if kind == "session.start" else {}
    of = {"agentId": agent} if agent else {}
    return {"type": kind, "id": f"{kind}-{agent}-{len(str(data))}", "data": data | begins, **of}


def _kimi(kind: str, **payload: Any) -> dict[str, Any]:
    return {"timestamp": 1.0, "message": {"type": kind, "payload": payload}}


def _qwen(kind: str, part: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "uuid": f"{kind}-{part}", "sessionId": _SESSION,
            "message": {"parts": [part]}}  # fmt: skip


def _asked(form: type[JsonLines], tool: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return lines that end with a call of a tool, and the line that answers it."""
    if form is CopilotCli:
        calls = [
            {"toolCallId": "c1", "name": tool, "arguments": {}},
            {"toolCallId": "c2", "name": "view", "arguments": {}},
        ]
        asks = _copilot("assistant.message", messageId="m1", content="", toolRequests=calls)
        answer = _copilot("tool.execution_complete", toolCallId="c1", result={"content": "Red"})
        return [_copilot("session.start"), asks], answer
    if form is KimiCli:
        asks = _kimi("ToolCall", id="c1", function={"name": tool, "arguments": "{}"})
        answer = _kimi("ToolResult", tool_call_id="c1", return_value={"output": "Red"})
        return [_kimi("TurnBegin", user_input="Plant the roses"), asks], answer
    asks = _qwen("assistant", {"functionCall": {"id": "c1", "name": tool, "args": {}}})
    answer = _qwen("tool_result", {"functionResponse": {"id": "c1", "response": {"output": "Red"}}})
    return [_qwen("user", {"text": "Plant the roses"}), asks], answer


@pytest.mark.parametrize(
    ("form", "tool", "activity"),
    [
        (CopilotCli, "ask_user", "waiting"),
        (CopilotCli, "exit_plan_mode", "waiting"),
        (CopilotCli, "bash", "working"),
        (KimiCli, "AskUserQuestion", "waiting"),
        (KimiCli, "ExitPlanMode", "waiting"),
        (KimiCli, "Shell", "working"),
        (QwenCode, "ask_user_question", "waiting"),
        (QwenCode, "exit_plan_mode", "waiting"),
        (QwenCode, "read_file", "working"),
    ],
)
def test_a_question_is_the_persons_turn_until_it_is_answered(
    form: type[JsonLines], tool: str, activity: str
) -> None:
    """As in Claude Code and Codex; any other tool is work."""
    asked, answer = _asked(form, tool)
    assert _turn(form, *asked)[None] == ("active", activity)
    assert _turn(form, *asked, answer)[None] == ("active", "working")


@pytest.mark.parametrize(
    ("form", "asks", "answers"),
    [
        (CopilotCli, _copilot("permission.requested"), _copilot("permission.completed")),
        (KimiCli, _kimi("ApprovalRequest", id="a1"), _kimi("ApprovalResponse", request_id="a1")),
        (KimiCli, _kimi("QuestionRequest", id="q1"), _asked(KimiCli, "Shell")[1]),
    ],
)
def test_it_is_the_persons_turn_until_they_allow_it(
    form: type[JsonLines], asks: dict[str, Any], answers: dict[str, Any]
) -> None:
    """Where a transcript says so: others tell nothing of what they ask leave for."""
    called, _ = _asked(form, "Shell")
    assert _turn(form, *called, asks)[None] == ("active", "waiting")
    assert _turn(form, *called, asks, answers)[None] == ("active", "working")


def test_what_a_hook_allows_is_asked_of_nobody() -> None:
    """Copilot CLI tells that as well, and marks it."""
    called, _ = _asked(CopilotCli, "bash")
    asks = _copilot("permission.requested", resolvedByHook=True)
    assert _turn(CopilotCli, *called, asks)[None] == ("active", "working")


def test_a_subagent_that_asks_has_not_ended() -> None:
    """It waits as its session would; one that has answered would be over."""
    called, _ = _asked(CopilotCli, "bash")
    dig = _copilot("user.message", "a1", content="Dig")
    asks = _copilot("permission.requested", "a1")
    assert _turn(CopilotCli, *called, dig, asks)["a1"] == ("active", "waiting")
    calls = [{"toolCallId": "c9", "name": "ask_user", "arguments": {}}]
    asks = _copilot("assistant.message", "a1", messageId="m9", toolRequests=calls)
    assert _turn(CopilotCli, *called, dig, asks)["a1"] == ("active", "waiting")
