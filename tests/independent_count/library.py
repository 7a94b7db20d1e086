"""What the library states of one transcript, as a backfill of it alone into an empty store."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any
from uuid import UUID

from conv_realtime.ingest import Ingest
from conv_realtime.models import TOKEN_FIELDS
from conv_realtime.testing import MemoryStore
from tests.independent_count.counting import Count

_TOKENS = [name for name in TOKEN_FIELDS if name != "reasoning_tokens"]  # part of the output


def state(path: Path) -> tuple[str, Count]:
    """Return the format of a file and what the rows made of it say; no naive sum."""
    return asyncio.run(_state(path))


async def _state(path: Path) -> tuple[str, Count]:
    store = MemoryStore()
    with tempfile.TemporaryDirectory() as folder:
        settings: dict[str, Any] = {"state_dir": folder, "owner_id": UUID(int=1), "machine": "m"}
        async with Ingest(store=store, paths=[path], **settings) as river:
            summary = await river.backfill()
    rows = list(store.conversations.values())
    live = [row for row in store.messages.values() if row.deleted_at is None]
    found = Count(
        conversations=len(rows),
        messages=len(live),
        tool_calls=sum(row.tool_usage_count for row in rows),
        tokens=sum(getattr(row, name) for row in rows for name in _TOKENS),
        skipped=summary.skipped if rows else 0,
    )
    return next(iter({row.source for row in rows}), ""), found
