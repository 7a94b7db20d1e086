"""What the settings say of secrets, and the numbers that are told of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conv_realtime import ConfigError, Ingest
from conv_realtime.settings import Settings
from conv_realtime.testing import MemoryStore, claude_line

_OWNER = "5e551011-0000-4000-8000-0000000000ff"


def _token(letters: str) -> str:
    return "gh" + "p_" + letters * 9


def _ingest(tmp_path: Path, store: MemoryStore, **settings: Any) -> Ingest:
    return Ingest(store=store, owner_id=_OWNER, **{"state_dir": tmp_path / "state"} | settings)


async def _texts(tmp_path: Path, store: MemoryStore, **settings: Any) -> list[str]:
    async with _ingest(tmp_path, store, **settings) as ingest:
        await ingest.backfill([tmp_path / "p"])
    return [row.text for row in store.messages.values()]


async def test_settings_say_which_secrets_go(tmp_path: Path) -> None:
    """None, those of a known form, more than these, or one's own; what was sent is sent again."""
    (tmp_path / "p").mkdir()
    said = f"{_token('a1B2')} password=hunter2! badge-77"
    (tmp_path / "p" / "one.jsonl").write_bytes(claude_line(said))
    known, word = "[redacted:github-token]", "password=hunter2!"
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, f"{known} {word} badge-77"),
        ({"redaction": "off"}, said),
        ({"redaction": "strict"}, f"{known} password=[redacted:secret] badge-77"),
        ({"redaction_patterns": [r"badge-\d+"]}, f"{known} {word} [redacted:custom]"),
    ]
    store = MemoryStore()
    for settings, expected in (*cases, *cases):
        assert await _texts(tmp_path, store, **settings) == [expected]


async def test_a_pattern_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    """The setting is named, and not what the pattern is."""
    with pytest.raises(ConfigError, match="pattern 1: missing") as caught:
        async with _ingest(tmp_path, MemoryStore(), redaction_patterns=["hunter2("]):
            pass
    assert caught.value.name == "redaction_patterns" and "hunter2" not in str(caught.value)


def test_patterns_come_from_the_environment_one_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A comma is part of many."""
    monkeypatch.setenv("CONV_REALTIME_REDACTION_PATTERNS", "a{2,3}\n\n[b,c]\n")
    assert Settings.load().redaction_patterns == ["a{2,3}", "[b,c]"]
    monkeypatch.setenv("CONV_REALTIME_REDACTION", "some")
    with pytest.raises(ConfigError) as caught:
        Settings.load()
    assert "redaction" in str(caught.value).lower()


async def test_secrets_are_counted_once_a_conversation(tmp_path: Path) -> None:
    """In the rows, in the summary and in the health, also by a process that reads nothing new."""
    (tmp_path / "p").mkdir()
    one, other = _token("a1B2"), _token("c3D4")
    lines = [
        claude_line(f"{one} and {one}"),
        claude_line(f"{one}, {other}", role="assistant"),
        claude_line("nothing", cwd=f"/home/{one}"),
    ]
    (tmp_path / "p" / "one.jsonl").write_bytes(b"".join(lines))
    (tmp_path / "p" / "two.jsonl").write_bytes(
        claude_line(one, session="5e551011-0000-4000-8000-0000000000aa")
    )
    store = MemoryStore()
    async with _ingest(tmp_path, store) as ingest:
        summary = await ingest.backfill([tmp_path / "p"])
        assert summary.redacted == {"github-token": 3}
        assert ingest.health()["redacted"] == {"github-token": 3}
    stated = [row.metadata.get("redacted") for row in store.conversations.values()]
    assert sorted(stated, key=json.dumps) == [{"github-token": 1}, {"github-token": 2}]
    messages = sorted(store.messages.values(), key=lambda row: (row.conversation_id, row.seq))
    counts = [row.metadata.get("redacted", {}).get("github-token", 0) for row in messages]
    assert sorted(counts) == [0, 1, 1, 2]
    async with _ingest(tmp_path, store) as ingest:
        assert ingest.health()["redacted"] == {"github-token": 3}
        again = await ingest.backfill([tmp_path / "p"])
        assert (again.changed, again.redacted) == (0, {"github-token": 3})


async def test_images_and_long_texts_go_by_the_settings(tmp_path: Path) -> None:
    """A note stands for an image unless images are wanted; a text is cut at so many bytes."""
    (tmp_path / "p").mkdir()
    source = {"type": "base64", "media_type": "image/png", "data": "A" * 1000}
    content = [{"type": "image", "source": source}, {"type": "text", "text": "word " * 1000}]
    line = claude_line("", message={"role": "user", "content": content})
    (tmp_path / "p" / "one.jsonl").write_bytes(line)
    cases: list[tuple[dict[str, Any], str, int]] = [
        ({}, "[left out: image/png, 750 bytes]", 5000),
        ({"images": True, "max_text_bytes": 2000}, "A" * 1000, 2000),
    ]
    for number, (settings, data, size) in enumerate(cases):
        store = MemoryStore()
        async with _ingest(tmp_path / str(number), store, **settings) as ingest:
            await ingest.backfill([tmp_path / "p"])
        (row,) = store.messages.values()
        assert row.content[0]["source"] == source | {"data": data}
        assert len(row.content[1]["text"].encode()) == len(row.text) == size
