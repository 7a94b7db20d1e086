"""A file's rows to the store until it has them all, then the file is done until it changes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from datetime import UTC, datetime

from conv_realtime.edges import disk
from conv_realtime.errors import SourceError
from conv_realtime.ingest import documents
from conv_realtime.ingest.batches import Batch
from conv_realtime.ingest.book import Book
from conv_realtime.ingest.desk import Desk
from conv_realtime.ingest.follow import Follower
from conv_realtime.ingest.follow_statements import StatementFollower
from conv_realtime.ingest.following import Following
from conv_realtime.ingest.request import MissingParentError, Outcome, PutOffError
from conv_realtime.ingest.rewriting import mark_deleted, settle
from conv_realtime.ingest.rows import RewrittenError

logger = logging.getLogger("conv_realtime.ingest")

LATER_SECONDS = 5.0
"""How long a file waits whose rows are put off, or were lost again."""

_ATTEMPTS = 3
"""How often what is meant to end tries rows that are refused for an unclear reason."""

# File systems stamp times in ticks of some milliseconds: a file written just now may change
# again and look the same, so what is known of it is not trusted at the next start.
_RACY_NS = 100_000_000


async def send(desk: Desk, book: Book) -> None:
    """Send until the store has everything that has been read. Cancelling loses nothing.

    Raises:
        StoreError: the store refuses for good, and the sender is not stubborn.
    """
    lost_at, attempts = -1, 0
    while (follower := book.follower) is not None:
        try:
            await _settle(desk, book, follower)
        except RewrittenError:
            return  # the next look finds out what happened
        except SourceError as error:
            logger.warning("%s", error)
            return
        try:
            small = lost_at < 0 and desk.is_small_history(follower)
            # Built in its turn: however many files wait, and however long, few batches exist.
            async with desk.small_sends if small else desk.sends:
                batch, generation = await _next(desk, book, follower)
                if batch is None:
                    break
                if book.follower is not follower:
                    continue  # another file states this by now
                follower.prepare(batch)
                if small:
                    outcome = await desk.write_small(batch, book.path)
                else:
                    outcome = await desk.sender.write(batch, book.path, resent=lost_at >= 0)
        except MissingParentError as error:
            logger.warning("the database lost rows (%s); sending %s again", error, book.path)
            desk.sender.forget_parents()
            follower.send_again()
            if not follower.complete:
                desk.resends.add(book.path)
            assert batch is not None  # it was being written
            lost_at = batch.mark[0]
            continue
        except PutOffError as put_off:
            attempts += 1
            patient = put_off.error.retryable or desk.sender.stubborn
            if not patient and attempts >= _ATTEMPTS:
                raise put_off.error from None
            logger.debug("%s waits: %s", book.path, put_off)
            await asyncio.sleep(LATER_SECONDS)
            continue
        attempts = 0
        if batch.mark[0] >= lost_at:  # through what was refused for its missing parent
            lost_at = -1
        if book.generation != generation or book.follower is not follower:
            continue
        if not _judge(desk, follower, batch, outcome):
            await asyncio.sleep(LATER_SECONDS)  # it is sent, and refused, once more
        elif await _take_back(desk, book, follower, batch, outcome):
            _meter(desk, batch)
            follower.acknowledge(batch)
            # Kept together: what is acknowledged is announced by no later run.
            desk.save(book.path, follower.checkpoint, batch.totals)
    if follower is not None and not follower.has_news(follower.sent):
        desk.holder.release(book.path)


async def _settle(desk: Desk, book: Book, follower: Following) -> None:
    """Ask the database what it has of a file of which that is not known for sure.

    Raises:
        RewrittenError: the file was rewritten meanwhile.
        SourceError: it cannot be read any more.
    """
    if isinstance(follower, StatementFollower):
        await documents.settle(desk, book, follower)
    elif isinstance(follower, Follower):
        await settle(desk, book, follower)


def _meter(desk: Desk, batch: Batch) -> None:
    if desk.meter is not None:
        redacted: Counter[str] = Counter()
        for message in batch.messages:
            redacted.update(message.metadata.get("redacted", {}))
        desk.meter.stored(batch.newest, redacted)


def _judge(desk: Desk, follower: Following, batch: Batch, outcome: Outcome) -> bool:
    """Note what was refused, and withdraw it from who was told; return whether that is kept."""
    letters = desk.checkpoints.letters
    new = [fault for fault in outcome.faults if letters.is_news(fault)]
    kept = letters.bury(new)
    if not new:
        return kept
    refused = {fault.id: fault.revision for fault in new}
    messages = {
        row.id: (row.conversation_id, row.revision) for row in batch.messages if row.id in refused
    }
    owner, at = follower.identity.owner_id, batch.newest or datetime.fromtimestamp(0, UTC)
    desk.announcer.withdraw_messages(owner, messages, at)
    for id, fold in follower.rows.conversations():
        if id in refused:
            stated = follower.rows.revisions(fold)
            desk.announcer.withdraw(follower.rows.conversation(fold), stated)
    return kept


async def _take_back(
    desk: Desk, book: Book, follower: Following, batch: Batch, outcome: Outcome
) -> bool:
    """Take letters of rows back that the store has taken after all; tell of these rows again.

    Returns False where others waited for such a row: the file is then sent from its start.
    """
    if not desk.checkpoints.letters.faults:
        return True
    back = {fault.id: fault for fault in desk.checkpoints.letters.taken(outcome.taken(batch))}
    if not back:
        return True
    desk.announcer.restore(
        row for row in batch.messages if row.id in back and row.revision <= back[row.id].revision
    )
    parents = {id for id, fault in back.items() if fault.table != "messages"}
    if not parents:
        return True
    desk.sender.refused -= parents
    waiting = desk.checkpoints.letters.faults.values()
    desk.resends.update(fault.path for fault in waiting if fault.parent in parents)
    desk.resends.discard(book.path)  # this is what happens now
    async with book.lock:
        if book.follower is follower:
            desk.send_again(book, follower)
            try:
                with desk.holder.open(book.path) as file:
                    await desk.announce(follower, file)
            except (SourceError, RewrittenError):
                pass  # the next look finds out what happened
    return False


async def _next(desk: Desk, book: Book, follower: Following) -> tuple[Batch | None, int]:
    """Return the next batch, and the generation of the file that it was built from."""
    async with book.lock:
        try:
            with desk.holder.open(book.path) as file:
                batch = await desk.next_batch(follower, follower.sent, file)
        except RewrittenError:
            batch = None  # the next look finds out what happened
        except SourceError as error:
            logger.warning("%s", error)
            book.fault, batch = error.reason, None
        return batch, book.generation


async def finish(desk: Desk, book: Book) -> bool:
    """Note that a file at rest is judged and acknowledged, and mark what it took back.

    Return False where it has to be sent from its start before.
    """
    follower = book.follower
    stat = disk.stat(book.path)
    if follower is None or stat is None or follower.has_news(follower.sent):
        return True
    if isinstance(follower, Follower) and not await mark_deleted(desk, book, follower):
        return False
    async with book.lock:
        if book.follower is not follower or not follower.stands_at(stat):
            return True
        racy = time.time_ns() - stat.mtime_ns < _RACY_NS
        follower.finish(None if racy else stat)
        desk.save(book.path, follower.checkpoint, follower.unkept_rows())
    return True
