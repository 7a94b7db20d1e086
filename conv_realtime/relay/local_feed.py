"""`LocalFeed`: what ingest publishes in this process, at once and also while the cloud is away.

One stream per process run. Its last changes are kept in memory, `replay_events` of them and about
as many bytes as the hub's log. A cursor from before them, or of another run, is answered with
`resync`, and the client takes a snapshot, which comes from the files.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import UTC, datetime
from itertools import islice
from secrets import token_hex
from typing import Any
from uuid import UUID

from conv_realtime.core import log
from conv_realtime.core.cursor import Cursor, parse_cursor
from conv_realtime.core.weight import weight_of
from conv_realtime.events import FileData
from conv_realtime.models import Change, Conversation, Message
from conv_realtime.ports import FeedHealth, Page, PageHandler, SnapshotPart, Transcripts
from conv_realtime.settings import Settings

logger = logging.getLogger("conv_realtime.relay")

_ROWS_A_PART = 100


class LocalFeed:
    """The changes that an ingest of this process makes, as a feed for its relay.

    A `ports.Sink` on one side, a `ports.Feed` on the other; both on the same event loop.

    Args:
        settings: how many changes are kept; defaults without the environment if left out.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        settings = settings or Settings.model_construct()
        self._stream = token_hex(8)
        self._changes: deque[Change] = deque()
        self._most = settings.replay_events
        self._bytes = 0
        self._position = 0
        self._handlers: list[PageHandler] = []
        self._transcripts: Transcripts | None = None
        self._last_at: datetime | None = None

    def attach(self, transcripts: Transcripts) -> None:
        """Name the source of snapshots."""
        self._transcripts = transcripts

    # Sink -----------------------------------------------------------------------------------

    def publish(self, changes: Sequence[Change]) -> None:
        """Give each change the next position and hand it on. Never blocks, never raises."""
        for change in changes:
            self._keep(change)
            self._position += 1
            self._last_at = datetime.now(UTC)
            self._tell(Page((change,), self._cursor()))

    def file_changed(self, path: str, change: Any, size: int) -> None:
        """Tell clients that ask for it that a transcript file changed."""
        self._tell(Page((), self._cursor(), files=(FileData(path=path, change=change, size=size),)))

    # Feed -----------------------------------------------------------------------------------

    async def run(self, on_page: PageHandler) -> None:
        """Call `on_page` with each change from now on, until cancelled."""
        on_page(Page((), self._cursor()))
        self._handlers.append(on_page)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._handlers.remove(on_page)

    async def since(self, cursor: str, limit: int = 500) -> Page:
        """Return what came after `cursor`, if it is of this run and still kept."""
        place = parse_cursor(cursor)
        oldest = self._position - len(self._changes)
        if (
            place is None
            or place.stream != self._stream
            or len(place.position) != 1
            or not oldest <= place.position[0] <= self._position
        ):
            return Page((), self._cursor(), resync=True)
        start = place.position[0]
        stop = min(start + limit, self._position)
        changes = tuple(islice(self._changes, start - oldest, stop - oldest))
        places = [self._cursor(position) for position in range(start + 1, stop + 1)]
        return Page(changes, self._cursor(stop), more=stop < self._position, places=places)

    async def snapshot(
        self,
        *,
        owner: UUID | None,
        conversations: Collection[UUID] | None,
        projects: Collection[UUID] | None,
        messages: int,
    ) -> AsyncIterator[SnapshotPart]:
        """Yield the selected conversations as the files state them.

        The cursor is taken first: what is published while the files are read comes again.
        """
        cursor = self._cursor()
        yield SnapshotPart((), (), cursor)
        if self._transcripts is None:
            return
        rows = await self._transcripts.conversations()
        chosen = [row for row in rows if _is_chosen(row, owner, conversations, projects)]
        if not messages:
            for start in range(0, len(chosen), _ROWS_A_PART):
                yield SnapshotPart(chosen[start : start + _ROWS_A_PART], (), cursor)
            return
        for row in chosen:
            yield SnapshotPart((row,), await self._transcripts.messages(row.id, messages), cursor)

    def health(self) -> FeedHealth:
        """Return the state of the feed: live from the start."""
        return FeedHealth("local", "live", self._last_at)

    def _keep(self, change: Change) -> None:
        if isinstance(change.row, Conversation) and change.row.deleted_at is not None:
            self._erase(change)
        self._changes.append(change)
        self._bytes += weight_of(change)
        while len(self._changes) > self._most or (
            self._bytes > log.MAX_BYTES and len(self._changes) > 1
        ):
            self._bytes -= weight_of(self._changes.popleft())

    def _erase(self, gone: Change) -> None:
        """Put a deletion in the place of all that was said of its conversation."""
        kept: deque[Change] = deque()
        for change in self._changes:
            if _conversation_of(change) == gone.row.id:
                self._bytes += weight_of(gone) - weight_of(change)
                change = gone
            kept.append(change)
        self._changes = kept

    def _cursor(self, position: int | None = None) -> str:
        return str(Cursor(self._stream, (self._position if position is None else position,)))

    def _tell(self, page: Page) -> None:
        for handler in self._handlers:
            try:
                handler(page)
            except Exception:
                # Ingest must not fail because somebody listens.
                logger.exception("a listener of the local feed failed")


def _conversation_of(change: Change) -> UUID | None:
    if isinstance(change.row, Message):
        return change.row.conversation_id
    return change.row.id if isinstance(change.row, Conversation) else None


def _is_chosen(
    row: Conversation,
    owner: UUID | None,
    conversations: Collection[UUID] | None,
    projects: Collection[UUID] | None,
) -> bool:
    return (
        (owner is None or row.owner_id == owner)
        and (conversations is None or row.id in conversations)
        and (projects is None or row.project_id in projects)
    )
