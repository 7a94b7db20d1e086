"""The river of files: watched folders in, rows out to a sink at once and to a store for good.

Events of the file system wake; a sweep over all files guarantees. What has to be sent is
always what lies in the files behind the last acknowledgement, so there is no queue to lose.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from conv_realtime.background import on_thread
from conv_realtime.core.format import Format
from conv_realtime.edges import disk
from conv_realtime.edges.checkpoints import Checkpoints, machine_id
from conv_realtime.edges.formats import all_places, known_formats
from conv_realtime.edges.session import signed_in
from conv_realtime.edges.watch import watch
from conv_realtime.errors import FeedError, SessionError, StoreError
from conv_realtime.ingest import stated
from conv_realtime.ingest.announcing import Announcer
from conv_realtime.ingest.by_settings import (
    own_store,
    owner_of,
    sanitizers,
    user_of_key,
)
from conv_realtime.ingest.catching_up import Progress, Summary, catch_up, count
from conv_realtime.ingest.database import Database, DatabaseReplacedError
from conv_realtime.ingest.desk import Desk
from conv_realtime.ingest.holding import Holder, room
from conv_realtime.ingest.joint import joint_questions, joint_writes
from conv_realtime.ingest.rows import Identity
from conv_realtime.ingest.secrets_found import Secrets
from conv_realtime.ingest.sender import Sender
from conv_realtime.ingest.shelf import Shelf
from conv_realtime.ingest.tender import Tender
from conv_realtime.ingest.upkeep import Upkeep, plain_errors
from conv_realtime.ingest.waking import Waker
from conv_realtime.models import Conversation, Message, Skipped
from conv_realtime.ports import Meter, Sink, Store
from conv_realtime.settings import Settings

logger = logging.getLogger("conv_realtime.ingest")


class Ingest(Upkeep):
    """Watches transcripts and writes what they say to a store.

    Args:
        store: takes the rows; default: Supabase, by the settings. A lent one is never closed.
        sink: hears of every change at once, before the store has it.
        meter: counts what is read and stored; by default nobody does.
        formats: transcript formats of your own, which are asked before ours what a file is.
        settings: ready-made settings; otherwise keywords over the environment, which is read
            when the object is entered.
        **keywords: fields of `Settings`.
    """

    def __init__(
        self,
        *,
        store: Store | None = None,
        sink: Sink | None = None,
        meter: Meter | None = None,
        formats: Sequence[Format] = (),
        settings: Settings | None = None,
        **keywords: Any,
    ) -> None:
        self._formats = tuple(formats)
        self._lent = store
        self._sink = sink
        self._meter = meter
        self._given = settings
        self._keywords = keywords
        self._desk: Desk | None = None
        self._tender: Tender | None = None
        self._met: Database | None = None
        self._waker: Waker | None = None
        self._stack: AsyncExitStack | None = None
        self._paths: list[Path] = []
        self._caught_up = False

    # Life ----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Open the checkpoints and the store.

        Raises:
            ConfigError: a setting is missing or wrong.
            MigrationError: the database lacks our schema.
            StoreError: the database refuses us. One that is away is waited for later.
            RuntimeError: it has been entered, and not left.
        """
        if self._stack is not None:
            raise RuntimeError("this ingest runs already")
        settings = self._given or Settings.load(**self._keywords)
        sanitizer = sanitizers(settings)
        formats = known_formats(self._formats)
        async with AsyncExitStack() as stack:
            session = None if self._lent else signed_in(settings)
            store = self._lent or await own_store(settings, session, stack)
            user = session.user_id if session else user_of_key(settings)
            identity = Identity(
                owner_of(settings, user), settings.machine or machine_id(settings.state_dir)
            )
            address = getattr(store, "destination", type(store).__name__)
            whose = f"{identity.owner_id} {identity.machine}"
            checkpoints = stack.enter_context(Checkpoints(settings.state_dir, address, whose))
            sender = Sender(store, settings)
            rows, size = settings.batch_rows, settings.batch_bytes
            self._desk = Desk(
                settings=settings,
                identity=identity,
                store=store,
                sender=sender,
                shelf=Shelf(formats, sanitizer(), list(map(str, all_places(formats)))),
                checkpoints=checkpoints,
                announcer=Announcer(self._sink),
                slots=asyncio.Semaphore(settings.concurrency),
                holder=stack.enter_context(contextlib.closing(Holder(room()))),
                sends=asyncio.Semaphore(settings.concurrency),
                beginnings=joint_writes(sender.begin, rows, size),
                histories=joint_writes(sender.write_history, rows, size),
                questions=joint_questions(lambda ids: sender.ask(lambda: store.known(ids))),
                sanitizer=sanitizer,
                secrets=Secrets(),
                meter=self._meter,
            )
            self._tender = Tender(self._desk)
            self._met = Database(self._desk, self._tender)
            await self._met.meet()
            self._met.recall()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.aclose()

    async def run(self) -> None:
        """Watch and send until cancelled. Cancelling stops at once and loses nothing; see `drain`.

        Raises:
            SourceError: a watched path went, or was closed, while it was listed for the first time.
        """
        desk, _ = self._opened
        given = desk.settings.paths
        self._paths = all_places(desk.shelf.formats) if given is None else given
        task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        with plain_errors():
            # In a task of its own: until Python 3.12 a group, over an error of one of its tasks,
            # forgets that it was cancelled, and leaves a cancellation that was its own.
            while not await asyncio.create_task(self._run_until_replaced(), name="ingest"):
                if task.cancelling() > before:
                    raise asyncio.CancelledError
                self._database.recall()

    async def drain(self, within: float = 3.0) -> bool:
        """Wait until the store has what `run` has read so far, at most `within` seconds.

        Return whether it has. A store that is away is not waited for, and nothing is lost then:
        the next run goes on where this one ended. Cancelling changes nothing.
        """
        desk, tender = self._opened
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within if desk.sender.last_error is None else 0):
                await tender.idle()
                return True
        return False

    async def _run_until_replaced(self) -> bool:
        """Run; return False when another database has to be sent everything."""
        desk, tender = self._opened
        replaced = self._caught_up = False
        self._database.clean_as_set()
        try:
            usual = desk.settings.paths is None
            async with (
                watch(self._paths, optional=usual) as watcher,
                tender.running(stubborn=True) as tasks,
            ):
                self._waker = waker = Waker(desk, tender, watcher, self._paths)
                tasks.create_task(waker.follow(), name="wakeups")
                tasks.create_task(waker.sweep_for_ever(), name="sweeps")
                tasks.create_task(self._database.watch(), name="database")
                tasks.create_task(self._database.watch_state(), name="state directory")
                await catch_up(desk, tender, await waker.files(), resting=False)
                self._caught_up = True
        except* DatabaseReplacedError:
            logger.warning("the database is another one now; sending everything to it")
            replaced = True
        return not replaced

    async def backfill(
        self,
        paths: str | Path | Iterable[str | Path] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Summary:
        """Ingest files once and return what was found.

        Args:
            paths: files and folders; default: those of the settings.
            on_progress: called after each file, and once for all that did not change.

        Raises:
            SourceError: one of `paths` cannot be read at all.
            StoreError: the database refuses for a reason that does not pass by itself, or has not
                answered once in half a minute.
        """
        desk, tender = self._opened
        wanted = self._wanted(paths)
        self._database.clean_as_set()
        begun, changed = time.monotonic(), desk.sender.changed
        summary, found, progress = Summary(), disk.Found(), Progress(0, 0, 0, 0)

        def done(paths: Collection[str]) -> None:
            nonlocal progress
            count(desk, paths, found.stats, summary)
            if on_progress is not None:
                progress = progress.after(paths, found.stats)
                on_progress(progress)

        with plain_errors():
            found = await on_thread(disk.walk, wanted, desk.shelf.is_named)
            progress = Progress.before(found.stats)
            async with tender.running():
                await catch_up(desk, tender, found.stats, resting=True, done=done)
                await self._send_again()
        summary.skips += [Skipped(path, reason) for path, reason in found.odd.items()]
        summary.changed = desk.sender.changed - changed
        summary.seconds = round(time.monotonic() - begun, 3)
        return summary

    # What others see -----------------------------------------------------------------------

    @property
    def caught_up(self) -> bool:
        """Whether `run` has judged, and sent, every file that was there when it began."""
        return self._caught_up

    @property
    def transcripts(self) -> Self:
        """The state of all files, for a snapshot: see `conv_realtime.ports.Transcripts`."""
        return self

    async def conversations(self) -> Sequence[Conversation]:
        """Return every conversation that the files state, newest `updated_at` last.

        None without a sink: then nothing is kept of them.

        Raises:
            FeedError: ingest is not running.
        """
        with self._while_entered() as (desk, _):
            return await stated.conversations(desk)

    async def messages(self, conversation: UUID, last: int) -> Sequence[Message]:
        """Return the last messages of a conversation, by `seq`; none if its file is gone.

        Raises:
            FeedError: ingest is not running.
        """
        with self._while_entered() as (desk, tender):
            return await stated.messages(desk, tender, conversation, last)

    def health(self) -> dict[str, Any]:
        """Return what `/healthz` says of ingest, from memory.

        `lag_seconds` is the age of the oldest record that the store has not acknowledged,
        `queue` how many there are; `redacted` counts the secrets that were replaced, by kind,
        `unreadable` the files and folders that are left out because they cannot be read.
        """
        desk, tender = self._opened
        books = desk.shelf.owners()
        followers = [book.follower for book in books if book.follower is not None]
        queue = sum(follower.waiting(follower.sent) for follower in followers)
        error = desk.sender.last_error
        return {
            "files": len(books) + len(desk.shelf.resting),
            "lag_seconds": round(tender.behind_seconds, 3),
            "queue": queue,
            "dead_letters": len(desk.checkpoints.letters.open),
            "redacted": desk.secrets.all,
            "watcher": self._waker.watching if self._waker else "stopped",
            "unreadable": self._waker.unreadable if self._waker else 0,
            "last_error": desk.checkpoints.fault
            or self._database.fault
            or (error and _in_short(error)),
        }

    def readings(self) -> dict[str, float]:
        """Return counts for a `Metrics`, from memory."""
        sender, health = self._opened[0].sender, self.health()
        return {
            "rows_upserted": sender.changed,
            "store_retries": sender.retries,
            "rows_refused": sender.refusals,
            **{name: health[name] for name in ("files", "queue", "dead_letters", "lag_seconds")},
        }

    @property
    def _database(self) -> Database:
        assert self._met is not None  # it is entered
        return self._met

    @contextlib.contextmanager
    def _while_entered(self) -> Iterator[tuple[Desk, Tender]]:
        """Give what others work with, who do not know when ingest ends: it may in their midst."""
        try:
            yield self._opened
        except RuntimeError as error:
            if self._stack is None:
                raise FeedError("transcripts", "ingest is not running") from error
            raise

    @property
    def _opened(self) -> tuple[Desk, Tender]:
        if self._desk is None or self._tender is None:
            raise RuntimeError("Ingest is used before it is entered: async with Ingest() as …")
        return self._desk, self._tender


def _in_short(error: StoreError) -> str:
    """Return an error for `/healthz`: what the database says may quote a row, what we say not."""
    return str(error) if isinstance(error, SessionError) else f"{error.table}: {error.code}"
