"""What Aider's histories say."""

from __future__ import annotations

import asyncio

import pytest

from conv_realtime.core.formats.aider import Aider
from conv_realtime.models import Conversation
from conv_realtime.testing.formats.examples import Example, built_in
from conv_realtime.testing.formats.reading import Reading, Stated, folder

_NAME = "garden/.aider.chat.history.md"


def _read(example: Example) -> Stated:
    with folder() as place:
        return asyncio.run(Reading(Aider(), place, example.name).read(example.states))


def _runs(data: str, name: str = _NAME) -> list[Conversation]:
    rows = _read(Example(name, (data.encode(),))).conversations.values()
    return sorted(rows, key=lambda row: row.session_id)


def test_each_run_of_aider_is_a_conversation() -> None:
    """Named by its file and when it began: those of two repositories never meet."""
    run = "# aider chat started at 2026-03-04 05:06:07\n\n#### hello  \n\nhi\n\n"
    (one,) = _runs(run)
    assert one.session_id.endswith("/garden/.aider.chat.history.md 2026-03-04 05:06:07")
    assert (one.project_name, one.title, one.message_count) == ("garden", "hello", 2)
    assert str(one.started_at) == "2026-03-04 05:06:07+00:00"
    (other,) = _runs(run, "shed/.aider.chat.history.md")
    assert other.id != one.id
    first, second = _runs(run * 2)
    assert (first.id, second.session_id) == (one.id, f"{one.session_id} #2")
    later = run.replace("05:06:07", "05:06:08")
    assert [row.id for row in _runs(run + later)] == [one.id, _runs(later)[0].id]


def test_aiders_markdown_is_told_from_the_models() -> None:
    """Indentation, blank lines and headings of an answer stay; prompts lose their marks."""
    (example,) = built_in("aider")
    stated = _read(example)
    said = {row.text: row for row in stated.messages.values()}
    assert said["Plant the roses\nbehind the shed"].role == "user"
    (answer,) = [row for text, row in said.items() if text.startswith("Looking.")]
    assert answer.text == (
        'Looking.\n\n```python\ndef plant(roses):\n\n    return "\u2028"\n```\n\n'
        "#### Step one of the plan\nThey are planted. \U0001f339"
    )
    assert (answer.role, answer.model) == ("assistant", "anthropic/claude-test")
    (bill,) = [row for row in stated.messages.values() if row.metadata]
    assert (bill.role, bill.metadata, bill.usage) == (
        "system",
        {"cost_usd": 0.02},
        {"input_tokens": 1220, "output_tokens": 29},
    )
    assert said["/add shed.py"].seq < said["And water them"].seq


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("#### go  \n", "user, assistant"), ("#### go\n", "user, assistant, user, assistant")],
)
def test_prompts_of_aider_may_have_lost_the_spaces_at_their_end(typed: str, expected: str) -> None:
    """As editors and hooks clean the files of a repository; the first prompt of a run tells."""
    data = f"# aider chat started at 2026-03-04 05:06:07\n\n{typed}hi\n\n#### Step one\n\nDig.\n"
    stated = _read(Example(_NAME, (data.encode(),)))
    said = sorted(stated.messages.values(), key=lambda message: message.seq)
    assert ", ".join(message.role for message in said) == expected
    (row,) = stated.conversations.values()
    assert (row.title, said[0].text) == ("go", "go")
