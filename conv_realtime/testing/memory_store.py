"""A store without a database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from conv_realtime.core.digest import digest, text_sha256
from conv_realtime.errors import StoreError
from conv_realtime.models import Conversation, Message, Project, Row, Table, is_beginning
from conv_realtime.ports import Digest, KnownConversation, StoredMessage


class MemoryStore:
    """A `Store` in memory that keeps rows as the database does.

    A lower revision never replaces a higher one, and a row that is there already counts as not
    written. Set `down` to have every call refused as if the database could not be reached.
    """

    def __init__(self) -> None:
        self.projects: dict[UUID, Project] = {}
        self.conversations: dict[UUID, Conversation] = {}
        self.messages: dict[UUID, Message] = {}
        self.down = False
        self._forgotten: set[UUID] = set()
        self._name = uuid4().hex

    async def database(self) -> str:
        """Return a name that no other store has.

        Raises:
            StoreError: `down` is set.
        """
        self._check("projects")
        return self._name

    async def write(
        self, table: Table, rows: Sequence[Row], *, history: bool = False, more: bool = False
    ) -> int:
        """Upsert `rows`; return how many changed anything.

        Raises:
            StoreError: `down` is set.
        """
        self._check(table)
        return sum(self._keep(getattr(self, table), row) for row in rows)

    async def known(self, conversations: Collection[UUID]) -> Mapping[UUID, KnownConversation]:
        """Return what is there of `conversations`.

        Raises:
            StoreError: `down` is set.
        """
        self._check("conversations")
        return {
            id: KnownConversation(
                self.conversations[id].revision,
                live={m.id: m.revision for m in self._messages(id) if m.deleted_at is None},
                deleted={m.id: m.revision for m in self._messages(id) if m.deleted_at is not None},
            )
            for id in conversations
            if id in self.conversations
        }

    async def mark_deleted(self, messages: Collection[UUID], revision: int, at: datetime) -> int:
        """Set `deleted_at` and `revision`; return how many messages changed.

        Raises:
            StoreError: `down` is set.
        """
        self._check("messages")
        update = {"deleted_at": at, "revision": revision}
        known = [self.messages[id] for id in messages if id in self.messages]
        return sum(self._keep(self.messages, row.model_copy(update=update)) for row in known)

    async def forgotten(self, owner: UUID, machine: str) -> Collection[UUID]:
        """Return the conversations that `forget` erased.

        Raises:
            StoreError: `down` is set.
        """
        self._check("conversations")
        return set(self._forgotten)

    def forget(self, conversation: UUID) -> None:
        """Erase a conversation: what is written of it from now on is dropped."""
        self._forgotten.add(conversation)
        self.conversations.pop(conversation, None)
        for row in self._messages(conversation):
            del self.messages[row.id]

    async def digests(self, conversations: Collection[UUID]) -> Mapping[UUID, Digest]:
        """Return what is there of `conversations`, in short.

        Raises:
            StoreError: `down` is set.
        """
        self._check("conversations")
        known = self.conversations.keys() | self._forgotten
        return {id: self._digest(id) for id in known & set(conversations)}

    def _digest(self, id: UUID) -> Digest:
        rows = self._messages(id)
        live = [row for row in rows if row.deleted_at is None]
        row = self.conversations.get(id)
        lines = [(m.id, m.seq, m.revision, m.role, text_sha256(m.text)) for m in live]
        return Digest(
            messages=len(live),
            deleted=len(rows) - len(live),
            digest=digest(lines),
            revision=row.revision if row else 0,
            message_count=row.message_count if row else 0,
            tool_usage_count=row.tool_usage_count if row else 0,
            forgotten=id in self._forgotten,
        )

    async def stored_messages(self, conversation: UUID) -> AsyncIterator[StoredMessage]:
        """Yield the messages of a conversation in the order of their ids.

        Raises:
            StoreError: `down` is set.
        """
        self._check("messages")
        for row in sorted(self._messages(conversation), key=lambda row: row.id):
            yield StoredMessage(
                row.id, row.seq, row.revision, row.role, text_sha256(row.text),
                row.deleted_at is not None,
            )  # fmt: skip

    def _messages(self, conversation: UUID) -> list[Message]:
        return [row for row in self.messages.values() if row.conversation_id == conversation]

    def _keep(self, kept: dict[UUID, Any], row: Row) -> bool:
        conversation = row.conversation_id if isinstance(row, Message) else row.id
        if conversation in self._forgotten:
            return False
        known = kept.get(row.id)
        if known is not None and not _replaces(row, known):
            return False
        kept[row.id] = row
        return True

    def _check(self, table: Table) -> None:
        if self.down:
            raise StoreError(table, "ConnectError", "the store is down", retryable=True)


def _replaces(row: Row, known: Row) -> bool:
    if isinstance(row, Project) or isinstance(known, Project):
        return row.to_row() != known.to_row()
    if is_beginning(row):
        return False
    return row.revision >= known.revision and row.to_row() != known.to_row()
