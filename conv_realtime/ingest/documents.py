"""Files that are rewritten whole: what is done otherwise than with those that grow."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection

from conv_realtime.background import on_thread
from conv_realtime.core.checkpoint import FileStat
from conv_realtime.core.document import DocumentFormat
from conv_realtime.edges import disk
from conv_realtime.errors import SourceError
from conv_realtime.ingest.book import Book
from conv_realtime.ingest.desk import INLINE_BYTES, INLINE_ROWS, Desk, apart
from conv_realtime.ingest.follow_statements import StatementFollower

logger = logging.getLogger("conv_realtime.ingest")


async def take(
    desk: Desk, book: Book, follower: StatementFollower, stat: FileStat, *, resting: bool
) -> None:
    """Take the state that a document is in as far as the sink.

    Raises:
        RewrittenError: it changed meanwhile.
        SourceError: it cannot be read.
    """
    book.owner = follower.copy_of
    if follower.is_read(stat) and not resting:
        return
    with disk.open_file(book.path) as file:
        await desk.read_on(follower, file, large=follower.unread(stat) > INLINE_BYTES)
        book.owner = follower.copy_of
        for former in follower.taken_from:
            _let_go(desk, former)
            logger.info("%s goes on where %s ended", book.path, former)
        follower.taken_from.clear()
        if follower.keeps_open and follower.has_news(follower.sent):
            desk.holder.keep(file)
    if resting and (torn := follower.unread_rest()) is not None:
        logger.warning("%s is not read: %s", book.path, torn.reason)


def _let_go(desk: Desk, path: str) -> None:
    """Have a file read again from its start, without what another one states from now on."""
    book = desk.shelf.book(path)
    book.generation += 1
    book.follower = None


async def settle(desk: Desk, book: Book, follower: StatementFollower) -> None:
    """Ask the database for its revisions of what nobody here remembers to have sent."""
    if asked := follower.unknown():
        known = await desk.ask(lambda: desk.store.known(asked.values()))
        async with book.lock:
            await apart(len(asked) > INLINE_ROWS, lambda: follower.adopt(asked, known))


async def survey(desk: Desk, paths: Collection[str]) -> None:
    """Learn which of several documents states a conversation best, before any is taken.

    So what a backfill ends in does not depend on the order in which it reads them.
    """
    rivals: defaultdict[str, list[Book]] = defaultdict(list)
    for path in paths:
        book = desk.shelf.book(path)
        if isinstance(book.form, DocumentFormat) and book.key is not None:
            rivals[book.form.source].append(book)
    for books in rivals.values():
        several = [book for book in books if desk.shelf.may_overlap(book)]
        for book in several if len(several) > 1 else ():
            try:
                await on_thread(_survey_one, desk, book.path)
            except SourceError as error:  # told when it is looked at
                logger.debug("%s", error)


def _survey_one(desk: Desk, path: str) -> None:
    follower = desk.follower(path, None)
    assert isinstance(follower, StatementFollower)
    with disk.open_file(path) as file:
        follower.survey(file)
