"""A format that raises spoils its own file alone, and is told of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import pytest

from conv_realtime import Head, Ingest, JsonLines, Said
from conv_realtime.core.conversation_fold import Entry
from conv_realtime.core.format import Claim
from conv_realtime.core.json_lines import JsonLinesTranscript
from conv_realtime.core.records import Record
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.testing import OWNER, MemoryStore, claude_line


class _Clumsy(JsonLines):
    """Raises in one place, over what is marked."""

    source, title, suffix = "clumsy", "Clumsy", ".clumsy"

    def __init__(self, where: str) -> None:
        self.where = where

    def claim(self, path: PurePath, head: Head) -> Claim:
        if self.where == "claim" and b"trip" in head.data:
            raise RuntimeError("secret words")
        return super().claim(path, head)

    def session(self, path: PurePath, records: Sequence[Mapping[str, Any]]) -> str | None:
        return path.stem

    def said(self, fields: Mapping[str, Any]) -> Said | None:
        return Said("user", fields["says"])

    def transcript(self, path: PurePath, sanitizer: Sanitizer) -> JsonLinesTranscript:
        return _Transcript(self, path, sanitizer)


class _Transcript(JsonLinesTranscript):
    def add(self, record: Record) -> None:
        super().add(record)
        self._trip("add", record.fields)

    def message_fields(self, entry: Entry, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        self._trip("message_fields", records[0])
        return super().message_fields(entry, records)

    def _trip(self, where: str, fields: Mapping[str, Any]) -> None:
        form = self._form
        if isinstance(form, _Clumsy) and form.where == where and fields["says"] == "trip":
            raise RuntimeError("secret words")


@pytest.mark.parametrize("where", ["claim", "add", "message_fields"])
async def test_what_a_format_raises_is_told_of_its_file_and_ends_nothing(
    tmp_path: Path, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its other files and all other formats' are read; mended, the file is read as well."""
    folder = tmp_path / "transcripts"
    folder.mkdir()
    lines = [json.dumps({"says": says}).encode() + b"\n" for says in ("one", "trip", "two")]
    (folder / "bad.clumsy").write_bytes(b"".join(lines))
    (folder / "good.clumsy").write_bytes(lines[0])
    (folder / "a.jsonl").write_bytes(claude_line("three"))
    store, clumsy = MemoryStore(), _Clumsy(where)
    settings: dict[str, Any] = {"state_dir": tmp_path / "state", "owner_id": OWNER, "machine": "m"}
    async with Ingest(store=store, formats=[clumsy], paths=[folder], **settings) as ingest:
        await ingest.backfill()
        told = [record.getMessage() for record in caplog.records]
        assert any("bad.clumsy: its format raised RuntimeError" in text for text in told)
        assert not any("secret words" in text for text in told)
        said = {row.text for row in store.messages.values()}
        assert {"one", "three"} <= said and "two" not in said
        clumsy.where = "nowhere"
        await ingest.backfill()
    assert sorted(row.text for row in store.messages.values()) == [
        "one", "one", "three", "trip", "two",
    ]  # fmt: skip
