"""Who looks at which file when: one task a file at a time, sending beside it, rest after it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from conv_realtime.edges import disk
from conv_realtime.errors import SourceError
from conv_realtime.ingest.book import Book
from conv_realtime.ingest.desk import Desk
from conv_realtime.ingest.looking import look
from conv_realtime.ingest.rewriting import remember
from conv_realtime.ingest.rows import RewrittenError
from conv_realtime.ingest.sending import finish, send

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

logger = logging.getLogger("conv_realtime.ingest")

FOLDS_KEPT = 256
"""How many files' folds stay in memory after everything in them is sent."""

LOOK_SECONDS = 0.2
"""How often is looked whether the store is away, while something is sent to it."""


class Tender:
    """Tends the files of a desk within `running`; outside of it every call does nothing."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._tasks: asyncio.TaskGroup | None = None
        self._folded: dict[str, Book] = {}
        self._work: set[asyncio.Task[None]] = set()
        self._sends: set[asyncio.Task[None]] = set()
        self._behind_since = 0.0

    @asynccontextmanager
    async def running(self, *, stubborn: bool = False) -> AsyncIterator[asyncio.TaskGroup]:
        """Give the group that all work belongs to; leaving waits for it, cancelling ends it.

        Args:
            stubborn: whether the store is waited for whatever it says: see `Asker`.

        Raises:
            RuntimeError: it runs already. Another one may tend the same files beside it.
        """
        if self._tasks is not None:
            raise RuntimeError("this Ingest is at work; use another one on its state directory")
        self._desk.sender.stubborn = stubborn
        try:
            async with asyncio.TaskGroup() as self._tasks:
                yield self._tasks
        finally:
            self._tasks = None
            self._desk.sender.stubborn = False
            for book in list(self._desk.shelf.books.values()):
                # A task that is cancelled before its first step never gets to its `finally`.
                book.looking, book.look_again = None, False
                book.unremembered = frozenset()
                if book.rest is not None:
                    book.rest.cancel()

    @property
    def behind_seconds(self) -> float:
        """For how long something has been waiting to be sent."""
        return time.monotonic() - self._behind_since if self._sends else 0.0

    async def idle(self) -> None:
        """Wait until everything that was looked at is sent. Cancelling changes nothing."""
        while self._work:
            await asyncio.wait(self._work)

    def look_soon(self, path: str, *, resting: bool = False, tell: bool = False) -> None:
        """Look at a file in a task of its own; once more afterwards if it is being looked at.

        `tell` the sink that the file itself changed.
        """
        known = self._desk.shelf.knows(path)
        book = self._desk.shelf.book(path)
        if book.looking is not None:
            book.look_again = True
        elif not book.unremembered:  # else when the store has answered
            self._begin_look(book, resting=resting)
        if tell:  # when the look has begun: what the file says is wanted sooner
            change = "modified" if known else "created"
            asyncio.get_running_loop().call_soon(self._tell, path, change)

    async def catch_up(self, path: str, *, resting: bool) -> set[asyncio.Task[None]]:
        """Look at a file now, if nobody does, and wait until it is sent.

        Return the work that is left, where the store is away and the file goes on: whoever listens
        wants the others as well.
        """
        book = self._desk.shelf.book(path)
        if book.looking is None:
            stat = disk.stat(path)
            age = time.time() - stat.mtime_ns / 1e9 if stat else 0.0
            rests = resting or age > self._desk.settings.rest_seconds
            self._begin_look(book, resting=rests)
        if book.looking is not None:
            await asyncio.wait({book.looking})
        at_work = {task for task in (book.sending, book.settling) if task is not None}
        while at_work and (resting or self._desk.sender.last_error is None):
            _, at_work = await asyncio.wait(at_work, timeout=None if resting else LOOK_SECONDS)
        return at_work

    def keep_fold(self, book: Book) -> None:
        """Count a file as used last, and forget the folds of those used longest ago."""
        self._folded.pop(book.path, None)
        self._folded[book.path] = book
        for path in list(self._folded)[: max(0, len(self._folded) - FOLDS_KEPT)]:
            old = self._folded[path]
            if _is_idle(old):
                old.follower = None
                del self._folded[path]

    def let_go(self, path: str) -> None:
        """Forget the fold of a file that is sent, ahead of others: nobody is at it."""
        book = self._desk.shelf.book(path)
        if _is_idle(book):
            book.follower = None
            self._folded.pop(path, None)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None] | None:
        """Begin a task, None where the work has ended or is about to."""
        try:
            if self._tasks is not None:
                task = self._tasks.create_task(work, name=name)
                self._work.add(task)
                task.add_done_callback(self._work.discard)
                return task
        except RuntimeError:  # the group is shutting down
            pass
        work.close()
        return None

    def _begin_look(self, book: Book, *, resting: bool) -> None:
        book.looking = self._spawn(self._look(book, resting=resting), f"look {book.path}")

    async def _look(self, book: Book, *, resting: bool) -> None:
        try:
            while True:
                book.look_again = False
                await self._look_once(book, resting=resting)
                if not book.look_again:
                    return
                resting = False
        finally:
            book.looking = None

    async def _look_once(self, book: Book, *, resting: bool) -> None:
        try:
            looked = await look(self._desk, book.path, resting=resting)
        except RewrittenError:  # once more, while it was read again after the first time
            self._rest_later(book)
            return
        except SourceError as error:
            if book.fault != error.reason:  # each sweep comes by
                logger.warning("%s", error)
            book.fault = error.reason
            return
        book.fault = None
        if looked is None:
            if book.recognised is None and not resting:  # its first line may be whole already
                self._rest_later(book)
            return
        self._send_soon(looked, resting=resting)
        if not resting:
            self._rest_later(looked)
        elif looked.settling is None or looked.settling.done():
            looked.settling = self._spawn(self._settle_down(looked), f"settle {looked.path}")

    def _tell(self, path: str, change: str) -> None:
        stat = disk.stat(path)
        size = stat.size if stat else 0
        shown = self._desk.sanitizer().name(path)
        self._desk.announcer.file_changed(shown, change if stat else "deleted", size)

    def _rest_later(self, book: Book) -> None:
        if book.rest is not None:
            book.rest.cancel()
        loop = asyncio.get_running_loop()
        delay = self._desk.settings.rest_seconds
        book.rest = loop.call_later(delay, lambda: self.look_soon(book.path, resting=True))

    def _send_soon(self, book: Book, *, resting: bool = False) -> None:
        follower = book.follower
        if follower is None:
            return
        behind = book.unremembered or follower.has_news(follower.sent)
        if not (behind or (resting and follower.doubtful)):
            return
        if book.sending is None or book.sending.done():
            if not self._sends:
                self._behind_since = time.monotonic()
            book.sending = self._spawn(self._send(book, resting=resting), f"send {book.path}")
            if book.sending is not None:
                self._sends.add(book.sending)
                book.sending.add_done_callback(self._sends.discard)
                book.sending.add_done_callback(lambda _: self._look_at_successor(book))

    def _look_at_successor(self, book: Book) -> None:
        """Look at the file that took the path while its former one was not sent yet."""
        if book.replaced and not self._desk.holder.holds(book.path):
            book.replaced = False
            self.look_soon(book.path)

    async def _send(self, book: Book, *, resting: bool) -> None:
        """Send what is read of a file; of one that nobody remembers ask before what it was."""
        while True:
            while book.unremembered:
                await remember(self._desk, book)
                await self._look_once(book, resting=resting)
                book.remembered = {}
            await send(self._desk, book)
            if not book.unremembered:
                break
        if book.follower is None:  # another process has begun the file again
            self.look_soon(book.path)

    async def _settle_down(self, book: Book) -> None:
        """Wait until everything is sent, then judge the file as done."""
        while True:
            while book.sending is not None and not book.sending.done():
                await asyncio.wait({book.sending})
                self._send_soon(book)
            if await finish(self._desk, book):
                break
            self._send_soon(book)
        self.keep_fold(book)


def _is_idle(book: Book) -> bool:
    follower = book.follower
    if follower is None:
        return True
    sending = book.sending is not None and not book.sending.done()
    return not (sending or book.lock.locked() or follower.has_news(follower.sent))
