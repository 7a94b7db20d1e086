"""What stands in a line of Cursor's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from conv_realtime.core.formats.cursor import Cursor
from conv_realtime.core.json_lines import Said

_STAMP = "<timestamp>Friday, Sep 4, 2026, 12:21 AM (UTC+8)</timestamp>\n"


def _said(role: str, text: str) -> Said:
    content = [{"type": "text", "text": text}]
    said = Cursor().said({"role": role, "message": {"content": content}})
    assert said is not None
    return said


def _texts(said: Said) -> list[Any]:
    assert not isinstance(said.content, str)
    return [block["text"] for block in said.content if block["type"] == "text"]


@pytest.mark.parametrize(
    ("stated", "at"),
    [
        ("Friday, Sep 4, 2026, 2:21 AM (UTC+8)", datetime(2026, 9, 3, 18, 21, tzinfo=UTC)),
        ("Friday, May 8, 2026, 3:53 PM (UTC+5:30)", datetime(2026, 5, 8, 10, 23, tzinfo=UTC)),
        ("Sunday, May 31, 2026, 12:19 PM (UTC-7)", datetime(2026, 5, 31, 19, 19, tzinfo=UTC)),
        ("May 31, 2026, 12:19 AM (UTC)", datetime(2026, 5, 31, 0, 19, tzinfo=UTC)),
        ("Sunday, May 31, 2026, 12:19 AM", None),
        ("Sunday, Feb 31, 2026, 12:19 AM (UTC)", None),
        ("Sonntag, Mai 31, 2026, 12:19 AM (UTC)", None),
        ("Sunday, May 31, 2026, 12:61 AM (UTC+99:99)", None),
        ("today", None),
    ],
)
def test_a_prompt_has_the_time_that_stands_before_it(stated: str, at: datetime | None) -> None:
    """Where it says in which zone; nothing is guessed."""
    said = _said("user", f"<timestamp>{stated}</timestamp>\n<user_query>\nhi\n</user_query>")
    assert (said.role, _texts(said), said.created_at) == ("user", ["hi"], at)


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("<user_query>\nPlant roses\n</user_query>\n[Image]", "Plant roses"),
        (
            "<user_query>What is </user_query> for, and <user_query>?</user_query>",
            "What is </user_query> for, and <user_query>?",
        ),
        (f"{_STAMP}Plant roses", "Plant roses"),
        ("<timestamp>Plant roses", "<timestamp>Plant roses"),
        ("<user_query>Plant roses", "<user_query>Plant roses"),
        ("<rules>\nBe brief.\n</rules>\n<user_query>Plant roses</user_query>", "Plant roses"),
        ("What does <dynamic_tools> mean?", "What does <dynamic_tools> mean?"),
        ("<div>Plant roses</div>", "<div>Plant roses</div>"),
    ],
)
def test_a_prompt_is_what_was_typed(text: str, prompt: str) -> None:
    """Also where that holds the tags that Cursor puts around it."""
    said = _said("user", text)
    assert (said.role, _texts(said)) == ("user", [prompt])


@pytest.mark.parametrize(
    "text",
    [
        "<dynamic_tools>\nTools.\n</dynamic_tools>",
        f"{_STAMP}<available_subagent_types>\n- explore\n</available_subagent_types>",
        _STAMP,
        f"{_STAMP}<system_notification>\nA task has finished.\n</system_notification>\n"
        "<user_query>Briefly inform the user about the task result.</user_query>",
        "<user_query>Briefly inform the user about the task result.</user_query>",
    ],
)
def test_what_cursor_says_in_the_users_name_is_the_systems(text: str) -> None:
    """It is no prompt, gives no title, and begins no turn."""
    said = _said("user", text)
    assert (said.role, _texts(said)) == ("system", [text])


@pytest.mark.parametrize(
    ("text", "kinds", "texts"),
    [
        ("Done.\n\n[REDACTED]", ["text", "redacted_thinking"], ["Done."]),
        ("[REDACTED]", ["redacted_thinking"], []),
        ("It says [REDACTED]", ["text"], ["It says [REDACTED]"]),
    ],
)
def test_where_a_model_thought_is_no_text_of_its_answer(
    text: str, kinds: list[str], texts: list[str]
) -> None:
    """Cursor leaves a mark there."""
    said = _said("assistant", text)
    assert [block["type"] for block in said.content if isinstance(block, dict)] == kinds
    assert _texts(said) == texts


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"status": "success"}, "active"),
        ({"status": "aborted", "error": "User aborted/interrupted manually."}, "active"),
        ({"status": "error", "error": "User aborted request"}, "active"),
        ({"status": "error", "error": "[invalid_argument] Error"}, "error"),
        ({"status": "error"}, "error"),
    ],
)
def test_who_stops_a_turn_makes_no_error(fields: dict[str, Any], status: str) -> None:
    """Cursor tells it as an error, or as aborted."""
    assert Cursor().noted({"type": "turn_ended", **fields}).state == (status, "waiting")
