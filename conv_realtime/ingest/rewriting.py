"""A file is not what it was, or nobody remembers what it was: content and database decide.

* R1 what was known is still there, and more: an append. Nothing to do here.
* R2 the same again, elsewhere or in another file: nothing, see `ownership`.
* R3 vanished, empty, or without a message: nothing. Rows outlive their file.
* R4 rewritten, but some known message is still there: the file's new content is the
  conversation. Revisions count from a new base above all old ones, so every row is written
  again; what is missing is marked deleted once the file rests.
* R5 rewritten, and nothing known is there: another conversation, child of the old one.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple
from uuid import UUID

from conv_realtime.background import on_thread
from conv_realtime.core.checkpoint import Checkpoint
from conv_realtime.edges.disk import OpenFile
from conv_realtime.errors import SourceError
from conv_realtime.ingest.book import Book, Unmarked
from conv_realtime.ingest.desk import Desk
from conv_realtime.ingest.follow import Follower
from conv_realtime.ingest.rows import LogRows, RewrittenError
from conv_realtime.ports import KnownConversation

logger = logging.getLogger("conv_realtime.ingest")

Known = Mapping[UUID, KnownConversation]


async def rewritten(desk: Desk, book: Book, follower: Follower, file: OpenFile) -> None:
    """Decide between R3, R4 and R5, and read the file again accordingly.

    Where nobody here remembers what it was, the book says so, and nothing is done before
    `remember` has asked: the database may be away for days, and others want the file meanwhile.
    """
    before = follower.checkpoint
    earlier = follower.rows.all_told()
    highest = before.base + max(follower.buffer.end, before.end, before.position)
    fresh = desk.follower(book.path, None)
    fresh.checkpoint = Checkpoint(part=before.part)
    while await on_thread(fresh.read, file):
        pass
    now = fresh.rows.all_told()
    if not now:
        return
    if not earlier:  # a restart: only the database remembers
        ids = dict(fresh.rows.conversations()).keys()
        if not ids <= book.remembered.keys():
            book.unremembered = frozenset(ids)
            return
        known = {id: row for id in ids if (row := book.remembered[id]) is not None}
        earlier = {id: of for of, row in known.items() for id in (*row.live, *row.deleted)}
        highest = max([highest, *(row.highest for row in known.values())])
    if earlier and not earlier.keys() & now.keys():
        # The old file's conversation stays. What the store lacks of it can still be read, if it
        # was put aside and not overwritten: that first.
        book.replaced = follower.has_news(follower.sent) and desk.holder.holds_another(file)
        if book.replaced:
            return
        if before.rewritten and follower.folded:
            _leave_unmarked(book, follower)
        checkpoint = Checkpoint(part=before.part + 1)
    else:
        checkpoint = Checkpoint(base=highest, part=before.part, rewritten=True)
    logger.warning("%s was rewritten; reading it again", book.path)
    desk.begin_again(book, follower, checkpoint, earlier)
    await desk.read_on(follower, file, large=True)


async def remember(desk: Desk, book: Book) -> None:
    """Ask the database what a file stated before it was rewritten; the next look decides then."""
    ids = book.unremembered
    known = await desk.ask(lambda: desk.store.known(ids))
    book.remembered = {id: known.get(id) for id in ids}
    book.unremembered = frozenset()


async def mark_deleted(desk: Desk, book: Book, follower: Follower) -> bool:
    """Mark what a rewritten file no longer states, now that it rests.

    Return False where it is begun again instead: rows of an earlier process, whose last request
    the database had not done yet when it was asked, are above the new base.
    """
    while book.unmarked:
        what = book.unmarked[0]
        await _mark(desk, follower, what, await _known(desk, what))
        book.unmarked.pop(0)
    if not follower.checkpoint.rewritten:
        return True
    generation, what = book.generation, _unmarked(book, follower)
    known = await _known(desk, what)
    async with book.lock:
        if book.generation != generation or book.follower is not follower:
            return True  # asked again when it comes to rest
        late = _unstated(known, what.stated, above=what.base)
        if late or _is_behind(follower, known):
            try:
                await _begin_above(desk, book, follower, known, late)
            except (SourceError, RewrittenError):
                return True  # the next look finds out what happened
            return False
    await _mark(desk, follower, what, known)
    if book.generation == generation:
        book.told_earlier.clear()
        follower.checkpoint = replace(follower.checkpoint, rewritten=False)
    return True


def _leave_unmarked(book: Book, follower: Follower) -> None:
    """Keep what a file has taken back for when its next content is at rest."""
    book.unmarked.append(_unmarked(book, follower))
    book.told_earlier.clear()


def _unmarked(book: Book, follower: Follower) -> Unmarked:
    conversations = dict(follower.rows.conversations())
    times = (fold.last_time for fold in conversations.values())
    return Unmarked(
        conversations=list(conversations),
        stated=frozenset(follower.rows.all_told()),
        told=dict(book.told_earlier),
        base=follower.checkpoint.base,
        at=max(filter(None, times), default=datetime.fromtimestamp(0, UTC)),
    )


async def _known(desk: Desk, what: Unmarked) -> Known:
    return await desk.ask(lambda: desk.store.known(what.conversations))


async def _mark(desk: Desk, follower: Follower, what: Unmarked, known: Known) -> None:
    """Mark what was taken back and is not stated since, for the database and for listeners."""
    stated = what.stated | follower.rows.all_told().keys()
    missing = _unstated(known, stated)
    base = max([what.base, *(known[of].live[id] for id, of in missing.items())])
    if missing:
        ids, at = list(missing), what.at
        desk.sender.changed += await desk.ask(lambda: desk.store.mark_deleted(ids, base, at))
    # Also what the database never had: it was told as soon as it was read. The file may have grown.
    stated = what.stated | follower.rows.all_told().keys()
    gone = {id: of for id, of in {**missing, **what.told}.items() if id not in stated}
    if gone:
        desk.announcer.announce_deleted(follower, gone, base, what.at)


async def settle(desk: Desk, book: Book, follower: Follower) -> None:
    """Learn from the database, once, what it has of a file that has something to be sent.

    Also where a clean checkpoint speaks for it: that may come from a backup. A file that nothing
    is known of is mostly new: then its conversation is written, and it need not be asked.

    Raises:
        RewrittenError: the file was rewritten meanwhile.
        SourceError: it cannot be read any more.
    """
    if follower.settled and follower.confirmed:
        return
    while True:
        generation = book.generation
        new = not follower.settled and await desk.begin(follower)
        known = {} if new else await desk.known(follower)
        fits = follower.settled and not _is_another(follower, known)
        fit = None if fits else await find_fit(desk, follower, known)
        async with book.lock:
            if book.follower is not follower:
                return  # another file states this by now
            if book.generation == generation:  # else it was begun again: another question
                return await _settle(desk, book, follower, known, fit)
        if follower.settled and follower.confirmed:
            return


async def _settle(
    desk: Desk, book: Book, follower: Follower, known: Known, fit: Fit | None
) -> None:
    follower.confirmed = True
    if _is_another(follower, known):
        if follower.published.position:
            desk.announcer.take_back(follower.rows)
            follower.tell_again()
        follower.checkpoint = Checkpoint(part=follower.checkpoint.part)
        follower.settled = False
    if not follower.settled:
        assert fit is not None
        await _adopt(desk, book, follower, fit)
        return
    checkpoint = follower.checkpoint
    # Live messages that only this file can have stated, and states no longer.
    ahead = max(checkpoint.base + checkpoint.position, checkpoint.foreign)
    orphans = _unstated(known, follower.rows.all_told(), above=ahead)
    if orphans or _is_behind(follower, known):
        # An acknowledgement was lost, and then the file shrank, or the checkpoint is an old one
        # from before the file was rewritten: the database decides.
        await _begin_above(desk, book, follower, known, orphans)


async def _begin_above(
    desk: Desk, book: Book, follower: Follower, known: Known, gone: Mapping[UUID, UUID]
) -> None:
    """Begin a file again above all rows that the database has; `gone` are messages of it, too.

    Raises:
        RewrittenError: the file was rewritten meanwhile.
        SourceError: it cannot be read any more.
    """
    highest = max(row.highest for row in known.values())
    checkpoint = Checkpoint(base=highest, part=follower.checkpoint.part, rewritten=True)
    desk.begin_again(book, follower, checkpoint, {**gone, **follower.rows.all_told()})
    with desk.holder.open(book.path) as file:
        await desk.read_on(follower, file, large=True)


def _is_another(follower: Follower, known: Known) -> bool:
    """Return whether the database has other messages only, and no content speaks for the file.

    Its checkpoint is an old one, of when it had been begun again and nothing of it was sent yet.
    """
    if follower.checkpoint.position:
        return False
    there = {id for row in known.values() for id in (*row.live, *row.deleted)}
    return bool(there) and there.isdisjoint(follower.rows.all_told())


def _unstated(known: Known, stated: Collection[UUID], above: int = 0) -> dict[UUID, UUID]:
    """Return live messages that are not `stated`, of revisions above one, with conversations."""
    return {
        id: of
        for of, row in known.items()
        for id, revision in row.live.items()
        if revision > above and id not in stated
    }


def _is_behind(follower: Follower, known: Known) -> bool:
    """Return whether the database has rows above what the file states: ours would be dropped."""
    if follower.checkpoint.foreign:  # it is an older copy, and the rows are a larger one's
        return False
    base, stated = follower.checkpoint.base, dict[UUID, int]()
    for id, fold in follower.rows.conversations():
        stated |= {id: base + fold.end} | follower.rows.revisions(fold)
    there = [(id, row.revision) for id, row in known.items()]
    there += (pair for row in known.values() for pair in row.live.items())
    return any(revision > stated.get(id, revision) for id, revision in there)


class Fit(NamedTuple):
    """The base and part under which no row is below what the database has of that part."""

    base: int
    part: int
    known: Known


async def find_fit(desk: Desk, follower: Follower, known: Known) -> Fit:
    """Return what fits a file of which the database has `known`; later parts are asked for."""
    rows = follower.rows
    while (base := _base(rows, known)) is None:
        rows = replace(rows, part=rows.part + 1)
        ids = [id for id, _ in rows.conversations()]
        known = await desk.ask(partial(desk.store.known, ids))
    return Fit(base, rows.part, known)


def take_fit(follower: Follower, fit: Fit) -> None:
    """Have the file's rows counted as it fits the database."""
    foreign = _foreign(replace(follower.rows, part=fit.part), fit.known)
    follower.settle(fit.base, fit.part, foreign)


async def _adopt(desk: Desk, book: Book, follower: Follower, fit: Fit) -> None:
    """Take what fits the database, keep it, and tell what is to be told so."""
    take_fit(follower, fit)
    # Kept before the first row leaves: should its acknowledgement be lost and the file
    # be rewritten, the next start knows that the rows are this file's own.
    desk.save(book.path, follower.checkpoint)
    with desk.holder.open(book.path) as file:
        await desk.announce(follower, file)


def _foreign(rows: LogRows, known: Known) -> int:
    """Return the highest revision of live messages that the file does not state, or 0."""
    if not known:
        return 0
    stated = rows.all_told()
    live = (pair for row in known.values() for pair in row.live.items())
    return max((revision for id, revision in live if id not in stated), default=0)


def _base(rows: LogRows, known: Known) -> int | None:
    """Return the base under which the file's rows have the revisions that the database knows.

    Messages that did not change since tell it, all by the same difference. Where most agree,
    rows that the database knows from later bytes (this file is an older copy) stay above
    ours; where none do, the base is high enough for every row to be written.

    None says that the database has this conversation with other messages only: the file must
    be a later part.
    """
    differences: list[int] = []
    there = 0
    for id, fold in rows.conversations():
        if (row := known.get(id)) is None:  # nearly always: the file is new
            continue
        there += len(row.live) + len(row.deleted)
        for message, entry in rows.told(fold).items():
            revision = row.live.get(message, row.deleted.get(message))
            if revision is not None:
                differences.append(revision - entry.end)
    if not differences:
        return None if there else 0
    usual, times = Counter(differences).most_common(1)[0]
    base = max(0, usual if times * 2 >= len(differences) else max(differences))
    if max(differences) > base or _foreign(rows, known):
        return base
    # Nothing else is there that this file does not state: where totals are above it, they are its
    # own, from when it was rewritten and the database refused its messages.
    folds = rows.conversations()
    above = [row.revision - fold.end for id, fold in folds if (row := known.get(id))]
    return max(base, *above)
