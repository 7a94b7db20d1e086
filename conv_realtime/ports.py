"""Where the rivers touch the world: small protocols, each with a real thing and a fake."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol
from uuid import UUID

from conv_realtime.events import FileData
from conv_realtime.models import Change, Conversation, Message, Row, Table

if TYPE_CHECKING:
    import httpx

FeedState = Literal["connecting", "live", "polling", "down", "stopped"]


@dataclass(frozen=True, slots=True)
class KnownConversation:
    """A conversation as the database has it: its revision, and those of its messages by id."""

    revision: int
    live: Mapping[UUID, int]
    deleted: Mapping[UUID, int]

    @property
    def highest(self) -> int:
        """The highest revision of all its rows."""
        return max((self.revision, *self.live.values(), *self.deleted.values()))


@dataclass(frozen=True, slots=True)
class Digest:
    """A conversation in the database: enough to see whether it is what the files say.

    `digest` is that of `core.digest` over the live messages; `deleted` counts the others.
    """

    messages: int
    deleted: int
    digest: str
    revision: int
    message_count: int
    tool_usage_count: int
    forgotten: bool


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message in the database, its text by its SHA-256."""

    id: UUID
    seq: int
    revision: int
    role: str
    text_sha256: str
    deleted: bool


class Store(Protocol):
    """A database that takes rows: idempotent, in order, acknowledged by returning."""

    async def database(self) -> str:
        """Return what tells this database from any other, such as a reset or restored one.

        Raises:
            StoreError: it cannot be asked now.
            MigrationError: it does not have our schema, or an older one.
        """
        ...

    async def write(
        self, table: Table, rows: Sequence[Row], *, history: bool = False, more: bool = False
    ) -> int:
        """Upsert `rows`, all of `table` and no id twice; return when the database has them.

        The number returned is that of rows written: what was there already does not count.
        Conversations of revision 0 come alone and only begin them: one that is there stays as it
        is, whatever it says.

        `history` marks rows that are no news, so that they are not broadcast one by one.
        `more` says that other rows of the same conversations follow at once, so that what
        only wakes readers may wait for them.

        Raises:
            StoreError: nothing of the batch was taken; `retryable` says whether to try again.
        """
        ...

    async def known(self, conversations: Collection[UUID]) -> Mapping[UUID, KnownConversation]:
        """Return what the database has of those of `conversations` that it has.

        Raises:
            StoreError: it cannot be asked now.
        """
        ...

    async def mark_deleted(self, messages: Collection[UUID], revision: int, at: datetime) -> int:
        """Set `deleted_at` and `revision` of messages that the transcript took back.

        Returns the number of rows that changed. Rows of a higher revision stay as they are.
        """
        ...

    async def forgotten(self, owner: UUID, machine: str) -> Collection[UUID]:
        """Return the conversations of a machine that were erased for good.

        Raises:
            StoreError: it cannot be asked now.
        """
        ...

    async def digests(self, conversations: Collection[UUID]) -> Mapping[UUID, Digest]:
        """Return what the database has of those of `conversations` that it has, in short.

        Raises:
            StoreError: it cannot be asked now.
        """
        ...

    def stored_messages(self, conversation: UUID) -> AsyncIterator[StoredMessage]:
        """Yield every message of a conversation, deleted ones too, in the order of their ids.

        Raises:
            StoreError: it cannot be asked now.
        """
        ...


class UserSession(Protocol):
    """A user who has signed in: how to speak for them."""

    @property
    def user_id(self) -> UUID:
        """Who it is."""
        ...

    def client(self, **options: Any) -> httpx.AsyncClient:
        """Return an HTTP client whose requests to the project carry the user's token."""
        ...

    async def token(self) -> str:
        """Return a token that holds for a while.

        Raises:
            SessionError: there is none, now or any more.
        """
        ...


class Meter(Protocol):
    """What counts, where somebody wants to know."""

    def read(self, lines: int, skipped: Sequence[str]) -> None:
        """Hear of lines that were read, and why some of them made no record."""
        ...

    def stored(self, newest: datetime | None, redacted: Mapping[str, int]) -> None:
        """Hear that the store has a batch: the time of its newest record, secrets by kind."""
        ...


class Sink(Protocol):
    """What hears of changes at once, before the database has them."""

    def publish(self, changes: Sequence[Change]) -> None:
        """Take changes in the order in which they happened. Never blocks, never raises."""
        ...

    def file_changed(self, path: str, change: str, size: int) -> None:
        """Hear that a transcript file was `created`, `modified` or `deleted`."""
        ...


class Transcripts(Protocol):
    """The state of all watched files, which a local snapshot is made from.

    Both raise `FeedError` when nobody reads these files any more.
    """

    async def conversations(self) -> Sequence[Conversation]:
        """Return every conversation that the files state, newest `updated_at` last."""
        ...

    async def messages(self, conversation: UUID, last: int) -> Sequence[Message]:
        """Return the last `last` live messages of `conversation`, by `seq`; 0 means none."""
        ...


@dataclass(frozen=True, slots=True)
class Page:
    """Changes in stream order, and the cursor behind the last of them.

    `places` are the cursors behind each, from a feed that can tell them. `more` when reading on
    from `cursor` gives more at once. `resync` when the cursor that was asked for is not covered:
    `changes` is empty and `cursor` the head to go on from. `files` are what happened to transcript
    files; they have no place in the stream and are never replayed.
    """

    changes: Sequence[Change]
    cursor: str
    more: bool = False
    resync: bool = False
    files: Sequence[FileData] = ()
    places: Sequence[str] = ()

    def placed(self, before: str) -> Iterator[tuple[Change, str]]:
        """Yield each change with the cursor to go on from behind it.

        Where the feed does not tell the places within a page, that is `before`, the cursor before
        the page: who goes on from there hears some changes again, and misses none. What appears,
        a conversation or a project, comes before the first row that belongs to it, and once more
        where it stands: who goes on from between the two, with a cursor of another relay, needs it.
        """
        appearing = {_key(change.row): at for at, change in enumerate(self.changes) if _new(change)}
        cursor, last = before, len(self.changes) - 1
        for number, change in enumerate(self.changes):
            for parent in _parents(change.row):
                if appearing.get(parent, -1) > number:
                    yield self.changes[appearing.pop(parent)], cursor
            if number == last:
                cursor = self.cursor
            elif self.places:
                cursor = self.places[number]
            told = _new(change) and _key(change.row) not in appearing
            yield replace(change, created=False) if told else change, cursor


def _key(row: Row) -> tuple[UUID, UUID | None]:
    return row.owner_id, row.id


def _new(change: Change) -> bool:
    """Return whether a conversation or a project appears."""
    row = change.row
    gone = isinstance(row, Conversation) and row.deleted_at is not None
    return change.created and not gone and not isinstance(row, Message)


def _parents(row: Row) -> Sequence[tuple[UUID, UUID | None]]:
    """Return the keys of what a row belongs to, the outermost first."""
    if isinstance(row, Message):
        return (row.owner_id, row.project_id), (row.owner_id, row.conversation_id)
    return ((row.owner_id, row.project_id),) if isinstance(row, Conversation) else ()


@dataclass(frozen=True, slots=True)
class SnapshotPart:
    """Rows as they stand at or after `cursor`; reading on from there loses nothing."""

    conversations: Sequence[Conversation]
    messages: Sequence[Message]
    cursor: str


@dataclass(frozen=True, slots=True)
class FeedHealth:
    """What `/healthz` says of a feed.

    `error` is what somebody has to put right, `unreadable` the number of rows that are left out
    because this version cannot read them.
    """

    kind: Literal["local", "supabase"]
    state: FeedState
    last_event_at: datetime | None
    error: str | None = None
    unreadable: int = 0


class PageHandler(Protocol):
    """What a feed calls with news, on the loop; it neither blocks nor raises."""

    def __call__(self, page: Page, /) -> None: ...


class Feed(Protocol):
    """A stream of changes with cursors: the files of this process, or a Supabase."""

    async def run(self, on_page: PageHandler) -> None:
        """Call `on_page` with every change from the head on, without a gap, until cancelled.

        The first call is a page without changes whose cursor is the head. A page with `resync`
        says that the stream has a gap. Trouble of the source is waited out, not raised.
        """
        ...

    async def since(self, cursor: str, limit: int = 500) -> Page:
        """Return what came after `cursor`, at most `limit` changes.

        Raises:
            StoreError: the source cannot be asked now.
        """
        ...

    def snapshot(
        self,
        *,
        owner: UUID | None,
        conversations: Collection[UUID] | None,
        projects: Collection[UUID] | None,
        messages: int,
    ) -> AsyncIterator[SnapshotPart]:
        """Yield the selected conversations with the last `messages` messages of each.

        At least one part, all with the same cursor, which was taken before the first row was
        read: what changes meanwhile comes again.

        Raises:
            StoreError: the source cannot be asked now.
        """
        ...

    def health(self) -> FeedHealth:
        """Return the state of the feed, from memory."""
        ...
