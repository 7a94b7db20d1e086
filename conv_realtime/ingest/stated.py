"""What the files state, for a snapshot, and what of it is not there any more."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from functools import partial
from uuid import UUID

from conv_realtime.background import on_thread
from conv_realtime.core.conversation_fold import ConversationFold
from conv_realtime.edges import disk
from conv_realtime.errors import SourceError
from conv_realtime.ingest.book import Book
from conv_realtime.ingest.desk import INLINE_ROWS, Desk, apart
from conv_realtime.ingest.following import Following
from conv_realtime.ingest.rows import RewrittenError
from conv_realtime.ingest.tender import Tender
from conv_realtime.models import Conversation, Message

logger = logging.getLogger("conv_realtime.ingest")


async def conversations(desk: Desk) -> Sequence[Conversation]:
    """Return every conversation that the files state, newest `updated_at` last.

    Without those that the database refused or that were erased for good.
    """
    shown = desk.announcer.rows
    if damaged := await shown.read():
        logger.error("the state directory is damaged; sending %d files again", len(damaged))
        desk.resends.update(damaged)
    letters = desk.checkpoints.letters
    hidden = letters.faults.keys() | letters.forgotten
    rows = [row for id, row in shown.rows() if id not in hidden]
    rows.sort(key=lambda row: row.updated_at.timestamp() if row.updated_at else 0.0)
    return rows


async def messages(desk: Desk, tender: Tender, conversation: UUID, last: int) -> Sequence[Message]:
    """Return the last messages of a conversation, by `seq`; none if its file is gone.

    Should the file come back, everything in it is told again: whoever got none lacks it.
    """
    letters = desk.checkpoints.letters
    shown = desk.announcer.rows.get(conversation)
    hidden = conversation in letters.faults or conversation in letters.forgotten
    if shown is None or last <= 0 or hidden:
        return []
    try:
        rows = await _last_messages(desk, tender, conversation, last)
    except (SourceError, RewrittenError) as error:
        logger.warning("no messages for a snapshot: %s", error)
        return []
    refused = {id: fault.revision for id, fault in letters.faults.items()}
    return [row for row in rows if row.revision > refused.get(row.id, -1)]


async def _last_messages(
    desk: Desk, tender: Tender, conversation: UUID, last: int
) -> Sequence[Message]:
    """Return the last messages of a conversation from the file that states it.

    Raises:
        SourceError, RewrittenError: they cannot be told now; they are told when they can be.
    """
    while True:
        path = desk.announcer.rows[conversation].path
        try:
            async with _opened(desk, path) as (book, file):
                if book.follower is None and path not in desk.shelf.checkpoints:
                    # Which part it is, nobody remembers: another file goes on by now.
                    raise SourceError(path, "it is not what states the conversation any more")
                follower, fold = await _folded(desk, tender, book, file, conversation)
                if fold is None:
                    return []
                read = partial(follower.last_messages, fold, file, last)
                return await apart(last > INLINE_ROWS, read)
        except (SourceError, RewrittenError):
            shown = desk.announcer.rows.get(conversation)
            if shown is None or shown.path == path:
                for other in desk.shelf.owe(path):
                    tender.look_soon(other)
                raise
            # Meanwhile another file has taken over.


async def forget(desk: Desk, tender: Tender, forgotten: Collection[UUID]) -> None:
    """Withdraw conversations that were erased for good from everybody who was told of them."""
    letters = desk.checkpoints.letters
    letters.forget(forgotten)
    for conversation in letters.forgotten & desk.announcer.rows.keys():
        shown = desk.announcer.rows.get(conversation)
        if shown is None:  # withdrawn by another, while the file of the one before was read
            continue
        revisions = await _revisions(desk, tender, shown.path, conversation)
        desk.announcer.drop(conversation)
        desk.announcer.withdraw(
            shown.gone(conversation, desk.identity.owner_id),
            {id: revision + 1 for id, revision in revisions.items()},
        )


async def _revisions(desk: Desk, tender: Tender, path: str, conversation: UUID) -> dict[UUID, int]:
    """Return the messages that a file states of a conversation; none if it is gone."""
    try:
        async with _opened(desk, path) as (book, file):
            follower, fold = await _folded(desk, tender, book, file, conversation)
            return follower.rows.revisions(fold) if fold else {}
    except (SourceError, RewrittenError) as error:
        logger.warning("what was shown of an erased conversation is not known: %s", error)
        return {}


@asynccontextmanager
async def _opened(desk: Desk, path: str) -> AsyncIterator[tuple[Book, disk.OpenFile]]:
    """Hold a file, for nobody else to read or send it meanwhile.

    Raises:
        SourceError: it cannot be read.
    """
    book = desk.shelf.book(path)
    async with book.lock:
        with disk.open_file(path) as file:
            yield book, file


async def _folded(
    desk: Desk, tender: Tender, book: Book, file: disk.OpenFile, conversation: UUID
) -> tuple[Following, ConversationFold | None]:
    """Return the follower of a book, its file read as far as nobody has yet, and the conversation.

    None for the conversation where the file does not state it.

    Raises:
        RewrittenError: the file does not begin with what was acknowledged.
        SourceError: it cannot be read.
    """
    path = book.path
    follower = book.follower or desk.follower(path, desk.shelf.checkpoints.get(path))
    if not follower.folded:
        await on_thread(follower.read_all, file)
        book.follower = follower
        tender.keep_fold(book)
    if follower.want(conversation):
        await on_thread(follower.read_all, file)
    return follower, dict(follower.rows.conversations()).get(conversation)
