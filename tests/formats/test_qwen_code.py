"""What Qwen Code's prompts and subagents say."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from conv_realtime.core.formats.qwen_code import QwenCode
from conv_realtime.models import Conversation
from conv_realtime.testing.formats.reading import Reading, Stated, folder

_SESSION = "0199bbbb-0000-7000-8000-000000000002"
_CALL = {"functionCall": {"id": "c1", "name": "list_directory", "args": {}}}
_HOOK = "<qwen:user-prompt-submit-context>\nbe kind\n</qwen:user-prompt-submit-context>"


def _record(kind: str, *parts: Any, **fields: Any) -> dict[str, Any]:
    said = [{"text": part} if isinstance(part, str) else part for part in parts]
    return {"type": kind, "message": {"parts": said}, **fields}


def _read(name: str, *records: dict[str, Any]) -> Conversation:
    (row,) = _stated(name, *records).conversations.values()
    return row


def _stated(name: str, *records: dict[str, Any]) -> Stated:
    lines = b""
    for number, record in enumerate(records):
        line = {"uuid": f"q{number}", "sessionId": _SESSION, "cwd": "/work/garden", **record}
        lines += json.dumps(line).encode() + b"\n"
    with folder() as place:
        return asyncio.run(Reading(QwenCode(), place, name).read([lines]))


def test_what_was_typed_is_the_title() -> None:
    """A hook, or a file that is named, adds to what the model is given."""
    typed = {"displayText": "Plant @roses.md", "hookContext": "be kind"}
    prompt = _record("user", "Plant\n--- roses.md ---", _HOOK, systemPayload=typed)
    assert _read(f"{_SESSION}.jsonl", prompt).title == "Plant @roses.md"


@pytest.mark.parametrize(
    ("parts", "state"),
    [
        (["Dug."], ("completed", "ended")),
        (["I look.", _CALL], ("active", "working")),
    ],
)
def test_a_subagent_has_ended_when_it_has_answered(
    parts: list[Any], state: tuple[str, str]
) -> None:
    """Nobody is waited for; a call of its next record would say that it goes on."""
    name = f"subagents/{_SESSION}/agent-a1.jsonl"
    marked = {"isSidechain": True, "agentId": "a1"}
    row = _read(name, _record("user", "Dig", **marked), _record("assistant", *parts, **marked))
    assert (row.agent_id, row.session_id) == ("a1", _SESSION)
    assert (row.status, row.activity) == state


def test_what_is_said_aloud_is_the_persons() -> None:
    """A talk is marked, also what a person says in it; none of it is of a command or a schedule."""
    aloud = {"subtype": "realtime_message"}
    stated = _stated(
        f"{_SESSION}.jsonl",
        _record("user", "Water the roses", **aloud, provenance="real_user"),
        _record("assistant", "They are wet.", **aloud, model="qwen-omni"),
        _record("user", "It is noon", subtype="cron"),
    )
    said = sorted(stated.messages.values(), key=lambda message: message.seq)
    assert [message.role for message in said] == ["user", "assistant", "system"]
    (row,) = stated.conversations.values()
    assert (row.title, row.model) == ("Water the roses", "qwen-omni")


@pytest.mark.parametrize(
    ("ended", "state", "said"),
    [
        ({"state": "completed"}, ("active", "waiting"), []),
        ({"state": "cancelled"}, ("active", "waiting"), []),
        ({"state": "error"}, ("error", "waiting"), []),
        ({"state": "error", "error": {"message": "No quota"}}, ("error", "waiting"), ["No quota"]),
    ],
)
def test_the_end_of_a_turn_says_whose_turn_it_is(
    ended: dict[str, Any], state: tuple[str, str], said: list[str]
) -> None:
    """A prompt that was cancelled, or that failed, has no answer and waits for none."""
    end = {"type": "system", "subtype": "turn_result", "systemPayload": {"promptId": "p", **ended}}
    stated = _stated(f"{_SESSION}.jsonl", _record("user", "Plant the roses"), end)
    (row,) = stated.conversations.values()
    assert (row.status, row.activity) == state
    told = [message.text for message in stated.messages.values() if message.role == "system"]
    assert told == said
