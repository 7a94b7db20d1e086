"""`SupabaseFeed`: what any watcher wrote, read from the database, with Realtime as a hint.

Postgres is the truth: every change comes from `changes_since(cursor)`. A wake-up names a cursor
to reach, because change streams outrun what another session can see by some milliseconds. A read
every `reconcile_interval` makes a lost wake-up cost time and never data.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx

from conv_realtime.background import whole
from conv_realtime.core.cursor import parse_cursor
from conv_realtime.core.pauses import asked_to_wait, pauses_between_attempts
from conv_realtime.edges.feed.access import mapped, no_json, user_of
from conv_realtime.edges.feed.snapshots import read_snapshot
from conv_realtime.edges.feed.unreadable import Unreadable
from conv_realtime.edges.feed.wakeups import WakeUps
from conv_realtime.errors import SessionError, StoreError
from conv_realtime.models import ROW_TYPES, Change, Row
from conv_realtime.ports import (
    FeedHealth,
    FeedState,
    Page,
    PageHandler,
    SnapshotPart,
    UserSession,
)
from conv_realtime.settings import Settings
from conv_realtime.supabase_client import new_client

if TYPE_CHECKING:
    from supabase import AsyncClient

logger = logging.getLogger("conv_realtime.feed")

POLL_SECONDS = 1.0
"""How often the database is read while there are no wake-ups."""

PAGE_ROWS = 500

ASKED_AT_ONCE = 16
"""For how many clients it is read at a time: news for all must not wait behind a crowd's return."""

_CATCH_UP_SECONDS = (0.002, 0.5)
_CATCH_UP_AT_MOST = 60.0
_SHORTEST_PAUSE = 0.2


class SupabaseFeed:
    """A stream of all rows that the key may see.

    Args:
        settings: project and key, where no client is lent.
        client: a supabase-py client to read with, which is never closed here.
        owner: whose topic to listen to, for a signed-in user; default: the user of the session,
            or of the key if that is a user's token, else all changes.
        session: the user to read as, where no client is lent.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        client: AsyncClient | None = None,
        owner: UUID | None = None,
        session: UserSession | None = None,
    ) -> None:
        self._given = settings
        self._lent = client
        self._session = session
        self._owner = owner or (session.user_id if session is not None else None)
        self._client: AsyncClient | None = client
        self._cursor: str | None = None
        self._target: str | None = None
        self._due = asyncio.Event()
        self._turns = asyncio.Semaphore(ASKED_AT_ONCE)
        self._heard = False
        self._wakeups: WakeUps | None = None
        self._reading: FeedState = "connecting"
        self._error: str | None = None
        self._last_at: datetime | None = None
        self._not_before = 0.0
        self._unreadable = Unreadable()

    async def run(self, on_page: PageHandler) -> None:
        """Call `on_page` with every change from the head on, until cancelled.

        Raises:
            ConfigError: no client was lent and no project is configured.
        """
        async with self._connected() as client, asyncio.TaskGroup() as tasks:
            self._due = asyncio.Event()
            self._turns = asyncio.Semaphore(ASKED_AT_ONCE)
            self._cursor = self._target = None
            self._reading = "connecting"
            self._wakeups = WakeUps(
                str(client.realtime_url),
                client.supabase_key,
                self._topic,
                self._access_token,
                self._wake,
            )
            listening = tasks.create_task(self._wakeups.run(), name="supabase feed wake-ups")
            try:
                await self._read_forever(on_page)
            finally:
                listening.cancel()
                self._wakeups = None
                self._reading = "stopped"

    async def since(self, cursor: str | None, limit: int = PAGE_ROWS) -> Page:
        """Return what came after `cursor`, at most `limit` (to 1000) changes; None: the head.

        Raises:
            StoreError: the database cannot be asked now, or refuses.
        """
        async with self._turns:
            return await self._page(cursor, limit)

    async def _page(self, cursor: str | None, limit: int = PAGE_ROWS) -> Page:
        wanted = {"cursor": cursor, "max_rows": min(limit, 1000)}
        with mapped("changes_since"):
            asked = self._require().rpc("changes_since", wanted)
            # Also a client that was lent without any timeout is not waited for without end.
            async with asyncio.timeout(self._settings.request_timeout):
                answer: Any = await asked.execute()
            page = answer.data
            if isinstance(page, str):
                raise no_json("changes_since")
            told = [
                (Change(row, bool(item["created"])), str(item["cursor"]))
                for item in page["changes"]
                if (row := self._row(item)) is not None
            ]
            changes, places = [change for change, _ in told], [place for _, place in told]
            return Page(changes, page["cursor"], page["more"], page["resync"], places=places)

    async def snapshot(
        self,
        *,
        owner: UUID | None,
        conversations: Collection[UUID] | None,
        projects: Collection[UUID] | None,
        messages: int,
    ) -> AsyncIterator[SnapshotPart]:
        """Yield the selected conversations with the last `messages` messages of each.

        The cursor is taken first, then the rows: what changes meanwhile comes again.

        Raises:
            StoreError: the database cannot be asked now, or refuses.
        """
        head = await self.since(None)
        with mapped("snapshot"):
            parts = read_snapshot(
                self._require(),
                head.cursor,
                owner=owner,
                conversations=conversations,
                projects=projects,
                messages=messages,
                unreadable=self._unreadable,
            )
            while True:
                async with self._turns:
                    part = await anext(parts, None)
                if part is None:
                    return
                yield part

    def health(self) -> FeedHealth:
        """Return `live` with wake-ups, `polling` without, `down` while reads fail."""
        state = self._reading
        if state == "live" and (self._wakeups is None or self._wakeups.state != "joined"):
            waiting = self._wakeups is not None and self._wakeups.state == "connecting"
            state = "connecting" if waiting else "polling"
        left_out = len(self._unreadable)
        return FeedHealth("supabase", state, self._last_at, self._error, left_out)

    def _row(self, item: Any) -> Row | None:
        kind: Any = ROW_TYPES.get(item["table"])  # a newer version may have more tables
        row: Row | None = self._unreadable.read(kind, item["row"]) if kind else None
        return row

    @cached_property
    def _settings(self) -> Settings:
        return self._given or Settings.load()

    # Reading --------------------------------------------------------------------------------

    async def _read_forever(self, on_page: PageHandler) -> None:
        pauses = pauses_between_attempts(longest=15.0)
        while True:
            try:
                await self._read(on_page)
            except StoreError as error:
                if self._reading != "down":
                    logger.warning("the database cannot be read: %s", error)
                self._reading = "down"
                self._error = str(error) if isinstance(error, SessionError) else None
                await self._pause(next(pauses))
                continue
            self._reading, self._error = "live", None
            pauses = pauses_between_attempts(longest=15.0)
            await self._wait()

    async def _read(self, on_page: PageHandler) -> None:
        """Read on until nothing more is there and the announced cursor is reached."""
        pause, longest = _CATCH_UP_SECONDS
        waited = 0.0
        if self._cursor is None:
            page = await self._page(None)
            self._cursor = page.cursor
            on_page(page)
        while True:
            page = await self._page(self._cursor)
            if page.changes:
                self._last_at = datetime.now(UTC)
                self._suspect_silence()
            if page.changes or page.resync or page.cursor != self._cursor:
                self._cursor = page.cursor
                on_page(page)
            if page.more:
                continue
            if self._target is None or _reaches(page.cursor, self._target):
                self._target = None
                return
            if waited > _CATCH_UP_AT_MOST:  # what was announced is gone, or not for us
                self._target = None
                return
            # Committed, but not yet below every running transaction.
            self._reading = "live"
            await asyncio.sleep(pause)
            waited += pause
            pause = min(pause * 2, longest)

    async def _pause(self, seconds: float) -> None:
        """Wait after a failure; a join ends the waiting, for it says that the network is back.

        Nothing ends it before the time that the server has asked for.
        """
        self._due.clear()
        asked = self._not_before - asyncio.get_running_loop().time()
        await asyncio.sleep(max(min(seconds, _SHORTEST_PAUSE), asked))
        seconds -= max(asked, 0.0)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._due.wait()

    async def _wait(self) -> None:
        """Wait for a wake-up, or until it is time to read without one."""
        listening = self._wakeups is not None and self._wakeups.state == "joined"
        interval = self._settings.reconcile_interval
        try:
            async with asyncio.timeout(interval if listening else min(POLL_SECONDS, interval)):
                await self._due.wait()
                self._heard = True
        except TimeoutError:
            self._heard = not listening
        self._due.clear()
        await self._refresh_token()

    def _suspect_silence(self) -> None:
        """After a read without a wake-up that found something, join anew.

        After a restart of Postgres, Realtime keeps sockets open that never hear anything again.
        """
        if not self._heard and self._wakeups is not None and not self._due.is_set():
            self._wakeups.distrust()
        self._heard = True

    def _wake(self, message: Any) -> None:
        """Take a wake-up: `{"payload": {"cursor"}}`, or None after a join. Only sets flags."""
        payload = message.get("payload") if isinstance(message, dict) else None
        target = payload.get("cursor") if isinstance(payload, dict) else None
        if isinstance(target, str):
            self._target = _further(self._target, target)
        self._due.set()

    # The client -----------------------------------------------------------------------------

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncClient]:
        if self._lent is not None:
            yield self._lent
            return
        hooks = {"response": [self._note_wait]}
        timeout = self._settings.request_timeout
        made = httpx.AsyncClient if self._session is None else self._session.client
        http = made(timeout=timeout, event_hooks=hooks)
        try:
            self._client = await new_client(self._settings, http)
            yield self._client
        finally:
            self._client = None
            await whole(http.aclose())

    async def _note_wait(self, response: httpx.Response) -> None:
        """Note until when a server wants to be left alone; supabase-py does not pass that on."""
        if response.is_error:
            asked = asked_to_wait(response.headers, datetime.now(UTC)) or 0.0
            until = asyncio.get_running_loop().time() + asked
            self._not_before = max(self._not_before, until)

    def _require(self) -> AsyncClient:
        if self._client is None:
            raise StoreError("changes_since", "stopped", "the feed is not running", retryable=True)
        return self._client

    async def _topic(self) -> str:
        owner = self._owner or await user_of(self._require())
        return "conv_realtime:changes" if owner is None else f"conv_realtime:owner:{owner}"

    async def _access_token(self) -> str | None:
        if self._session is not None:
            return await self._session.token()
        client = self._client
        session = await client.auth.get_session() if client is not None else None
        return session.access_token if session is not None else None

    async def _refresh_token(self) -> None:
        try:
            async with asyncio.timeout(self._settings.request_timeout):
                token = await self._access_token()
                if self._wakeups is not None:
                    await self._wakeups.set_token(token)
        except Exception as error:
            # An auth server that is away must not stop the reading.
            logger.info("the token could not be renewed: %s", type(error).__name__)


def _further(known: str | None, told: str) -> str | None:
    """Return the target that is further; of two streams that of the newer wake-up."""
    if parse_cursor(told) is None:
        return known
    return told if known is None or _reaches(told, known) else known


def _reaches(cursor: str, target: str) -> bool:
    """Return whether reading up to `cursor` has seen `target`; another stream's never comes."""
    here, there = parse_cursor(cursor), parse_cursor(target)
    if here is None or there is None or here.stream != there.stream:
        return True
    return here.reaches(there)
