"""Files that others published, against counts that share no code with the library."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from conv_realtime.models import Conversation, Message
from conv_realtime.testing.formats import contract
from conv_realtime.testing.formats.examples import Example
from conv_realtime.testing.formats.reading import Reading, folder
from tests.formats.test_cousins import FORMS
from tests.samples import SAMPLES

_OTHERS = SAMPLES / "other-fixtures" / "agentsview"
_FOUND = [
    (source, path)
    for source, pattern in (
        ("iflow", "iflow/*.jsonl"),
        ("gptme", "gptme/*/conversation.jsonl"),
        ("pi", "pi/*.jsonl"),
        ("vibe", "vibe/*/messages.jsonl"),
    )
    for path in sorted(_OTHERS.glob(pattern))
]
_HISTORIES = sorted((SAMPLES / "aider").glob(".aider*"))


def _records(path: Path) -> list[dict[str, Any]]:
    found = []
    for line in path.read_bytes().split(b"\n"):
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def _stated(source: str, path: Path) -> tuple[list[Conversation], list[Message]]:
    name = f"{path.parent.name}/{path.name}"
    with folder() as place:
        read = Reading(FORMS[source], place, name).read([path.read_bytes()])
        stated = asyncio.run(read)
    messages = sorted(stated.messages.values(), key=lambda row: row.seq)
    return list(stated.conversations.values()), messages


def _said(source: str, path: Path) -> list[tuple[str, str]]:
    """Return who said what in a file, read in the plainest way."""
    said = []
    for record in _records(path):
        message = record.get("message", record)
        role = {"toolResult": "tool"}.get(message.get("role"), message.get("role"))
        content = message.get("content")
        if role is None:
            continue
        if isinstance(content, str):
            said.append((role, content))
        elif isinstance(content, list):
            texts = [part["text"] for part in content if part.get("type") == "text"]
            said.append((role, "\n\n".join(texts)))
    return said


@pytest.mark.parametrize(("source", "path"), _FOUND, ids=lambda value: str(value)[-30:])
def test_what_people_and_models_said_is_there_in_its_order(source: str, path: Path) -> None:
    """Every text of a line is in a message of that role, and none is there twice."""
    _, messages = _stated(source, path)
    for role in ("user", "assistant"):
        expected = [text for who, text in _said(source, path) if who == role and text]
        found = [row.text for row in messages if row.role == role and row.text]
        assert found == expected


@pytest.mark.parametrize(("source", "path"), _FOUND, ids=lambda value: str(value)[-30:])
def test_every_call_of_a_tool_is_counted_once(source: str, path: Path) -> None:
    """However many lines show it."""
    pattern = rb'"type": ?"(?:tool_use|toolCall)", ?"id": ?"([^"]+)"|"id": "(call_[^"]+)", "index"'
    calls = {one or other for one, other in re.findall(pattern, path.read_bytes())}
    (row,), messages = _stated(source, path)
    assert row.tool_usage_count == len(calls)
    results = [row for row in messages if row.role == "tool"]
    assert all(row.text for row in results)


@pytest.mark.parametrize("path", _HISTORIES, ids=lambda path: path.name)
def test_each_run_and_prompt_of_a_real_history_of_aider_is_there(path: Path) -> None:
    """As many conversations as runs in which something was said, and every typed line."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    conversations, messages = _stated("aider", path)
    runs: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("# aider chat started at "):
            runs.append([])
        elif line.strip():
            runs[-1].append(line)
    assert len(conversations) == sum(map(bool, runs))
    typed = [line[4:].strip() for line in lines if re.fullmatch("####.*  ", line)]
    prompts = [line for row in messages if row.role == "user" for line in row.text.split("\n")]
    assert [line.strip() for line in prompts if line.strip()] == [line for line in typed if line]
    kept = sum(len(re.findall(r"\S", row.text)) for row in messages)
    marks = sum(len(line) - len(line.lstrip("#>")) for line in lines if line[:1] in "#>")
    whole = len(re.findall(r"\S", "\n".join(line for run in runs for line in run)))
    assert whole - marks <= kept <= whole


@pytest.mark.parametrize(
    ("source", "path"), [*_FOUND, *(("aider", path) for path in _HISTORIES)],
    ids=lambda value: str(value)[-30:],
)  # fmt: skip
def test_real_files_hold_to_the_contract(source: str, path: Path) -> None:
    """In any pieces, with restarts, and spoiled."""
    data = path.read_bytes()
    example = Example(f"{path.parent.name}/{path.name}", (data[:60_000],))
    values = {"format": FORMS[source], "examples": {example.name: example.whole}}
    check = type("Contract", (contract.FormatContract,), values)()
    check.test_any_growth_ends_in_the_same_rows()
    check.test_a_restart_anywhere_changes_nothing()
