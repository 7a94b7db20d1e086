"""What Qwen Code's prompts and subagents say."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from conv_realtime.core.formats.qwen_code import QwenCode
from conv_realtime.models import Conversation
from conv_realtime.testing.formats.reading import Reading, folder

_SESSION = "0199bbbb-0000-7000-8000-000000000002"
_CALL = {"functionCall": {"id": "c1", "name": "list_directory", "args": {}}}
_HOOK = "<qwen:user-prompt-submit-context>\nbe kind\n</qwen:user-prompt-submit-context>"


def _record(kind: str, *parts: Any, **fields: Any) -> dict[str, Any]:
    said = [{"text": part} if isinstance(part, str) else part for part in parts]
    return {"type": kind, "message": {"parts": said}, **fields}


def _read(name: str, *records: dict[str, Any]) -> Conversation:
    lines = b""
    for number, record in enumerate(records):
        line = {"uuid": f"q{number}", "sessionId": _SESSION, "cwd": "/work/garden", **record}
        lines += json.dumps(line).encode() + b"\n"
    with folder() as place:
        (row,) = asyncio.run(Reading(QwenCode(), place, name).read([lines])).conversations.values()
    return row


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
