"""The river of files: watched folders in, rows out to a sink at once and to a store for good.

Events of the file system wake; a sweep over all files guarantees. What has to be sent is
always what lies in the files behind the last acknowledgement, so there is no queue to lose.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import httpx
import jwt

from conv_realtime.edges import disk
from conv_realtime.edges.checkpoints import Checkpoints, machine_id
from conv_realtime.edges.store import SupabaseStore, connect
from conv_realtime.edges.watch import Wakeup, Watcher
from conv_realtime.errors import ConfigError, ConvRealtimeError, SourceError, StoreError
from conv_realtime.ingest.announcing import Announcer
from conv_realtime.ingest.follow import Follower, Identity, RewrittenError
from conv_realtime.ingest.reading import Desk, Looker
from conv_realtime.ingest.sender import Sender
from conv_realtime.ingest.shelf import Book, Shelf
from conv_realtime.models import Conversation, Message, Skipped
from conv_realtime.ports import Sink, Store
from conv_realtime.settings import Settings

logger = logging.getLogger("conv_realtime.ingest")

_APPEAR_SECONDS = 1.0
"""How often a watched path that does not exist yet is looked for."""
_ASK_SECONDS = 3.0
_FOLDS_KEPT = 256


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a backfill has got; bytes and files, done and in all."""

    done_bytes: int
    total_bytes: int
    done_files: int
    total_files: int


@dataclass(slots=True)
class Summary:
    """What a backfill found and did.

    `messages` are the live rows that the files state, `changed` the rows written, `skipped`
    the files and lines that made none; `skips` says which and why.
    """

    files: int = 0
    conversations: int = 0
    messages: int = 0
    changed: int = 0
    bytes: int = 0
    seconds: float = 0.0
    skips: list[Skipped] = field(default_factory=list)

    @property
    def skipped(self) -> int:
        """How many files and lines were skipped."""
        return len(self.skips)


class DatabaseReplacedError(Exception):
    """Behind the same address stands another database than the checkpoints speak of."""


class Ingest:
    """Watches transcripts and writes what they say to a store.

    Args:
        store: takes the rows; default: Supabase, by the settings. A lent one is never closed.
        sink: hears of every change at once, before the store has it.
        settings: ready-made settings; otherwise keywords over the environment, which is read
            when the object is entered.
        **keywords: fields of `Settings`.
    """

    def __init__(
        self,
        *,
        store: Store | None = None,
        sink: Sink | None = None,
        settings: Settings | None = None,
        **keywords: Any,
    ) -> None:
        self._lent = store
        self._sink = sink
        self._given = settings
        self._keywords = keywords
        self._desk: Desk | None = None
        self._looker: Looker | None = None
        self._watcher: Watcher | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._stack: AsyncExitStack | None = None
        self._paths: list[Path] = []
        self._folded: dict[str, Book] = {}
        self._sends: set[asyncio.Task[None]] = set()
        self._behind_since = 0.0

    # Life ----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Open the checkpoints and the store.

        Raises:
            ConfigError: a setting is missing or wrong.
            MigrationError: the database lacks our schema.
            StoreError: the database refuses us. One that is away is waited for later.
        """
        settings = self._given or Settings.load(**self._keywords)
        async with AsyncExitStack() as stack:
            store = self._lent or await _own_store(settings, stack)
            identity = Identity(
                _owner(settings), settings.machine or machine_id(settings.state_dir)
            )
            address = getattr(store, "destination", type(store).__name__)
            destination = f"{address} {identity.owner_id} {identity.machine}"
            checkpoints = stack.enter_context(Checkpoints(settings.state_dir, destination))
            self._desk = Desk(
                settings=settings,
                identity=identity,
                store=store,
                sender=Sender(store, settings),
                shelf=Shelf({}),
                checkpoints=checkpoints,
                announcer=Announcer(self._sink),
                slots=asyncio.Semaphore(settings.concurrency),
            )
            self._looker = Looker(self._desk)
            await self._meet_database()
            self._recall()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.aclose()

    async def run(self) -> None:
        """Watch and send until cancelled. Cancelling stops at once and loses nothing.

        Raises:
            ConfigError: a watched path cannot be read, or the state directory not written.
        """
        desk = self._opened
        self._paths = desk.settings.paths or disk.default_paths()
        desk.sender.stubborn = True
        with _plain_errors():
            while not await self._run_until_replaced():
                self._recall()

    async def _run_until_replaced(self) -> bool:
        """Run; return False when another database has to be sent everything."""
        replaced = False
        try:
            async with Watcher(self._paths) as self._watcher, asyncio.TaskGroup() as self._tasks:
                self._tasks.create_task(self._follow_wakeups(), name="wakeups")
                self._tasks.create_task(self._sweep_for_ever(), name="sweeps")
                self._tasks.create_task(self._watch_database(), name="database")
                await self._catch_up(resting=False)
        except* DatabaseReplacedError:
            logger.warning("the database is another one now; sending everything to it")
            replaced = True
        finally:
            self._tasks = None
            for book in self._opened.shelf.books.values():
                if book.rest is not None:
                    book.rest.cancel()
        return not replaced

    async def backfill(
        self,
        paths: Sequence[str | Path] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Summary:
        """Ingest files once and return what was found.

        Args:
            paths: files and folders; default: those of the settings.
            on_progress: called after each file.

        Raises:
            SourceError: one of `paths` cannot be read at all.
            StoreError: the database refuses for a reason that does not pass by itself.
        """
        desk = self._opened
        wanted = [Path(path) for path in paths] if paths else desk.settings.paths
        self._paths = wanted or disk.default_paths()
        desk.sender.stubborn = False
        begun, changed = time.monotonic(), desk.sender.changed
        summary = Summary()
        with _plain_errors():
            try:
                async with asyncio.TaskGroup() as self._tasks:
                    await self._catch_up(resting=True, summary=summary, on_progress=on_progress)
            finally:
                self._tasks = None
        summary.changed = desk.sender.changed - changed
        summary.seconds = round(time.monotonic() - begun, 3)
        return summary

    # What others see -----------------------------------------------------------------------

    @property
    def transcripts(self) -> Self:
        """The state of all files, for a snapshot: see `conv_realtime.ports.Transcripts`."""
        return self

    async def conversations(self) -> Sequence[Conversation]:
        """Return every conversation that the files state, newest `updated_at` last."""
        rows = [row for _, row in self._opened.announcer.rows.values()]
        rows.sort(key=lambda row: row.updated_at.timestamp() if row.updated_at else 0.0)
        return rows

    async def messages(self, conversation: UUID, last: int) -> Sequence[Message]:
        """Return the last messages of a conversation, by `seq`; none if its file is gone."""
        desk = self._opened
        path, _ = desk.announcer.rows.get(conversation, (None, None))
        if path is None or last <= 0:
            return []
        book = desk.shelf.book(path)
        async with book.lock:
            follower = book.follower or desk.follower(path, desk.shelf.checkpoints.get(path))
            try:
                with disk.OpenFile(path) as file:
                    if not follower.folded:
                        await asyncio.to_thread(_read_all, follower, file)
                        book.follower = follower
                        self._keep_fold(book)
                    fold = dict(follower.conversations()).get(conversation)
                    return follower.last_messages(fold, file, last) if fold else []
            except (SourceError, RewrittenError) as error:
                logger.warning("no messages for a snapshot: %s", error)
                return []

    def health(self) -> dict[str, Any]:
        """Return what `/healthz` says of ingest, from memory.

        `lag_seconds` is the age of the oldest record that the store has not acknowledged,
        `queue` how many there are.
        """
        desk = self._opened
        books = desk.shelf.owners()
        followers = [book.follower for book in books if book.follower is not None]
        queue = sum(follower.waiting(follower.sent) for follower in followers)
        error = desk.sender.last_error
        return {
            "files": len(books),
            "lag_seconds": 0.0 if not queue else round(time.monotonic() - self._behind_since, 3),
            "queue": queue,
            "dead_letters": len(desk.checkpoints.dead_letters()),
            "watcher": self._watcher.watching if self._watcher else "stopped",
            "last_error": desk.checkpoints.fault or (error and f"{error.table}: {error.code}"),
        }

    # Waking --------------------------------------------------------------------------------

    async def _follow_wakeups(self) -> None:
        assert self._watcher is not None
        async for wakeup in self._watcher.wakeups():
            await self._wake(wakeup)

    async def _wake(self, wakeup: Wakeup) -> None:
        if wakeup.sweep:
            await self._sweep()
        for folder in wakeup.folders:
            with contextlib.suppress(SourceError):
                wakeup.files.update(await asyncio.to_thread(list, disk.walk([Path(folder)])))
        for path in wakeup.files:
            if disk.is_transcript_name(path) or path in self._opened.shelf.books:
                self._look_soon(path)

    async def _sweep_for_ever(self) -> None:
        assert self._watcher is not None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._opened.settings.sweep_seconds):
                    await self._until_path_appears()
            await self._watcher.arm()
            await self._sweep()

    async def _until_path_appears(self) -> None:
        """Return when a watched path is there that was not; never, if all are."""
        missing = set(self._paths) - _existing(self._paths)
        while not _existing(missing):  # noqa: ASYNC110 - nothing tells of folders outside
            await asyncio.sleep(_APPEAR_SECONDS)

    async def _sweep(self) -> None:
        """Look at every file whose state on disk is not the one last seen."""
        for path in await asyncio.to_thread(self._found):
            book = self._opened.shelf.books.get(path)
            if book is None or book.follower is not None or self._moved_on(path):
                self._look_soon(path)

    def _moved_on(self, path: str) -> bool:
        checkpoint = self._opened.shelf.checkpoints.get(path)
        return checkpoint is None or checkpoint.stat != disk.stat(path)

    def _found(self) -> list[str]:
        there = [path for path in self._paths if os.path.exists(path.expanduser())]
        return list(disk.walk(there))

    def _look_soon(self, path: str, *, resting: bool = False) -> None:
        """Look at a file in a task of its own; once more afterwards if it is being looked at."""
        book = self._opened.shelf.book(path)
        if book.looking:
            book.look_again = True
            return
        book.looking = True
        if self._spawn(self._look(book, resting=resting), f"look {path}") is None:
            book.looking = False

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None] | None:
        """Begin a task of the river, None where the river has ended or is about to."""
        try:
            if self._tasks is not None:
                return self._tasks.create_task(work, name=name)
        except RuntimeError:  # the group is shutting down
            pass
        work.close()
        return None

    async def _look(self, book: Book, *, resting: bool) -> None:
        try:
            while True:
                book.look_again = False
                await self._look_once(book, resting=resting)
                if not book.look_again:
                    return
                resting = False
        finally:
            book.looking = False

    async def _look_once(self, book: Book, *, resting: bool) -> None:
        assert self._looker is not None
        before = disk.stat(book.path)
        try:
            looked = await self._looker.look(book.path, resting=resting)
        except SourceError as error:
            logger.warning("%s", error)
            return
        if not resting:
            self._tell_file(book, before is not None, before.size if before else 0)
        if looked is None:
            return
        self._send_soon(looked)
        if not resting:
            self._rest_later(looked)
        elif looked.settling is None or looked.settling.done():
            looked.settling = self._spawn(self._settle_down(looked), f"settle {looked.path}")

    def _tell_file(self, book: Book, exists: bool, size: int) -> None:
        change = "modified" if exists else "deleted"
        self._opened.announcer.file_changed(book.path, change, size)

    def _rest_later(self, book: Book) -> None:
        if book.rest is not None:
            book.rest.cancel()
        delay = self._opened.settings.rest_seconds
        loop = asyncio.get_running_loop()
        book.rest = loop.call_later(delay, lambda: self._look_soon(book.path, resting=True))

    def _send_soon(self, book: Book) -> None:
        assert self._looker is not None
        follower = book.follower
        if follower is None or not follower.has_news(follower.sent):
            return
        if book.sending is None or book.sending.done():
            if not self._sends:
                self._behind_since = time.monotonic()
            book.sending = self._spawn(self._looker.send(book), f"send {book.path}")
            if book.sending is not None:
                self._sends.add(book.sending)
                book.sending.add_done_callback(self._sends.discard)

    async def _settle_down(self, book: Book) -> None:
        """Wait until everything is sent, then judge the file as done."""
        assert self._looker is not None
        while book.sending is not None and not book.sending.done():
            await asyncio.wait({book.sending})
            self._send_soon(book)
        await self._looker.finish(book)
        self._keep_fold(book)

    def _keep_fold(self, book: Book) -> None:
        """Count a file as used last, and forget the folds of those used longest ago."""
        self._folded.pop(book.path, None)
        self._folded[book.path] = book
        for path in list(self._folded)[: max(0, len(self._folded) - _FOLDS_KEPT)]:
            old = self._folded[path]
            follower = old.follower
            idle = old.sending is None or old.sending.done()
            if follower is None or (
                idle and not old.lock.locked() and not follower.has_news(follower.sent)
            ):
                old.follower = None
                del self._folded[path]

    # Catching up ---------------------------------------------------------------------------

    async def _catch_up(
        self,
        *,
        resting: bool,
        summary: Summary | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        """Look at every file there is, some at a time, and wait until they are sent."""
        desk = self._opened
        found = await asyncio.to_thread(self._found if summary is None else self._wanted)
        sizes = {path: stat.size for path in found if (stat := disk.stat(path))}
        for path in sizes:  # who owns what depends on all files, not on their order
            try:
                await asyncio.to_thread(desk.shelf.recognise, path, resting=resting)
            except SourceError as error:
                logger.warning("%s", error)
        queue = list(reversed(sizes))
        total = sum(sizes.values())
        done = [0, 0]

        async def work() -> None:
            while queue:
                path = queue.pop()
                await self._catch_up_with(path, resting=resting)
                done[0] += sizes[path]
                done[1] += 1
                if summary is not None:
                    self._count(path, sizes[path], summary)
                if on_progress is not None:
                    on_progress(Progress(done[0], total, done[1], len(sizes)))

        async with asyncio.TaskGroup() as workers:
            for number in range(min(desk.settings.concurrency, len(queue))):
                workers.create_task(work(), name=f"catch up {number}")

    def _wanted(self) -> list[str]:
        return list(disk.walk(self._paths))

    async def _catch_up_with(self, path: str, *, resting: bool) -> None:
        book = self._opened.shelf.book(path)
        if book.looking:
            return
        stat = disk.stat(path)
        rest = self._opened.settings.rest_seconds
        resting = resting or (stat is not None and time.time() - stat.mtime_ns / 1e9 > rest)
        book.looking = True
        await self._look(book, resting=resting)
        if at_work := {task for task in (book.sending, book.settling) if task is not None}:
            await asyncio.wait(at_work)

    def _count(self, path: str, size: int, summary: Summary) -> None:
        desk = self._opened
        book = desk.shelf.book(path)
        if book.owner is not None:
            summary.skips.append(Skipped(path, f"copy of {book.owner}"))
            return
        if book.key is None:
            reason = book.recognised if isinstance(book.recognised, str) else "no record in it"
            summary.skips.append(Skipped(path, reason))
            return
        summary.files += 1
        summary.bytes += size
        checkpoint = desk.shelf.checkpoints.get(path)
        if checkpoint is not None:
            summary.messages += checkpoint.messages
            summary.conversations += checkpoint.conversations
        if (follower := book.follower) is not None:
            summary.skips += follower.skipped
            if (rest := follower.unread_rest()) is not None:
                summary.skips.append(rest)

    # The database --------------------------------------------------------------------------

    async def _meet_database(self) -> None:
        """Load the checkpoints that speak of the database that is there.

        One that is away is taken for the one that was there last, until it answers.
        """
        desk = self._opened
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                stream = await desk.store.database()
        except TimeoutError:
            logger.warning("the database does not answer yet; going on without it")
        except StoreError as error:
            if not error.retryable:
                raise
            logger.warning("the database is away (%s); going on without it", error)
        else:
            desk.checkpoints.met_database(stream)

    def _recall(self) -> None:
        desk = self._opened
        desk.shelf.checkpoints.clear()
        desk.shelf.checkpoints.update(desk.checkpoints.load())
        for book in desk.shelf.books.values():
            book.follower = None
        desk.sender.forget_projects()
        desk.announcer.remember(desk.checkpoints.conversations())

    async def _watch_database(self) -> None:
        """Ask now and then whether the database is still the one that acknowledged."""
        desk = self._opened
        while True:
            with contextlib.suppress(StoreError):
                stream = await desk.sender.ask(desk.store.database)
                if desk.checkpoints.met_database(stream):
                    raise DatabaseReplacedError
            await asyncio.sleep(desk.settings.sweep_seconds)

    @property
    def _opened(self) -> Desk:
        if self._desk is None:
            raise RuntimeError("Ingest is used before it is entered: async with Ingest() as …")
        return self._desk


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Raise an error of ours as itself and not as a group: callers handle one at a time."""
    try:
        yield
    except ExceptionGroup as group:
        ours: BaseException = group.subgroup(ConvRealtimeError) or group
        while ours is not group and isinstance(ours, ExceptionGroup):
            ours = ours.exceptions[0]
        raise ours from group


def _existing(paths: Iterable[Path]) -> set[Path]:
    return {path for path in paths if path.expanduser().exists()}


def _read_all(follower: Follower, file: disk.OpenFile) -> None:
    while follower.read(file, 8 * 2**20):
        pass


async def _own_store(settings: Settings, stack: AsyncExitStack) -> SupabaseStore:
    http = await stack.enter_async_context(httpx.AsyncClient(timeout=settings.request_timeout))
    return SupabaseStore(await connect(settings, http))


def _owner(settings: Settings) -> UUID:
    """Return who owns the rows: the setting, else the signed-in user that the key stands for.

    Raises:
        ConfigError: neither is there.
    """
    if settings.owner_id is not None:
        return settings.owner_id
    key = settings.supabase_key
    with contextlib.suppress(jwt.InvalidTokenError, ValueError, KeyError):
        token = key.get_secret_value() if key else ""
        return UUID(jwt.decode(token, options={"verify_signature": False})["sub"])
    raise ConfigError(
        "CONV_REALTIME_OWNER_ID",
        "is not set; it is the id of the user who owns the conversations, in the project's"
        " dashboard under Authentication, Users",
    )
