"""One look at one file: what happened to it, its new rows to the sink, the rest to the sender.

Everything about one file happens under its book's lock, one step at a time; small reads on
the loop, because they take microseconds, large ones on a thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

from conv_realtime.core.checkpoint import Checkpoint, FileStat
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.edges import disk
from conv_realtime.edges.checkpoints import Checkpoints
from conv_realtime.errors import SourceError
from conv_realtime.ingest.announcing import Announcer
from conv_realtime.ingest.follow import Batch, Follower, Identity, Reader, RewrittenError, Verdict
from conv_realtime.ingest.sender import MissingParentError, Sender
from conv_realtime.ingest.shelf import Book, Shelf
from conv_realtime.ports import KnownConversation, Store
from conv_realtime.settings import Settings

logger = logging.getLogger("conv_realtime.ingest")

_INLINE_BYTES = 256 * 2**10
_STRIDE = 8 * 2**20
# File systems stamp times in ticks of some milliseconds: a file written just now may change
# again and look the same, so what is known of it is not trusted at the next start.
_RACY_NS = 100_000_000

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Desk:
    """What every file's work shares."""

    settings: Settings
    identity: Identity
    store: Store
    sender: Sender
    shelf: Shelf
    checkpoints: Checkpoints
    announcer: Announcer
    slots: asyncio.Semaphore

    def follower(self, path: str, checkpoint: Checkpoint | None) -> Follower:
        """Return a new follower of `path`."""
        return Follower(
            path,
            self.identity,
            Sanitizer(redacting=self.settings.redact),
            checkpoint,
            max_line_bytes=self.settings.max_line_bytes,
        )


class Looker:
    """Looks at files and sends what they say."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def look(self, path: str, *, resting: bool) -> Book | None:
        """Take what is new in a file as far as the sink; return its book if rows may wait.

        Args:
            path: the file.
            resting: whether it has not changed for a while, so that a last line without a
                newline counts and everything is judged once more by content.
        """
        stat = disk.stat(path)
        desk = self._desk
        if stat is None:
            self._gone(path)
            return None
        if stat.size == 0:
            return None
        book = desk.shelf.recognise(path, resting=resting)
        async with book.lock:
            taken_from = desk.shelf.settle_owner(book)
            if book.key is None or book.owner is not None:
                return None
            if taken_from is not None:
                self._take_over(book, taken_from)
            checkpoint = desk.shelf.checkpoints.get(path)
            if book.follower is None:
                if checkpoint is not None and checkpoint.stat == stat:
                    return None  # judged and acknowledged as it is
                book.follower = desk.follower(path, checkpoint)
            await self._take(book, book.follower, stat, resting=resting)
        return book

    def _gone(self, path: str) -> None:
        """A file that vanished deletes nothing; only what was not sent yet is lost with it."""
        book = self._desk.shelf.books.get(path)
        if book is None or book.follower is None:
            return
        if waiting := book.follower.waiting(book.follower.sent):
            logger.error("%s vanished before %d records of it were sent", path, waiting)
        book.follower = None

    def _take_over(self, book: Book, former: str) -> None:
        """Go on where a smaller copy of the same conversation has got, if this one contains it."""
        desk = self._desk
        checkpoint = desk.shelf.checkpoints.pop(former)
        desk.checkpoints.forget(former)
        desk.shelf.book(former).follower = None
        with disk.OpenFile(book.path) as file:
            contains = file.crc(checkpoint.position) == checkpoint.crc
        if contains and book.follower is None:
            self.save(book.path, replace(checkpoint, stat=None))
        logger.info("%s goes on where %s ended", book.path, former)

    async def _take(self, book: Book, follower: Follower, stat: FileStat, *, resting: bool) -> None:
        with disk.OpenFile(book.path) as file:
            try:
                large = stat.size - follower.buffer.end > _INLINE_BYTES
                verdict = await self._apart(large, lambda: follower.judge(file, stat))
                if resting and verdict is not Verdict.REWRITTEN and follower.folded:
                    large = stat.size > _INLINE_BYTES
                    verdict = await self._apart(large, lambda: follower.verify(file))
                if verdict is Verdict.REWRITTEN:
                    raise RewrittenError(book.path)
                await self._read_on(follower, file, large)
                if resting:
                    follower.take_rest()
                    await self._announce(follower, file)
            except RewrittenError:
                await self._rewritten(book, follower, file)

    async def _read_on(self, follower: Follower, file: disk.OpenFile, large: bool) -> None:
        stride = _STRIDE if large else _INLINE_BYTES
        while await self._apart(large, lambda: follower.read(file, stride)):
            await self._announce(follower, file)
        await self._announce(follower, file)

    async def _announce(self, follower: Follower, file: disk.OpenFile) -> None:
        announcer = self._desk.announcer
        if not announcer.wanted:
            return
        while follower.has_news(follower.published):
            batch = await self._next(follower, follower.published, file)
            if batch is None:
                return
            announcer.announce(follower, batch)
            follower.advance(follower.published, batch)

    async def _next(self, follower: Follower, reader: Reader, file: disk.OpenFile) -> Batch | None:
        settings = self._desk.settings
        many = follower.waiting(reader) > 20
        return await self._apart(
            many,
            lambda: follower.next_batch(reader, file, settings.batch_rows, settings.batch_bytes),
        )

    async def _apart(self, large: bool, work: Callable[[], _Result]) -> _Result:
        return await asyncio.to_thread(work) if large else work()

    # Rewriting -----------------------------------------------------------------------------

    async def _rewritten(self, book: Book, follower: Follower, file: disk.OpenFile) -> None:
        """Decide what a file is whose known content has changed (R3, R4 and R5 of the design)."""
        before = follower.checkpoint
        earlier = _stated(follower)
        highest = before.base + max(follower.buffer.end, before.end, before.position)
        fresh = self._desk.follower(book.path, None)
        fresh.checkpoint = Checkpoint(part=before.part)
        while await asyncio.to_thread(fresh.read, file, _STRIDE):
            pass
        now = _stated(fresh)
        if not now:
            return  # nothing is said any more: what was said stays
        if not earlier:
            known = await self._known(fresh)
            earlier = {id for row in known.values() for id in (*row.live, *row.deleted)}
            highest = max([highest, *(row.highest for row in known.values())])
        if earlier and not earlier & now:
            checkpoint = Checkpoint(part=before.part + 1)
        else:
            checkpoint = Checkpoint(base=highest, part=before.part, rewritten=True)
        logger.warning("%s was rewritten; reading it again", book.path)
        self._begin_again(book, follower, checkpoint, earlier)
        await self._read_on(follower, file, large=True)

    def _begin_again(
        self, book: Book, follower: Follower, checkpoint: Checkpoint, earlier: set[UUID]
    ) -> None:
        """Read the file from its start under a new base or part, which is kept first."""
        book.generation += 1
        self.save(book.path, checkpoint)
        follower.start_over(checkpoint)
        follower.settled = checkpoint.rewritten
        follower.earlier = frozenset(earlier)

    async def _known(self, follower: Follower) -> Mapping[UUID, KnownConversation]:
        ids = [id for id, _ in follower.conversations()]
        return await self._desk.sender.ask(lambda: self._desk.store.known(ids))

    # Sending -------------------------------------------------------------------------------

    async def send(self, book: Book) -> None:
        """Send until the store has everything that has been read. Cancelling loses nothing."""
        desk = self._desk
        lost_before = False
        while (follower := book.follower) is not None:
            await self._settle(book, follower)
            async with book.lock:
                generation = book.generation
                try:
                    with disk.OpenFile(book.path) as file:
                        batch = await self._next(follower, follower.sent, file)
                except RewrittenError:
                    batch = None  # the next look finds out what happened
                except SourceError as error:
                    logger.warning("%s", error)
                    return
            if batch is None:
                break
            try:
                async with desk.slots:
                    faults = await desk.sender.write(batch, book.path)
            except MissingParentError as error:
                logger.warning("the database lost rows (%s); sending %s again", error, book.path)
                if lost_before:
                    await asyncio.sleep(5)
                lost_before = True
                desk.sender.forget_projects()
                follower.forget_sent()
                continue
            lost_before = False
            if book.generation != generation or book.follower is not follower:
                continue
            for fault in faults:
                desk.checkpoints.bury(fault)
            follower.acknowledge(batch)
            self.save(book.path, follower.checkpoint)

    async def finish(self, book: Book) -> None:
        """Note that a file at rest is judged and acknowledged, and mark what it took back."""
        follower = book.follower
        stat = disk.stat(book.path)
        if follower is None or stat is None or follower.has_news(follower.sent):
            return
        if follower.checkpoint.rewritten:
            await self._mark_deleted(book, follower)
        async with book.lock:
            if book.follower is not follower or stat.size != follower.buffer.end:
                return
            racy = time.time_ns() - stat.mtime_ns < _RACY_NS
            follower.finish(None if racy else stat)
            self.save(book.path, follower.checkpoint, follower)

    async def _mark_deleted(self, book: Book, follower: Follower) -> None:
        """Mark what the file no longer states, now that it rests."""
        generation = book.generation
        known = await self._known(follower)
        stated = _stated(follower)
        missing = {
            id: conversation
            for conversation, row in known.items()
            for id in row.live
            if id not in stated
        }
        base = follower.checkpoint.base
        if missing:
            at = max(
                (f.last_time for _, f in follower.conversations() if f.last_time), default=None
            )
            at = at or datetime.fromtimestamp(0, UTC)
            desk = self._desk
            changed = await desk.sender.ask(
                lambda: desk.store.mark_deleted(list(missing), base, at)
            )
            desk.sender.changed += changed
            desk.announcer.announce_deleted(follower, missing, base, at)
        if book.generation == generation:
            follower.checkpoint = replace(follower.checkpoint, rewritten=False)

    async def _settle(self, book: Book, follower: Follower) -> None:
        """Ask the database what it has of a file that no clean checkpoint speaks for."""
        if follower.settled and (follower.checkpoint.stat is not None or follower.confirmed):
            return
        known = await self._known(follower)
        follower.confirmed = True
        if not follower.settled:
            await self._adopt(book, follower, known)
            return
        before = follower.checkpoint
        ahead = max(before.base + before.position, before.foreign)
        stated = _stated(follower)
        orphans = {
            id for row in known.values() for id, rev in row.live.items()
            if rev > ahead and id not in stated
        }  # fmt: skip
        if orphans and not before.rewritten:
            # An acknowledgement was lost, and then the file shrank: the database decides.
            highest = max(row.highest for row in known.values())
            async with book.lock:
                checkpoint = Checkpoint(base=highest, part=before.part, rewritten=True)
                self._begin_again(book, follower, checkpoint, orphans | stated)
                follower.confirmed = True
                with disk.OpenFile(book.path) as file:
                    await self._read_on(follower, file, large=True)

    async def _adopt(
        self, book: Book, follower: Follower, known: Mapping[UUID, KnownConversation]
    ) -> None:
        """Fit base and part to what the database has, so that no row is below what it knows."""
        async with book.lock:
            before = follower.checkpoint
            part = before.part
            while True:
                base, strange = _fit(follower, known)
                if not strange:
                    break
                part += 1
                follower.checkpoint = replace(follower.checkpoint, part=part)
                known = await self._known(follower)
            foreign = _beyond(follower, known)
            follower.checkpoint = before
            follower.settle(base, part, foreign)
            # Kept before the first row leaves: should its acknowledgement be lost and the file
            # be rewritten, the next start knows that the rows are this file's own.
            self.save(book.path, follower.checkpoint)

    def save(self, path: str, checkpoint: Checkpoint, follower: Follower | None = None) -> None:
        """Keep a checkpoint, in memory and on disk."""
        rows = [follower.conversation(f) for _, f in follower.conversations()] if follower else ()
        self._desk.shelf.checkpoints[path] = checkpoint
        self._desk.checkpoints.save(path, checkpoint, rows)


def _stated(follower: Follower) -> set[UUID]:
    return {id for _, fold in follower.conversations() for id in follower.stated(fold)}


def _beyond(follower: Follower, known: Mapping[UUID, KnownConversation]) -> int:
    """Return the highest revision of live messages that the file does not state, or 0."""
    stated = _stated(follower)
    live = (pair for row in known.values() for pair in row.live.items())
    return max((revision for id, revision in live if id not in stated), default=0)


def _fit(follower: Follower, known: Mapping[UUID, KnownConversation]) -> tuple[int, bool]:
    """Return the base under which the file's rows have the revisions that the database knows.

    Messages that did not change since tell it, all by the same difference. Where most agree,
    rows that the database knows from later bytes (this file is an older copy) stay above
    ours; where none do, the base is high enough for every row to be written.

    The second value says that the database has this conversation with other messages only: the
    file must be a later part.
    """
    differences: list[int] = []
    there = 0
    for id, fold in follower.conversations():
        if (row := known.get(id)) is None:
            continue
        there += len(row.live) + len(row.deleted)
        for message, entry in follower.stated(fold).items():
            revision = row.live.get(message, row.deleted.get(message))
            if revision is not None:
                differences.append(revision - entry.end)
    if not differences:
        return 0, there > 0
    usual, times = Counter(differences).most_common(1)[0]
    base = usual if times * 2 >= len(differences) else max(differences)
    return max(0, base), False
