"""What the transcripts of this machine would come to on Supabase's plans.

The last thirty days are read the way `backfill` reads them, by the same code, into a store that
only counts. Nothing is sent.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson

from conv_realtime.cli.checkup import Check, ok, warning
from conv_realtime.cli.checkup.machine import Transcripts
from conv_realtime.ingest import Ingest, Progress
from conv_realtime.ingest.sender import UNITS_A_MESSAGE
from conv_realtime.models import Message, Row, Table
from conv_realtime.ports import Digest, KnownConversation, StoredMessage
from conv_realtime.settings import Settings

DAYS = 30
FACTS_OF = "2026-11"
"""When the plans were read: docs/guides/platform/billing-on-supabase and realtime/limits."""

ON_DISK = 1.0
"""Bytes of tables and indexes for a byte of rows as JSON, at most: 0.78 with 1,800 real messages,
the long ones compressed; short ones take more."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a plan includes, a month."""

    name: str
    realtime_messages: int
    database_bytes: int


PLANS = (
    Plan("Free", 2_000_000, 500 * 10**6),
    Plan("Pro", 5_000_000, 8 * 10**9),
)
PRO_MORE = "more costs $2.50 a million messages and $0.125 a GB"


class CountingStore:
    """A `Store` that keeps nothing but sums.

    Attributes:
        messages: those that were created since.
        rows: all messages.
        bytes: of all rows, as JSON.
    """

    def __init__(self, since: datetime) -> None:
        self.messages = 0
        self.rows = 0
        self.bytes = 0
        self._since = since

    async def database(self) -> str:
        """Return a name."""
        return "forecast"

    async def write(
        self, table: Table, rows: Sequence[Row], *, history: bool = False, more: bool = False
    ) -> int:
        """Count `rows`."""
        for row in rows:
            self.bytes += len(orjson.dumps(row.to_row()))
            if isinstance(row, Message):
                self.rows += 1
                self.messages += row.created_at is not None and row.created_at >= self._since
        return len(rows)

    async def known(self, conversations: Collection[UUID]) -> Mapping[UUID, KnownConversation]:
        """Return nothing."""
        return {}

    async def mark_deleted(self, messages: Collection[UUID], revision: int, at: datetime) -> int:
        """Do nothing."""
        return 0

    async def forgotten(self, owner: UUID, machine: str) -> Collection[UUID]:
        """Return nothing."""
        return ()

    async def digests(self, conversations: Collection[UUID]) -> Mapping[UUID, Digest]:
        """Return nothing."""
        return {}

    async def stored_messages(self, conversation: UUID) -> AsyncIterator[StoredMessage]:
        """Yield nothing."""
        return
        yield


async def forecast(
    settings: Settings,
    transcripts: Transcripts,
    on_progress: Callable[[Progress], None] | None = None,
) -> Check:
    """Return what a month like the last one would come to."""
    name = "forecast"
    recent = [path for path in transcripts.files if _changed_within(path, DAYS)]
    if not recent:
        return ok(name, f"no transcript changed within {DAYS} days", messages_a_day=0)
    store = CountingStore(datetime.now(UTC) - timedelta(days=DAYS))
    with tempfile.TemporaryDirectory(prefix="conv-realtime-doctor-") as folder:
        wanted = {"state_dir": Path(folder), "owner_id": uuid4(), "supabase_key": None}
        alone = settings.model_copy(update=wanted)
        async with Ingest(store=store, settings=alone) as ingest:
            summary = await ingest.backfill(recent, on_progress)
    lines = sum(_lines_of(path) for path in recent)
    pieces = max(lines / store.rows, 1.0) if store.rows else 1.0
    share = store.bytes / summary.bytes if summary.bytes else 0.0
    of_month = sum(_size(path) for path in recent) * share * ON_DISK
    of_all = transcripts.bytes * share * ON_DISK
    # A response that is written in pieces is told once a piece, and a piece is a line at most.
    low = store.messages * UNITS_A_MESSAGE
    high = round(low * pieces)
    facts: dict[str, Any] = {
        "days": DAYS,
        "messages_a_day": round(store.messages / DAYS, 1),
        "realtime_messages_a_month": [low, high],
        "database_bytes_a_month": round(of_month),
        "database_bytes_of_all": round(of_all),
        "plans_of": FACTS_OF,
    }
    says = (
        f"{store.messages / DAYS:.0f} messages a day; a month like the last {DAYS} days comes to"
        f" {_between(low, high)} Realtime messages, as many again for each page that is"
        f" always open, and at most {of_month / 1e6:.0f} MB of database; all transcripts together"
        f" to {of_all / 1e6:.0f} MB"
    )
    fitting = [
        plan.name
        for plan in PLANS
        if high * 2 <= plan.realtime_messages and of_all + of_month <= plan.database_bytes
    ]
    if fitting:
        return ok(name, f"{says}. Fits into the {fitting[0]} plan of {FACTS_OF}", **facts)
    return warning(name, f"{says}. More than Pro includes: {PRO_MORE} ({FACTS_OF})", **facts)


def _changed_within(path: str, days: int) -> bool:
    try:
        return time.time() - os.stat(path).st_mtime < days * 86400
    except OSError:
        return False


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _lines_of(path: str) -> int:
    try:
        with open(path, "rb") as file:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(2**20), b""))
    except OSError:
        return 0


def _between(low: int, high: int) -> str:
    return _short(low) if low == high else f"{_short(low)} to {_short(high)}"


def _short(count: int) -> str:
    return f"{count / 1e6:.1f} million" if count >= 100_000 else f"{count:,}"
