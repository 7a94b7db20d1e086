"""Cursor's transcripts, of which the next prompt takes the place of a turn's end."""

from __future__ import annotations

import json
from pathlib import Path

from conv_realtime.testing import MemoryStore
from tests.ingest.running import ingest, texts, write

_NAME = "-garden/agent-transcripts/c1/c1.jsonl"


def _said(role: str, text: str) -> bytes:
    return json.dumps({"role": role, "message": {"content": text}}).encode() + b"\n"


async def test_the_end_of_a_turn_that_the_next_prompt_replaces_takes_nothing_back(
    tmp_path: Path,
) -> None:
    """Messages keep their places, and it is the assistant's turn again."""
    store = MemoryStore()
    first = _said("user", "Plant roses"), _said("assistant", "Planted.")
    ended = b'{"type": "turn_ended", "status": "success"}\n'
    write(tmp_path, *first, ended, name=_NAME)
    async with ingest(tmp_path, store) as river:
        await river.backfill()
        assert [row.activity for row in store.conversations.values()] == ["waiting"]
        kept = set(store.messages)
        write(tmp_path, *first, _said("user", "Tulips, too"), name=_NAME)
        await river.backfill()
    assert texts(store) == ["Plant roses", "Planted.", "Tulips, too"]
    assert len(store.messages) == 3 and kept < set(store.messages)
    assert [row.activity for row in store.conversations.values()] == ["working"]
