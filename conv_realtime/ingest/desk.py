"""What the work on every file shares, and the steps that it is made of."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar
from uuid import UUID

from conv_realtime.background import on_thread
from conv_realtime.core.checkpoint import Checkpoint
from conv_realtime.core.document import DatabaseFormat, DocumentFormat
from conv_realtime.core.format import LogFormat, Recognised
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.edges.checkpoints import Checkpoints
from conv_realtime.edges.disk import OpenFile
from conv_realtime.ingest.announcing import Announcer
from conv_realtime.ingest.batches import Batch, Reader, beginning
from conv_realtime.ingest.book import Book
from conv_realtime.ingest.document_rows import Parses
from conv_realtime.ingest.follow import Follower
from conv_realtime.ingest.follow_database import DatabaseFollower
from conv_realtime.ingest.follow_document import DocumentFollower
from conv_realtime.ingest.follow_statements import Common
from conv_realtime.ingest.following import Following
from conv_realtime.ingest.holding import Holder
from conv_realtime.ingest.joint import Joint
from conv_realtime.ingest.request import Outcome
from conv_realtime.ingest.rows import Identity
from conv_realtime.ingest.secrets_found import Secrets
from conv_realtime.ingest.sender import Sender
from conv_realtime.ingest.shelf import Shelf
from conv_realtime.models import Conversation
from conv_realtime.ports import KnownConversation, Meter, Store
from conv_realtime.settings import Settings

logger = logging.getLogger("conv_realtime.ingest")

INLINE_BYTES = 256 * 2**10
"""What is read on the loop in one go."""

SMALL_BYTES = 128 * 2**10
"""How much of a file is sent together with other files', if it is history."""

SMALL_BATCHES = 64
"""How many batches of so little exist at the same time."""

INLINE_ROWS = 20
"""How many rows are made on the loop in one go."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything that reading, sending and judging a file needs."""

    settings: Settings
    identity: Identity
    store: Store
    sender: Sender
    shelf: Shelf
    checkpoints: Checkpoints
    announcer: Announcer
    slots: asyncio.Semaphore
    holder: Holder
    sends: asyncio.Semaphore
    beginnings: Joint[Batch, bool]
    histories: Joint[Batch, bool]
    questions: Joint[Collection[UUID], Mapping[UUID, KnownConversation]]
    sanitizer: Callable[[], Sanitizer]
    """Gives what cleans the values of one file, by the settings."""
    secrets: Secrets
    meter: Meter | None = None
    resends: set[str] = field(default_factory=set)
    """Files to be sent from their start once more when they are looked at next."""
    parses: Parses = field(default_factory=Parses)
    small_sends: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SMALL_BATCHES))
    turns: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Whose large work is done on the loop next: one at a time, and others in between."""

    def follower(self, path: str, checkpoint: Checkpoint | None) -> Following:
        """Return a new follower of `path`.

        Raises:
            SourceError: it is not known what the file is, and it cannot be read.
        """
        form = self.shelf.form(path)
        sanitizer = self.sanitizer()
        if isinstance(form, LogFormat):
            most = self.settings.max_line_bytes
            return Follower(path, form, self.identity, sanitizer, checkpoint, max_line_bytes=most)
        memories, claims = self.checkpoints.documents, self.shelf.claims
        common = Common(self.identity, memories, claims, self.parses)
        if isinstance(form, DatabaseFormat):
            return DatabaseFollower(path, form, common, sanitizer, checkpoint)
        assert isinstance(form, DocumentFormat)
        most = self.settings.max_document_bytes
        return DocumentFollower(path, form, common, sanitizer, checkpoint, max_bytes=most)

    async def read_on(self, follower: Following, file: OpenFile, *, large: bool) -> None:
        """Read to the end of the file, announcing on the way."""
        lines, skipped = follower.lines, len(follower.skipped)
        read = partial(follower.read, file, INLINE_BYTES)
        while await self._work(follower, file, read, large=large):
            await self.announce(follower, file)
        folds, id_of = follower.transcript.conversations.values(), follower.rows.conversation_id
        self.secrets.note(follower.path, folds, id_of, whole=follower.complete)
        new = follower.skipped[skipped:]
        for one in new:
            place = "" if one.offset is None else f" at byte {one.offset}"
            logger.info("%s: skipped%s: %s", one.path, place, one.reason)
        if self.meter is not None:
            self.meter.read(follower.lines - lines, [one.reason for one in new])
        await self.announce(follower, file)

    async def _work(
        self, follower: Following, file: OpenFile, work: Callable[[], _Result], *, large: bool
    ) -> _Result:
        """Return the result of `work` on a file.

        A log's takes some milliseconds: it is done on the loop, when that has seen to others. A
        thread would contend with it for Python's lock, which each search for secrets lets go of
        and each system call of the loop needs back: a fifth of a backfill's time. What is packed,
        and a document, which is parsed as a whole, may take seconds: on a thread.
        """
        if file.packed or not isinstance(follower, Follower):
            return await apart(large, work)
        if not large:
            return work()
        async with self.turns:
            await asyncio.sleep(0)
            return work()

    async def announce(self, follower: Following, file: OpenFile) -> None:
        """Tell the sink what it has not heard yet."""
        if not self.announcer.wanted:
            return
        while batch := await self.next_batch(follower, follower.published, file):
            self.announcer.announce(follower, self._shown(batch))
            follower.advance(follower.published, batch)

    def _shown(self, batch: Batch) -> Batch:
        """Return the batch without what the database refuses: it is not shown as if it had it."""
        faults = self.checkpoints.letters.faults.values()
        if not faults:
            return batch
        conversations = {fault.id for fault in faults if fault.table == "conversations"}
        messages = {fault.id: fault.revision for fault in faults if fault.table == "messages"}
        return batch.without(conversations, messages)

    async def next_batch(self, follower: Following, reader: Reader, file: OpenFile) -> Batch | None:
        """Return the next rows for a reader; see `Follower.next_batch`."""
        most, size = self.settings.batch_rows, self.settings.batch_bytes
        many = follower.waiting(reader) > INLINE_ROWS
        make = partial(follower.next_batch, reader, file, most, size)
        batch = await self._work(follower, file, make, large=many)
        letters = self.checkpoints.letters
        if batch is None or not letters.forgotten:
            return batch
        letters.forget(batch.below(letters.forgotten))
        return batch.without(letters.forgotten)

    async def known(self, follower: Following) -> Mapping[UUID, KnownConversation]:
        """Return what the database has of the file's conversations.

        Thousands of short ones may ask: after an outage, without their state directory.
        """
        ids = [id for id, _ in follower.rows.conversations()]
        if self.is_small_history(follower):
            answer = await self.questions.send(ids)
            if answer is not None:
                return {id: answer[id] for id in ids if id in answer}
        return await self.ask(lambda: self.store.known(ids))

    async def begin(self, follower: Follower) -> bool:
        """Write the file's conversation without its messages; return whether that is news.

        Of several some may be there, and then it is not sure which ids the others have.
        """
        old = self.sender.is_old(follower.newest)
        async with self.small_sends if old else self.slots:
            conversations = list(follower.rows.conversations())
            if len(conversations) != 1:
                return False
            begun = beginning(follower.rows, conversations[0][1])
            forgotten = self.checkpoints.letters.forgotten
            if conversations[0][0] in forgotten or begun.below(forgotten):
                return False
            return bool(await (self.beginnings.send(begun) if old else self.sender.begin(begun)))

    def is_small_history(self, follower: Following) -> bool:
        """Return whether what is to be sent of a log is little, and no news.

        News wait for nothing of the kind: thousands of short transcripts may.
        """
        if not isinstance(follower, Follower):
            return False
        little = follower.end[0] - follower.sent.position <= SMALL_BYTES
        return little and self.sender.is_old(follower.newest)

    async def write_small(self, batch: Batch, path: str) -> Outcome:
        """Write little history together with that of other files.

        Raises:
            StoreError, MissingParentError, PutOffError: see `Sender.write`.
        """
        if await self.histories.send(batch):
            return Outcome([], frozenset())
        async with self.sends:
            return await self.sender.write(batch, path)

    async def ask(self, question: Callable[[], Awaitable[_Result]]) -> _Result:
        """Return the store's answer, when it is this question's turn.

        Thousands of files may want to know at once: all their requests together would only
        wait for a connection until they time out.

        Raises:
            StoreError: see `Sender.ask`.
        """
        async with self.slots:
            return await self.sender.ask(question)

    def begin_again(
        self, book: Book, follower: Follower, checkpoint: Checkpoint, earlier: Mapping[UUID, UUID]
    ) -> None:
        """Have the file read from its start under a new base or part, which is kept first.

        `earlier` are the messages that it stated, with their conversations.
        """
        book.generation += 1
        self.checkpoints.letters.drop_of(book.path)  # everything is sent and judged again
        self.save(book.path, checkpoint)
        follower.start_over(checkpoint)
        follower.settled = follower.confirmed = checkpoint.rewritten
        follower.earlier = frozenset(earlier)
        if checkpoint.rewritten:
            book.told_earlier.update(earlier)

    def save(self, path: str, checkpoint: Checkpoint, stated: Iterable[Conversation] = ()) -> None:
        """Keep a checkpoint in memory and on disk, with conversations as it leaves them."""
        forgotten = self.checkpoints.letters.forgotten
        known = self.shelf.book(path).recognised
        checkpoint = replace(checkpoint, known=known if isinstance(known, Recognised) else None)
        kept = [row for row in stated if row.id not in forgotten]
        self.shelf.checkpoints[path] = checkpoint
        if not self.checkpoints.save(path, checkpoint, kept):
            self._begin_behind_other(path)

    def send_again(self, book: Book, follower: Following) -> None:
        """Have everything in the file told and sent once more.

        What is under way acknowledges nothing any more.
        """
        book.generation += 1
        follower.send_again()
        follower.tell_again()
        if not follower.complete:
            self.resends.add(book.path)

    def _begin_behind_other(self, path: str) -> None:
        """Take over how another process on the state directory counts the file's revisions.

        It has seen the file rewritten; rows that are counted as before would be dropped.
        """
        logger.warning("%s was rewritten; another process has begun it again", path)
        if (checkpoint := self.checkpoints.load_one(path)) is not None:
            self.shelf.checkpoints[path] = checkpoint
        book = self.shelf.book(path)
        book.generation += 1
        book.follower = None
        book.look_again = True


async def apart(large: bool, work: Callable[[], _Result]) -> _Result:
    """Return the result of `work`, done on a thread if it is `large`."""
    return await on_thread(work) if large else work()
