"""One look at one file: what happened to it, and what is new in it to the sink.

Everything about one file happens under its book's lock, one step at a time.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from conv_realtime.core.checkpoint import FileStat
from conv_realtime.edges import disk
from conv_realtime.ingest import documents
from conv_realtime.ingest.book import Book
from conv_realtime.ingest.desk import INLINE_BYTES, Desk, apart
from conv_realtime.ingest.follow import Follower, Verdict
from conv_realtime.ingest.follow_statements import StatementFollower
from conv_realtime.ingest.rewriting import rewritten
from conv_realtime.ingest.rows import RewrittenError

logger = logging.getLogger("conv_realtime.ingest")


async def look(desk: Desk, path: str, *, resting: bool) -> Book | None:
    """Take what is new in a file as far as the sink; return its book if rows may wait.

    Args:
        desk: what is shared.
        path: the file.
        resting: whether it has not changed for a while, so that a last line without a
            newline counts and everything is judged once more by content.

    Raises:
        SourceError: the file cannot be read.
    """
    stat = disk.stat(path)
    if stat is None:
        _gone(desk, path)
        return None
    if stat.size == 0:
        return None
    book = desk.shelf.recognise(path, resting=resting)
    async with book.lock:
        taken_from = desk.shelf.settle_owner(book)
        if book.key is None or book.owner is not None:
            return None
        if taken_from is not None:
            await _take_over(desk, book, taken_from, large=stat.size > INLINE_BYTES)
        checkpoint = desk.shelf.checkpoints.get(path)
        again = path in desk.resends
        if book.follower is None:
            unchanged = checkpoint is not None and checkpoint.stat == stat
            if unchanged and not again and not desk.shelf.owes(book):
                return None  # judged and acknowledged as it is
            book.follower = desk.follower(path, checkpoint)
        follower = book.follower
        if again:
            desk.send_again(book, follower)
            desk.resends.discard(path)
        if owes := desk.shelf.owes(book):
            follower.want()
            follower.tell_again()
        if isinstance(follower, StatementFollower):
            await documents.take(desk, book, follower, stat, resting=resting)
        elif isinstance(follower, Follower):
            await _take(desk, book, follower, stat, resting=resting)
        if owes and not (book.unremembered or follower.has_news(follower.published)):
            desk.shelf.settle_debt(book)  # not before: the file may be away again
    return book


def _gone(desk: Desk, path: str) -> None:
    """A file that vanished deletes nothing; what was not sent yet is read from the open file."""
    book = desk.shelf.books.get(path)
    if book is None or book.follower is None:
        return
    if book.follower.has_news(book.follower.sent):
        if desk.holder.holds(path):
            return
        waiting = book.follower.waiting(book.follower.sent)
        logger.error("%s vanished before %d records of it were sent", path, waiting)
    book.follower = None


async def _take_over(desk: Desk, book: Book, former: str, *, large: bool) -> None:
    """Go on where another copy of the same conversation has got, if this one contains it."""
    checkpoint = desk.shelf.checkpoints.get(former)
    before = desk.shelf.book(former)
    before.generation += 1  # what is under way for it says nothing any more
    before.follower = None
    goes_on = False
    if checkpoint is not None:  # else it cannot be read, and all is sent once more
        end = checkpoint.position
        with disk.open_file(book.path) as file:
            crc = await apart(large or file.packed, lambda: file.crc(end))
        goes_on = crc == checkpoint.crc and book.follower is None
    desk.shelf.checkpoints.pop(former, None)  # not before: the file may be away for a moment
    desk.checkpoints.forget(former, heir=book.path if goes_on else None)
    desk.checkpoints.letters.moved(former, book.path)
    if checkpoint is not None and goes_on:
        desk.save(book.path, replace(checkpoint, stat=None))
        desk.announcer.moved(former, book.path)
    logger.info("%s goes on where %s ended", book.path, former)


async def _take(
    desk: Desk, book: Book, follower: Follower, stat: FileStat, *, resting: bool
) -> None:
    with disk.open_file(book.path) as file:
        large = file.packed or follower.unread(stat) > INLINE_BYTES
        if file.packed and not follower.folded:
            await apart(large, file.check)
        try:
            verdict = await apart(large, lambda: follower.judge(file, stat))
            if resting and verdict is not Verdict.REWRITTEN and follower.folded:
                whole = file.packed or stat.size > INLINE_BYTES
                verdict = await apart(whole, lambda: follower.verify(file))
            if verdict is Verdict.REWRITTEN:
                raise RewrittenError(book.path)
            await desk.read_on(follower, file, large=large)
            if resting:
                follower.take_rest()
                await desk.announce(follower, file)
        except RewrittenError:
            await rewritten(desk, book, follower, file)
        if follower.has_news(follower.sent) and not book.replaced:
            desk.holder.keep(file)
