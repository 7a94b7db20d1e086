"""oh-my-pi's sessions, of which it overwrites the first line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conv_realtime.testing import MemoryStore
from tests.ingest.running import backfill, ingest, write

_NAME = "-garden/2026-03-04T05-06-07-000Z_s1.jsonl"


def _slot(title: str) -> bytes:
    slot = {"type": "title", "v": 1, "title": title, "updatedAt": "2026-03-04T05:06:07Z", "pad": ""}
    return _line(slot | {"pad": " " * (255 - len(json.dumps(slot)))})


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record).encode() + b"\n"


def _said(name: str, role: str, text: str) -> bytes:
    return _line({"type": "message", "id": name, "message": {"role": role, "content": text}})


_BEGUN = (
    _line({"type": "session", "version": 3, "id": "s1", "cwd": "/work/garden"}),
    _said("e1", "user", "Plant the roses"),
)
_NAMED = (
    _line({"type": "title_change", "id": "e2", "title": "Roses", "source": "auto"}),
    _said("e3", "assistant", "Planted"),
)


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_title_that_is_overwritten_in_its_place_changes_no_message(
    tmp_path: Path, restarted: bool
) -> None:
    """While the file is followed, and where only a checkpoint knows it."""
    store = MemoryStore()
    write(tmp_path, _slot(""), *_BEGUN, name=_NAME)
    async with ingest(tmp_path, store) as river:
        await river.backfill()
        assert [row.title for row in store.conversations.values()] == ["Plant the roses"]
        write(tmp_path, _slot("Roses"), *_BEGUN, *_NAMED, name=_NAME)
        if not restarted:
            await river.backfill()
    await backfill(tmp_path, store)
    (row,) = store.conversations.values()
    assert (row.title, row.message_count) == ("Roses", 2)
    assert [
        (m.role, m.deleted_at) for m in sorted(store.messages.values(), key=lambda m: m.seq)
    ] == [
        ("user", None),
        ("assistant", None),
    ]
