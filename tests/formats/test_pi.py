"""Pi's sessions, and oh-my-pi's after them."""

from __future__ import annotations

import asyncio
import json
from pathlib import PurePath
from typing import Any

import pytest

from conv_realtime.core.format import Head, Recognised
from conv_realtime.core.formats.pi import Pi
from conv_realtime.models import conversation_id
from conv_realtime.testing.formats.reading import MACHINE, OWNER, Reading, Stated, folder

_NAME = "--work-garden--/2026-03-04T05-06-07-000Z_s1.jsonl"
_HEADER = {"type": "session", "version": 3, "id": "s1", "cwd": "/work/garden"}
_PROMPT = {"type": "message", "id": "e1", "message": {"role": "user", "content": "Plant roses"}}


def _slot(title: str) -> dict[str, Any]:
    slot = {"type": "title", "v": 1, "title": title, "updatedAt": "2026-03-04T05:06:07Z", "pad": ""}
    return slot | {"pad": " " * (255 - len(json.dumps(slot)))}


def _lines(*records: dict[str, Any]) -> bytes:
    return "".join(f"{json.dumps(record)}\n" for record in records).encode()


def _stated(*records: dict[str, Any]) -> Stated:
    with folder() as place:
        return asyncio.run(Reading(Pi(), place, _NAME).read([_lines(*records)]))


def _answer(**fields: Any) -> dict[str, Any]:
    return {"type": "message", "id": "e2", "message": {"role": "assistant", **fields}}


@pytest.mark.parametrize(
    ("records", "title"),
    [
        ([_slot("")], "Plant roses"),
        ([_slot("Roses")], "Roses"),
        ([_slot("Tulips"), {"type": "title_change", "id": "e9", "title": "Roses"}], "Roses"),
    ],
)
def test_a_session_that_begins_with_its_title_is_read(
    records: list[dict[str, Any]], title: str
) -> None:
    """The line is overwritten with each new title, which is also appended."""
    slot, *later = records
    (row,) = _stated(slot, _HEADER, _PROMPT, *later).conversations.values()
    assert (row.title, row.session_id, row.message_count) == (title, "s1", 1)


@pytest.mark.parametrize(
    ("records", "claim"),
    [
        ([], "unsure"),
        ([_slot("Roses")], "unsure"),
        ([_slot("Roses"), _HEADER], Recognised("pi", "s1")),
        ([_slot("Roses"), _PROMPT], None),
    ],
)
def test_a_title_alone_does_not_tell_whose_a_file_is(
    records: list[dict[str, Any]], claim: object
) -> None:
    """It is written first, and the header behind it."""
    head = Head(_lines(*records), whole=True, resting=False)
    assert Pi().claim(PurePath(_NAME), head) == claim


@pytest.mark.parametrize("stated", ["s0", "/home/ada/.omp/x/2026-03-03T05-06-07-000Z_s0.jsonl"])
def test_a_fork_names_its_parent_or_the_parents_file(stated: str) -> None:
    """oh-my-pi writes either."""
    (row,) = _stated({**_HEADER, "parentSession": stated}, _PROMPT).conversations.values()
    assert row.parent_id == conversation_id(OWNER, "pi", MACHINE, "s0")


@pytest.mark.parametrize(("stop", "status"), [("error", "error"), ("aborted", "active")])
def test_why_nothing_was_answered_can_be_read(stop: str, status: str) -> None:
    """An answer that failed at once has a reason and no content."""
    failed = _answer(content=[], stopReason=stop, errorMessage="429 rate limited")
    found = _stated(_HEADER, _PROMPT, failed)
    (row,) = found.conversations.values()
    assert (row.status, row.activity) == (status, "waiting")
    assert [m.text for m in found.messages.values() if m.role == "assistant"] == [
        "429 rate limited"
    ]


@pytest.mark.parametrize("name", ["reasoning", "reasoningTokens"])
def test_what_was_thought_is_counted_among_the_output(name: str) -> None:
    """Under the name of either client."""
    usage = {"input": 7, "output": 5, name: 2}
    (row,) = _stated(_HEADER, _PROMPT, _answer(content=[], usage=usage)).conversations.values()
    assert (row.input_tokens, row.output_tokens, row.reasoning_tokens) == (7, 5, 2)


def test_what_a_summary_cost_is_counted() -> None:
    """Pi counts it with the session's."""
    usage = {"input": 7, "output": 5, "cost": {"total": 0.5}}
    summary = {"type": "compaction", "id": "e3", "summary": "Roses.", "usage": usage}
    found = _stated(_HEADER, _PROMPT, summary)
    (row,) = found.conversations.values()
    assert (row.input_tokens, row.output_tokens) == (7, 5)
    assert [m.metadata for m in found.messages.values() if m.role == "system"] == [
        {"cost_usd": 0.5}
    ]


def test_what_the_client_says_in_a_users_name_is_the_systems() -> None:
    """oh-my-pi goes on by itself with a prompt that it marks."""
    said = Pi().said(_PROMPT | {"message": {"role": "user", "content": "Go on", "synthetic": True}})
    assert said is not None
    assert said.role == "system"


def test_what_a_provider_did_by_itself_is_a_tools_call() -> None:
    """oh-my-pi keeps its blocks as they came."""
    block = {"type": "server_tool_use", "id": "t1", "name": "web_search", "input": {}}
    found = _stated(
        _HEADER, _PROMPT, _answer(content=[{"type": "anthropicServerTool", "block": block}])
    )
    (row,) = found.conversations.values()
    assert row.tool_usage_count == 1


def test_a_run_of_python_shows_its_code() -> None:
    """As one of the shell shows its command."""
    run = {"role": "pythonExecution", "code": "1 + 1", "output": "2"}
    said = Pi().said({"type": "message", "id": "e3", "message": run})
    assert said is not None
    assert said.content == [{"type": "text", "text": ">>> 1 + 1\n2"}]
