"""What Claude Code's agents say to each other, and how a session passes into another file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conv_realtime.models import Conversation, Message
from tests.ingest.folding import stated
from tests.ingest.lines import SESSION, assistant, calls, line, result, says, user, uuid

_LETTER = '<teammate-message teammate_id="lead" color="blue">\nDig the bed\n</teammate-message>'
_BANNER = f"Another Claude session sent a message:\n{_LETTER}\n\nThis came from another session."
_DIRECTIVE = "<fork-boilerplate>\nYou are a fork.\n</fork-boilerplate>\n\nDig the bed"


def _read(
    folder: Path, *lines: bytes, name: str = f"{SESSION}.jsonl"
) -> tuple[Conversation, list[Message]]:
    path = folder / "-work-garden" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(lines))
    (conversation,), messages = stated(path)
    return conversation, messages


def _read_agent(folder: Path, *lines: bytes) -> tuple[Conversation, list[Message]]:
    return _read(folder, *lines, name=f"{SESSION}/subagents/agent-ab12.jsonl")


@pytest.mark.parametrize(
    ("record", "role"),
    [
        (user("x", _LETTER), "system"),
        (user("x", _BANNER), "system"),
        (user("x", "Another Claude session sent a message: why?"), "user"),
        (user("x", _LETTER, agentName="digger", origin={"kind": "peer"}), "user"),
        (user("x", _LETTER, agentName="team-lead"), "system"),
        (user("x", _LETTER, isSidechain=True), "user"),
    ],
)
def test_what_another_agent_says_is_no_persons(tmp_path: Path, record: bytes, role: str) -> None:
    """Nobody typed it into the session; to a subagent and to a teammate it is the prompt."""
    _, (message,) = _read(tmp_path, record)
    assert message.role == role


@pytest.mark.parametrize("said", [_LETTER, _BANNER, [result("t"), says(_DIRECTIVE)]])
def test_what_an_agent_is_told_is_its_title(tmp_path: Path, said: Any) -> None:
    """Without the tags and the client's words around it."""
    child, _ = _read_agent(tmp_path, user("q", said, isSidechain=True))
    assert child.title == "Dig the bed"


def test_the_response_that_called_a_fork_is_its_sessions_alone(tmp_path: Path) -> None:
    """A fork's file begins with it, tokens and all (agentforce314/clawcodex#13)."""
    ref = line("fork-context-ref", "f", uuid=..., parentSessionId=SESSION, contextLength=9)
    copied = [
        assistant("a", "msg_1", says("I split"), isSidechain=True),
        assistant("b", "msg_1", calls("t", "Agent"), isSidechain=True),
    ]
    own = [
        user("q", [result("t"), says(_DIRECTIVE)], isSidechain=True),
        assistant("c", "msg_2", calls("u"), isSidechain=True),
        user("r", [result("u")], isSidechain=True),
        assistant("d", "msg_3", says("Dug"), stop="end_turn", isSidechain=True),
    ]
    fork, messages = _read_agent(tmp_path, ref, *copied, *own)
    assert [row.role for row in messages] == ["user", "assistant", "tool", "assistant"]
    assert (fork.message_count, fork.output_tokens, fork.tool_usage_count) == (3, 10, 1)
    assert fork.status == "completed"
    plain, messages = _read_agent(tmp_path, ref, *own, *copied)
    assert (plain.output_tokens, len(messages)) == (15, 5)


def test_a_session_that_goes_on_in_the_background_has_ended(tmp_path: Path) -> None:
    """It is copied into another file, and the last line of its own says so.

    Daily-Nerd/daimon#924, giulio333/ClaudeLens#250. What is said later begins it anew.
    """
    moved = line("continued-in", "m", uuid=..., continuedInSessionId=uuid("other"))
    lines = [user("q"), assistant("a", "msg_1", calls("t")), moved]
    conversation, _ = _read(tmp_path, *lines, line("cost-state", "c", uuid=..., totalCostUSD=1))
    assert (conversation.status, conversation.activity) == ("completed", "ended")
    conversation, _ = _read(tmp_path, *lines, user("r", "and now?"))
    assert (conversation.status, conversation.activity) == ("active", "working")
