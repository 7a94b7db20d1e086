"""Every file once: at the start of watching, and for a backfill, which counts as it goes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from conv_realtime.core.checkpoint import FileStat
from conv_realtime.edges import disk
from conv_realtime.errors import SourceError
from conv_realtime.ingest.desk import Desk
from conv_realtime.ingest.tender import Tender
from conv_realtime.models import Skipped


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a backfill has got; bytes and files, done and in all."""

    done_bytes: int
    total_bytes: int
    done_files: int
    total_files: int


@dataclass(slots=True)
class Summary:
    """What a backfill found and did.

    `messages` are the live rows that the files state, `changed` the rows written, `skipped`
    the files and lines that made none; `skips` says which and why.
    """

    files: int = 0
    conversations: int = 0
    messages: int = 0
    changed: int = 0
    bytes: int = 0
    seconds: float = 0.0
    skips: list[Skipped] = field(default_factory=list)

    @property
    def skipped(self) -> int:
        """How many files and lines were skipped."""
        return len(self.skips)


async def catch_up(
    desk: Desk,
    tender: Tender,
    stats: Mapping[str, FileStat],
    *,
    resting: bool,
    done: Callable[[str, Progress], None] = lambda path, progress: None,
) -> None:
    """Look at files, newest first, and wait until they are sent.

    Args:
        desk: what is shared.
        tender: looks.
        stats: the files.
        resting: whether to take every file as at rest.
        done: called after each file with its path.
    """
    sizes = {path: stat.size for path, stat in stats.items()}
    for path in sizes:  # who owns what depends on all files, not on their order
        with contextlib.suppress(SourceError):  # told when it is looked at
            await asyncio.to_thread(desk.shelf.recognise, path, resting=resting)
    # Whoever waits for the first look wants what is going on now before last year's files.
    waiting = sorted(stats, key=lambda path: stats[path].mtime_ns)
    total, files = sum(sizes.values()), len(sizes)
    progress = Progress(0, total, 0, files)

    async def work() -> None:
        nonlocal progress
        while waiting:
            path = waiting.pop()
            await tender.catch_up(path, resting=resting)
            size = progress.done_bytes + sizes[path]
            progress = Progress(size, total, progress.done_files + 1, files)
            done(path, progress)

    async with asyncio.TaskGroup() as workers:
        for number in range(min(desk.settings.concurrency, files)):
            workers.create_task(work(), name=f"catch up {number}")


def count(desk: Desk, path: str, summary: Summary) -> None:
    """Add a file that was looked at to `summary`."""
    book = desk.shelf.book(path)
    if book.owner is not None:
        summary.skips.append(Skipped(path, f"copy of {book.owner}"))
        return
    if book.fault is not None:
        summary.skips.append(Skipped(path, book.fault))
        return
    if book.key is None:
        reason = book.recognised if isinstance(book.recognised, str) else "no record in it"
        summary.skips.append(Skipped(path, reason))
        return
    stat = disk.stat(path)
    summary.files += 1
    summary.bytes += stat.size if stat else 0
    checkpoint = desk.shelf.checkpoints.get(path)
    if checkpoint is not None:
        summary.messages += checkpoint.messages
        summary.conversations += checkpoint.conversations
    if (follower := book.follower) is not None:
        summary.skips += follower.skipped
        if (rest := follower.unread_rest()) is not None:
            summary.skips.append(rest)
