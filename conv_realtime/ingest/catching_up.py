"""Every file once: at the start of watching, and for a backfill, which counts as it goes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Self

from conv_realtime.background import on_thread
from conv_realtime.core.checkpoint import FileStat
from conv_realtime.edges import heap
from conv_realtime.errors import SourceError
from conv_realtime.ingest import documents
from conv_realtime.ingest.desk import SMALL_BYTES, Desk
from conv_realtime.ingest.shelf import Shelf
from conv_realtime.ingest.tender import Tender
from conv_realtime.models import Skipped

_A_HOP = 64
"""How many files' first bytes are read in one go on a thread."""

_FEW = 32
"""How many small files a worker has under way."""

_LIVELY_SECONDS = 86_400.0
"""How long after its last line a file may well get another: until then its fold is kept."""

MOST_AHEAD = 256
"""How many files of a start are read ahead of a store that is away: a listener wants the newest."""

MOST_BYTES_AHEAD = 256 * 2**20
"""How large they are together. Beyond, the files are the queue."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a backfill has got; bytes and files, done and in all."""

    done_bytes: int
    total_bytes: int
    done_files: int
    total_files: int

    @classmethod
    def before(cls, stats: Mapping[str, FileStat]) -> Self:
        """Return the progress with files of which none is done."""
        return cls(0, sum([stat.size for stat in stats.values()]), 0, len(stats))

    def after(self, paths: Collection[str], stats: Mapping[str, FileStat]) -> Self:
        """Return the progress with some more of the files done."""
        size = self.done_bytes + sum([stats[path].size for path in paths])
        return replace(self, done_bytes=size, done_files=self.done_files + len(paths))


@dataclass(slots=True)
class Summary:
    """What a backfill found and did.

    `messages` are the live rows that the files state, `changed` the rows written, `skipped`
    the files and lines that made none; `skips` says which and why. `unchanged` files were not
    read again: lines that were skipped in them are not counted this time. `redacted` are the
    secrets that were replaced, by kind, each once a conversation.
    """

    files: int = 0
    conversations: int = 0
    messages: int = 0
    changed: int = 0
    bytes: int = 0
    seconds: float = 0.0
    unchanged: int = 0
    skips: list[Skipped] = field(default_factory=list)
    redacted: Counter[str] = field(default_factory=Counter)

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
    done: Callable[[Collection[str]], None] = lambda paths: None,
) -> None:
    """Look at files, newest first, and wait until they are sent.

    Args:
        desk: what is shared.
        tender: looks.
        stats: the files.
        resting: whether to take every file as at rest.
        done: called with the files at which nothing is to be done, and then after each file.
    """
    shelf = desk.shelf
    with heap.growing():
        shelf.rest(stats, desk.resends)
        others = [path for path in stats if path not in shelf.resting]
        recalled = {path for path in others if shelf.recall(path, stats[path])}
    unknown = [path for path in others if path not in recalled]
    for start in range(0, len(unknown), _A_HOP):
        await on_thread(_recognise, shelf, unknown[start : start + _A_HOP], resting)
    await documents.survey(desk, unknown)
    # Who owns what depends on all files, not on their order: only now is it known who is alone.
    settled = {path for path in recalled if shelf.is_alone(path)} - desk.resends
    left = [path for path in stats if path not in shelf.resting and path not in settled]
    if len(left) < len(stats):
        done(stats.keys() - left)
    # Whoever waits for the first look wants what is going on now before last year's files.
    waiting = sorted(left, key=lambda path: stats[path].mtime_ns)
    unsent: dict[str, set[asyncio.Task[None]]] = {}

    async def take(path: str) -> None:
        if sending := await tender.catch_up(path, resting=resting):
            unsent[path] = sending
        done([path])
        if time.time() - stats[path].mtime_ns / 1e9 > _LIVELY_SECONDS:
            tender.let_go(path)

    async def work() -> None:
        while waiting:
            async with asyncio.TaskGroup() as group:
                for path in _next_few(waiting, stats, MOST_AHEAD - len(unsent)):
                    group.create_task(take(path))
            await _until_less_waits(unsent, stats)

    async with asyncio.TaskGroup() as workers:
        for number in range(min(desk.settings.concurrency, len(waiting))):
            workers.create_task(work(), name=f"catch up {number}")
    if left_over := set(chain.from_iterable(unsent.values())):
        await asyncio.wait(left_over)


def _next_few(waiting: list[str], stats: Mapping[str, FileStat], most: int) -> Sequence[str]:
    """Take the next file, and where it is small some more that are."""
    few = [waiting.pop()]
    while waiting and len(few) < min(most, _FEW):
        if max(stats[few[-1]].size, stats[waiting[-1]].size) > SMALL_BYTES:
            break
        few.append(waiting.pop())
    return few


async def _until_less_waits(
    unsent: dict[str, set[asyncio.Task[None]]], stats: Mapping[str, FileStat]
) -> None:
    """Wait while what was read ahead of a store that is away is all that memory should hold."""
    while len(unsent) >= MOST_AHEAD or sum(stats[path].size for path in unsent) >= MOST_BYTES_AHEAD:
        at_work = {task for task in chain.from_iterable(unsent.values()) if not task.done()}
        if at_work:
            await asyncio.wait(at_work, return_when=asyncio.FIRST_COMPLETED)
        for path in [path for path, tasks in unsent.items() if all(one.done() for one in tasks)]:
            del unsent[path]


def _recognise(shelf: Shelf, paths: Sequence[str], resting: bool) -> None:
    for path in paths:
        with contextlib.suppress(SourceError):  # told when it is looked at
            shelf.recognise(path, resting=resting)


def count(
    desk: Desk, paths: Collection[str], stats: Mapping[str, FileStat], summary: Summary
) -> None:
    """Add files that were looked at, or need not be, to `summary`."""
    resting = desk.shelf.resting.intersection(paths)
    if resting:
        _count_resting(desk, resting, stats, summary)
    for path in paths if len(resting) < len(paths) else ():
        if path not in resting:
            _count_one(desk, path, stats[path].size, summary)


def _count_resting(
    desk: Desk, resting: Collection[str], stats: Mapping[str, FileStat], summary: Summary
) -> None:
    messages, conversations = desk.shelf.checkpoints.counts(resting)
    summary.files += len(resting)
    summary.unchanged += len(resting)
    summary.messages += messages
    summary.conversations += conversations
    summary.bytes += sum([stats[path].size for path in resting])
    summary.redacted += desk.secrets.of_all(resting)


def _count_one(desk: Desk, path: str, size: int, summary: Summary) -> None:
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
    summary.files += 1
    summary.redacted += desk.secrets.of(path)
    summary.bytes += size
    checkpoint = desk.shelf.checkpoints.get(path)
    if checkpoint is not None:
        summary.messages += checkpoint.messages
        summary.conversations += checkpoint.conversations
    if (follower := book.follower) is not None:
        summary.skips += follower.skipped
        if (rest := follower.unread_rest()) is not None:
            summary.skips.append(rest)
    else:
        summary.unchanged += 1
