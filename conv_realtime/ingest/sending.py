"""A file's rows to the store until it has them all, then the file is done until it changes."""

from __future__ import annotations

import asyncio
import logging
import time

from conv_realtime.edges import disk
from conv_realtime.errors import SourceError
from conv_realtime.ingest.batches import Batch
from conv_realtime.ingest.desk import Desk
from conv_realtime.ingest.follow import Follower
from conv_realtime.ingest.rewriting import mark_deleted, settle
from conv_realtime.ingest.rows import RewrittenError
from conv_realtime.ingest.sender import MissingParentError
from conv_realtime.ingest.shelf import Book

logger = logging.getLogger("conv_realtime.ingest")

_LOST_AGAIN_SECONDS = 5.0
# File systems stamp times in ticks of some milliseconds: a file written just now may change
# again and look the same, so what is known of it is not trusted at the next start.
_RACY_NS = 100_000_000


async def send(desk: Desk, book: Book) -> None:
    """Send until the store has everything that has been read. Cancelling loses nothing.

    Raises:
        StoreError: the store refuses for good, and the sender is not stubborn.
    """
    lost_before = False
    while (follower := book.follower) is not None:
        try:
            await settle(desk, book, follower)
        except RewrittenError:
            return  # the next look finds out what happened
        except SourceError as error:
            logger.warning("%s", error)
            return
        batch, generation = await _next(desk, book, follower)
        if batch is None:
            if not follower.has_news(follower.sent):
                desk.holder.release(book.path)
            return
        try:
            async with desk.slots:
                faults = await desk.sender.write(batch, book.path)
        except MissingParentError as error:
            logger.warning("the database lost rows (%s); sending %s again", error, book.path)
            if lost_before:
                await asyncio.sleep(_LOST_AGAIN_SECONDS)
            lost_before = True
            desk.sender.forget_projects()
            follower.forget_sent()
            continue
        lost_before = False
        if book.generation == generation and book.follower is follower:
            for fault in faults:
                desk.checkpoints.bury(fault)
            follower.acknowledge(batch)
            desk.save(book.path, follower.checkpoint)


async def _next(desk: Desk, book: Book, follower: Follower) -> tuple[Batch | None, int]:
    """Return the next batch, and the generation of the file that it was built from."""
    async with book.lock:
        try:
            with desk.holder.open(book.path) as file:
                batch = await desk.next_batch(follower, follower.sent, file)
        except RewrittenError:
            batch = None  # the next look finds out what happened
        except SourceError as error:
            logger.warning("%s", error)
            batch = None
        return batch, book.generation


async def finish(desk: Desk, book: Book) -> None:
    """Note that a file at rest is judged and acknowledged, and mark what it took back."""
    follower = book.follower
    stat = disk.stat(book.path)
    if follower is None or stat is None or follower.has_news(follower.sent):
        return
    if follower.checkpoint.rewritten:
        await mark_deleted(desk, book, follower)
    async with book.lock:
        if book.follower is not follower or stat.size != follower.buffer.end:
            return
        racy = time.time_ns() - stat.mtime_ns < _RACY_NS
        follower.finish(None if racy else stat)
        desk.save(book.path, follower.checkpoint, follower)
