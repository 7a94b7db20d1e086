"""Tasks of Roo Code and Cline: what their view shows, as conversations."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path, PurePath
from typing import Any

import pytest

from conv_realtime.core.format import Head
from conv_realtime.core.formats.cline_tasks import Cline, RooCode
from conv_realtime.core.said import Said
from conv_realtime.models import Message
from conv_realtime.testing.formats.examples import built_in
from conv_realtime.testing.formats.reading import Reading, Stated, folder


def _read(form: RooCode | Cline) -> tuple[Stated, list[Message]]:
    (example,) = built_in(form.source)
    with folder() as place:
        stated = asyncio.run(Reading(form, place, example.name).read(example.states))
    return stated, sorted(stated.live.messages.values(), key=lambda message: message.seq)


def _said(*items: dict[str, Any]) -> list[Said]:
    (task,) = Cline().conversations(list(items), PurePath("tasks/1/ui_messages.json"))
    return [one for one in task.messages if one is not None]


def _say(kind: str, text: Any = None, **more: Any) -> dict[str, Any]:
    stated = text if isinstance(text, str) or text is None else json.dumps(text)
    return {"ts": 1, "type": "say", "say": kind, "text": stated, **more}


def _ask(kind: str, text: Any = None, **more: Any) -> dict[str, Any]:
    return {**_say(kind, text, **more), "type": "ask", "say": None, "ask": kind}


def test_a_task_of_roo_code_has_its_responses_with_their_tools_and_tokens() -> None:
    """All that follows a request is one message, which grows in place."""
    stated, messages = _read(RooCode())
    (row,) = stated.conversations.values()
    assert (row.title, row.message_count, row.tool_usage_count) == ("Which beds are dry?", 4, 2)
    assert (row.session_id, row.activity) == ("0199abcd-0000-4000-8000-000000000002", "working")
    assert [(m.role, m.text) for m in messages] == [
        ("user", "Which beds are dry?"),
        ("assistant", "I look."),
        ("assistant", "Bed 3, with the roses."),
        ("user", "Water it."),
        ("system", "The pump does not answer."),
    ]
    assert [b["type"] for b in messages[1].content] == ["thinking", "text", "tool_use"]
    assert messages[1].content[2]["name"] == "readFile"
    assert messages[1].usage == {
        "input_tokens": 100, "output_tokens": 40, "cache_read_tokens": 1000,
        "cache_write_tokens": 100,
    }  # fmt: skip
    assert messages[1].metadata == {"cost_usd": 0.0125}
    call, result, _ = messages[2].content
    assert (call["input"], result["content"]) == (
        {"command": "cat moisture.txt"}, "bed 1: 41 %\nbed 3: 9 %",
    )  # fmt: skip
    assert [m.revision for m in messages] == [1, 2, 1, 1, 1]


def test_a_task_of_cline_has_its_model_and_what_a_server_gave_back() -> None:
    """Its input has what was cached beside it; a mark of its own is no text."""
    stated, messages = _read(Cline())
    (row,) = stated.conversations.values()
    assert (row.title, row.model, row.activity) == ("When do I sow beans?", "test-model", "waiting")
    answer = messages[1]
    assert answer.text == "After the frost.\n\nIn the middle of May."
    assert answer.usage == {"input_tokens": 300, "output_tokens": 30, "cache_read_tokens": 2000}
    _, call, result, _ = answer.content
    assert (call["name"], call["input"]) == ("almanac.frost", {"month": 5})
    assert (result["tool_use_id"], result["content"]) == (call["id"], "15 May")


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (_ask("followup", {"question": "Which?", "suggest": []}), ["text", "Which?"]),
        (_ask("followup", "Which?"), ["text", "Which?"]),
        (_ask("plan_mode_respond", {"response": "So."}), ["text", "So."]),
        (_say("reasoning", "Hm."), ["thinking", "Hm."]),
        (_say("text", "So.", reasoning="Hm."), ["thinking", "Hm.", "text", "So."]),
        (_ask("tool", "no JSON"), ["tool_use", {"text": "no JSON"}]),
        (_say("text", "x", images=["http://x/y.png", 7]), ["text", "x", "image", None]),
        (_say("checkpoint_created", "abc"), []),
        (_say("command_output", "of nothing"), []),
        (_ask("resume_task"), []),
        ({"ts": "?", "type": 5}, []),
    ],
)
def test_what_an_item_says(item: dict[str, Any], expected: list[Any]) -> None:
    """In a response; what is bookkeeping of the view says nothing."""
    found = _said(_say("task", "q"), _say("api_req_started", {}), item)[1:]
    told = [
        part
        for one in found
        for block in one.content
        if not isinstance(block, str)
        for part in (
            block["type"],
            block.get("text") or block.get("thinking") or block.get("input"),
        )
    ]
    assert told == expected


@pytest.mark.parametrize(
    ("last", "state"),
    [
        (_say("api_req_started", {}), ("active", "working")),
        (_say("text", "I look."), ("active", "working")),
        (_ask("followup", "Which?"), ("active", "waiting")),
        (_ask("followup", "Whi", partial=True), ("active", "working")),
        (_ask("command_output", "bed 1: 41 %"), ("active", "working")),
        (_ask("resume_task"), ("active", "waiting")),
        (_say("completion_result", "Bed 3."), ("active", "waiting")),
        (_say("error", "No such file"), ("active", "working")),
        (_ask("api_req_failed", "No quota"), ("error", "waiting")),
    ],
)
def test_the_last_item_says_whose_turn_it_is(last: dict[str, Any], state: tuple[str, str]) -> None:
    """Also where the request before it was not answered, or where it is none of the response."""
    with folder() as place:
        data = json.dumps([_say("task", "q"), _say("api_req_started", {}), last]).encode()
        read = Reading(Cline(), place, "tasks/1/ui_messages.json").read([data])
        (row,) = asyncio.run(read).conversations.values()
    assert (row.status, row.activity) == state


def test_notes_are_the_systems(tmp_path: Path) -> None:
    """Errors, and the summary that goes on for what was left out."""
    condensed = _say("condense_context", contextCondense={"summary": "They sow beans."})
    found = _said(_say("text", "q"), _say("text", "a"), _say("diff_error", "no"), condensed)
    assert [one.role for one in found] == ["user", "assistant", "system", "system"]
    assert [one.content for one in found[2:]] == ["no", "They sow beans."]


@pytest.mark.parametrize(
    ("path", "data", "whose"),
    [
        (
            "rooveterinaryinc.roo-cline/tasks/1",
            b'[{"ts": 1, "type": "say", "say": "text"}]',
            RooCode,
        ),
        ("saoudrizwan.claude-dev/tasks/1", b'[{"ts": 1, "type": "say", "say": "task"}]', Cline),
        ("elsewhere/1", b'[{"type": "ask", "ask": "tool", "ts": 1}]', Cline),
        ("elsewhere/1", b'[{"ts": 1, "role": "user"}]', None),
        ("elsewhere/1", b'{"ts": 1, "type": "say", "say": "text"}', None),
        ("elsewhere/1", b"[]", None),
    ],
)
def test_whose_a_task_is(path: str, data: bytes, whose: type[RooCode | Cline] | None) -> None:
    """By its folder, and by its first item; one that lies elsewhere is taken for Cline's."""
    at, head = PurePath("/x", path, "ui_messages.json"), Head(data, whole=True, resting=True)
    claims = {type(form): form.claim(at, head) for form in (RooCode(), Cline())}
    assert [kind for kind, claim in claims.items() if claim] == ([whose] if whose else [])
