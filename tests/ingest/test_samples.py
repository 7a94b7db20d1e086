"""Real transcripts against a count that shares no code with the library."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.ingest.folding import stated
from tests.samples import claude_transcripts

_USAGE = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cache_read_input_tokens",
    "cache_write_tokens": "cache_creation_input_tokens",
}


def _records(path: Path) -> list[dict[str, Any]]:
    lines = path.read_bytes().split(b"\n")
    return [json.loads(line) for line in lines if line.strip()]


def _real_answers(path: Path) -> list[dict[str, Any]]:
    answers = [record for record in _records(path) if record["type"] == "assistant"]
    return [record for record in answers if record["message"].get("model") != "<synthetic>"]


def _chain(record: dict[str, Any], by_uuid: dict[str, dict[str, Any]]) -> str:
    """Return the conversation of an inline sidechain's record: its earliest marked ancestor."""
    while record.get("isSidechain"):
        parent = by_uuid.get(record.get("parentUuid") or "")
        if parent is None or not parent.get("isSidechain"):
            return str(record["uuid"])
        record = parent
    return ""


@pytest.mark.parametrize("path", claude_transcripts(), ids=lambda path: path.name)
def test_tokens_are_the_maximum_of_each_response_and_the_sum_of_those(path: Path) -> None:
    """Over all conversations of a file, nothing is counted twice or left out."""
    by_uuid = {r["uuid"]: r for r in _records(path) if "uuid" in r}
    inline = not path.stem.startswith("agent-")
    most: dict[tuple[str, str, str], int] = defaultdict(int)
    for record in _real_answers(path):
        chain = _chain(record, by_uuid) if inline else ""
        usage = record["message"].get("usage") or {}
        for ours, theirs in _USAGE.items():
            key = (chain, record["message"]["id"], ours)
            most[key] = max(most[key], usage.get(theirs) or 0)
    conversations, _ = stated(path)
    for ours in _USAGE:
        expected = sum(value for (_, _, name), value in most.items() if name == ours)
        assert sum(getattr(row, ours) for row in conversations) == expected


@pytest.mark.parametrize("path", claude_transcripts(), ids=lambda path: path.name)
def test_every_response_and_every_tool_call_is_there_once(path: Path) -> None:
    """One message for each response id of a chain, with all of its blocks."""
    by_uuid = {r["uuid"]: r for r in _records(path) if "uuid" in r}
    inline = not path.stem.startswith("agent-")
    blocks: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for record in _real_answers(path):
        chain = _chain(record, by_uuid) if inline else ""
        kept = blocks[chain, record["message"]["id"]]
        kept += [block for block in record["message"]["content"] if block not in kept]
    conversations, messages = stated(path)
    answers = [row for row in messages if row.role == "assistant"]
    assert len(answers) == len(blocks)
    assert sum(len(row.content) for row in answers) == sum(map(len, blocks.values()))
    calls = {
        (chain, block["id"])
        for (chain, _), found in blocks.items()
        for block in found
        if block["type"] == "tool_use"
    }
    assert sum(row.tool_usage_count for row in conversations) == len(calls)


@pytest.mark.parametrize("path", claude_transcripts(), ids=lambda path: path.name)
def test_every_prompt_and_tool_result_is_a_message(path: Path) -> None:
    """No line of a person, a tool or the client is lost, in the order of the file."""
    users = [record["uuid"] for record in _records(path) if record["type"] == "user"]
    _, messages = stated(path)
    kept = {row.metadata["uuid"] for row in messages if row.metadata.get("type") == "user"}
    assert kept == set(users)
    for conversation in {row.conversation_id for row in messages}:
        places = [row.seq for row in messages if row.conversation_id == conversation]
        assert places == sorted(set(places))
