"""Everything once: what is read, in which order, what is named, what is refused before."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jwt
import pytest

from conv_realtime.errors import ConfigError, SourceError
from conv_realtime.ingest import Progress
from conv_realtime.models import Row, Table
from conv_realtime.testing import MemoryStore
from tests.ingest.lines import OTHER, assistant, user, uuid
from tests.ingest.running import backfill, ingest, texts, write


async def test_a_second_backfill_changes_no_row_and_does_not_read_on(tmp_path: Path) -> None:
    """What was judged and acknowledged is known by its size and time: its text is not read."""
    path, store = write(tmp_path, user("q"), assistant("before", "m")), MemoryStore()
    os.utime(path, ns=(0, 0))
    first = await backfill(tmp_path, store)
    assert (first.files, first.conversations, first.messages, first.changed) == (1, 1, 2, 4)
    path.write_bytes(path.read_bytes().replace(b"before", b"behind"))
    os.utime(path, ns=(0, 0))
    second = await backfill(tmp_path, store)
    assert (second.files, second.messages, second.changed) == (1, 2, 0)
    assert texts(store)[-1] == "answer before"


async def test_the_newest_files_are_read_first(tmp_path: Path) -> None:
    """What is going on now does not wait for last year's conversations."""
    store = MemoryStore()
    for at in (3, 1, 5, 2, 4):
        session = f"5e551011-0000-4000-8000-00000000000{at}"
        path = write(tmp_path, user(at, sessionId=session), name=f"-p/{session}.jsonl")
        os.utime(path, (at, at))
    await backfill(tmp_path, store, concurrency=1)
    read = [row.text for row in store.messages.values()]
    assert read == [f"prompt {at}" for at in (5, 4, 3, 2, 1)]


async def test_losing_the_state_directory_changes_no_row(tmp_path: Path) -> None:
    """Ids and revisions follow from the file, so everything is sent again in silence."""
    write(tmp_path, user("q"), assistant("a", "m"))
    store = MemoryStore()
    await backfill(tmp_path, store)
    again = await backfill(tmp_path, store, state_dir=tmp_path / "other")
    assert again.changed == 0


class Slow(MemoryStore):
    """A store whose writes overlap, as those over a network do."""

    async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
        """Write after others had a turn."""
        await asyncio.sleep(0.001)
        return await super().write(table, rows, **hints)


async def test_rows_of_files_sent_at_the_same_time_are_all_counted(tmp_path: Path) -> None:
    """The number of changed rows is exact, whatever overlaps."""
    for number in range(12):
        session = uuid(f"session {number}")
        write(tmp_path, user("q", session=session), name=f"-p/{session}.jsonl")
    store = Slow()
    summary = await backfill(tmp_path, store)
    assert summary.changed == 12 + 12 + len(store.projects)


async def test_what_is_no_transcript_is_named(tmp_path: Path) -> None:
    """Another tool's files beside ours are skipped with a reason, never fatal."""
    other = write(tmp_path, b'{"resourceSpans":[]}\n', name="x/spans.jsonl")
    torn = write(tmp_path, user("q"), b"garbage\n", user("r")[:30])
    summary = await backfill(tmp_path, MemoryStore())
    reasons = {(skip.path, skip.offset): skip.reason for skip in summary.skips}
    assert reasons == {
        (str(other), None): "not a transcript of a known assistant",
        (str(torn), len(user("q"))): "not JSON",
        (str(torn), len(user("q")) + 8): "incomplete last line",
    }


async def test_a_file_that_cannot_be_read_is_skipped_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once, and the others are read."""
    closed = write(tmp_path, user("q"))
    write(tmp_path, user("o", session=OTHER), name=f"-p/{OTHER}.jsonl")
    real_open = os.open

    def refusing(path: Any, *arguments: Any, **keywords: Any) -> int:
        if path == str(closed):  # root may read what is closed to others
            raise PermissionError(13, "Permission denied", path)
        return real_open(path, *arguments, **keywords)

    monkeypatch.setattr(os, "open", refusing)
    summary = await backfill(tmp_path, MemoryStore())
    assert (summary.files, summary.messages) == (1, 1)
    assert [(skip.path, skip.reason) for skip in summary.skips] == [
        (str(closed), "Permission denied")
    ]
    assert len([text for text in caplog.messages if "Permission denied" in text]) == 1


async def test_a_path_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    """A typing error is not taken for an empty folder."""
    async with ingest(tmp_path, MemoryStore()) as river:
        with pytest.raises(SourceError, match="nowhere"):
            await river.backfill([tmp_path / "nowhere"])


async def test_progress_ends_at_the_whole(tmp_path: Path) -> None:
    """The last call says that every file and byte is done."""
    path = write(tmp_path, user("q"))
    seen: list[Progress] = []
    async with ingest(tmp_path, MemoryStore()) as river:
        await river.backfill(on_progress=seen.append)
    size = path.stat().st_size
    assert [(p.done_bytes, p.total_bytes, p.done_files, p.total_files) for p in seen] == [
        (size, size, 1, 1)
    ]


async def test_an_owner_must_be_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows without an owner would be nobody's: the error names the setting."""
    monkeypatch.delenv("CONV_REALTIME_OWNER_ID", raising=False)
    with pytest.raises(ConfigError, match="CONV_REALTIME_OWNER_ID"):
        await backfill(tmp_path, MemoryStore(), owner_id=None)


async def test_a_users_key_writes_rows_of_that_user_alone(tmp_path: Path) -> None:
    """Told at once: the database would refuse every row for ever."""
    key = jwt.encode({"role": "authenticated", "sub": OTHER}, "s" * 32)
    with pytest.raises(ConfigError, match=OTHER) as refused:
        async with ingest(tmp_path, MemoryStore(), supabase_key=key):
            pass
    assert refused.value.name == "CONV_REALTIME_OWNER_ID"
