"""A format in a few lines: what a user writes, and what follows from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any

from conv_realtime.core.format import Head, Recognised
from conv_realtime.core.json_lines import JsonLines, Noted, Said
from conv_realtime.core.said import blocks_of
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.ingest.follow import Follower
from conv_realtime.models import Conversation, Message
from tests.ingest.folding import IDENTITY, read_all, rows


class Chat(JsonLines):
    """`{"chat", "who", "says", "id"}`, and `{"drop": id}` for nothing."""

    source = "chat"
    title = "Chat"

    def session(self, path: PurePath, records: Sequence[Mapping[str, Any]]) -> str | None:
        return records[0].get("chat")

    def said(self, fields: Mapping[str, Any]) -> Said | None:
        if "says" not in fields:
            return None
        usage = {"output_tokens": fields["tokens"]} if "tokens" in fields else {}
        return Said(
            fields["who"], fields["says"], fields.get("id"), fields.get("anew", False), usage=usage
        )

    def noted(self, fields: Mapping[str, Any]) -> Noted:
        return Noted(title=fields.get("title"), cwd=fields.get("in"), model=fields.get("model"))


def _stated(path: Path, *lines: Mapping[str, Any]) -> tuple[Conversation, list[Message]]:
    path.write_text("".join(json.dumps({"chat": "c1", **line}) + "\n" for line in lines))
    follower = Follower(str(path), Chat(), IDENTITY, Sanitizer())
    read_all(follower, path)
    conversations, messages = rows(follower, path)
    return conversations[0], messages


def test_its_rows_follow_from_what_each_record_says(tmp_path: Path) -> None:
    """Title, place, model and state of the conversation; text and role of each message."""
    row, messages = _stated(
        tmp_path / "a.jsonl",
        {"who": "user", "says": "hi\nthere", "in": "/work/app", "model": "m-1"},
        {"who": "assistant", "says": "hello", "tokens": 7},
    )
    assert (row.source, row.session_id, row.title) == ("chat", "c1", "hi there")
    assert (row.cwd, row.project_name, row.model) == ("/work/app", "app", "m-1")
    assert (row.message_count, row.output_tokens, row.activity) == (2, 7, "waiting")
    assert [(m.role, m.text, m.model) for m in messages] == [
        ("user", "hi\nthere", None),
        ("assistant", "hello", "m-1"),
    ]


def test_records_with_one_id_are_one_message(tmp_path: Path) -> None:
    """Parts are merged, and a record that says it anew replaces what was before."""
    _, parts = _stated(
        tmp_path / "a.jsonl",
        {"who": "assistant", "says": "one", "id": "x"},
        {"who": "user", "says": "meanwhile"},
        {"who": "assistant", "says": "two", "id": "x"},
    )
    assert [m.text for m in parts] == ["one\n\ntwo", "meanwhile"]
    row, anew = _stated(
        tmp_path / "b.jsonl",
        {"who": "assistant", "says": "one", "id": "x", "tokens": 5},
        {"who": "assistant", "says": "two", "id": "x", "tokens": 9, "anew": True},
    )
    assert [m.text for m in anew] == ["two"]
    assert (row.message_count, row.output_tokens) == (1, 9)


def test_a_tool_that_is_not_answered_keeps_it_working(tmp_path: Path) -> None:
    """Whose turn it is follows from what is called and answered."""
    call = {"type": "tool_use", "id": "t1", "name": "ls", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "a b"}
    row, _ = _stated(tmp_path / "a.jsonl", {"who": "assistant", "says": [call]})
    assert (row.activity, row.tool_usage_count) == ("working", 1)
    row, messages = _stated(
        tmp_path / "b.jsonl",
        {"who": "assistant", "says": [call]},
        {"who": "tool", "says": [result]},
        {"who": "assistant", "says": "two files"},
    )
    assert (row.activity, row.message_count) == ("waiting", 2)
    assert messages[1].text == "a b"


def test_a_record_that_the_format_fails_over_is_skipped_with_its_place(tmp_path: Path) -> None:
    """The others are read, and the reason tells nothing of what was said."""
    path = tmp_path / "a.jsonl"
    lines = [
        {"who": "user", "says": "one"},
        {"says": "nobody"},
        {"who": "ghost", "says": "boo"},
        {"who": "user", "says": "two"},
    ]
    encoded = [json.dumps({"chat": "c1", **line}).encode() + b"\n" for line in lines]
    path.write_bytes(b"".join(encoded))
    follower = Follower(str(path), Chat(), IDENTITY, Sanitizer())
    read_all(follower, path)
    assert [m.text for m in rows(follower, path)[1]] == ["one", "two"]
    assert [(skip.offset, skip.reason) for skip in follower.skipped] == [
        (len(encoded[0]), "the format chat raised KeyError"),
        (len(encoded[0] + encoded[1]), "the format chat raised ValueError"),
    ]


def test_what_cannot_be_read_as_what_it_should_be_is_absent() -> None:
    """A format gives what a record holds, whatever that is."""
    odd: Any = {"a": 1}
    said = Said("user", "hi", native=odd, created_at=odd, model=odd, usage={"output_tokens": odd})
    assert (said.native, said.created_at, said.model, said.usage) == (None, None, None, {})
    stamp: Any = "2026-03-04T05:06:07+01:00"
    number: Any = 7
    naive = datetime(2026, 3, 4, 4, 6, 7)
    said = Said("user", "hi", native=number, created_at=stamp, usage={"output_tokens": 3, "x": 4})
    assert (said.native, said.usage) == ("7", {"output_tokens": 3})
    assert said.created_at == Noted(naive).at == naive.replace(tzinfo=UTC)
    assert Noted(title=odd, cwd=odd, parent=odd) == Noted()
    assert blocks_of(Said("user", odd)) == [odd] and blocks_of(Said("user", number)) == []


def test_a_block_may_be_any_mapping() -> None:
    """As the types say, also one that is read only, and beside others."""
    block = {"type": "text", "text": "hi"}
    assert blocks_of(Said("user", [MappingProxyType(block), block])) == [block, block]


def test_a_file_is_claimed_by_what_its_first_records_say() -> None:
    """Another's file is not, and one without a record yet may be."""

    def claim(data: bytes) -> object:
        return Chat().claim(PurePath("/x/c1.jsonl"), Head(data, whole=True, resting=False))

    assert claim(b'{"chat":"c1"}\n') == Recognised("chat", "c1", named=True)
    assert claim(b'{"other":"c1"}\n') is None
    assert claim(b'{"chat":"c1') == "unsure"
