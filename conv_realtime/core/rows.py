"""The rows that events tell of, as they stand: for whoever wants a state and not a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from uuid import UUID

from conv_realtime.events import (
    ConversationData,
    ConversationDeleted,
    ConversationUpdate,
    DeletedConversationData,
    DeletedData,
    Event,
    MessageData,
    MessageDeleted,
    MessageUpdate,
    NewConversation,
    NewMessage,
    Resync,
    Snapshot,
)

_MOST_GONE = 10_000  # deletions remembered against what comes late


class Rows:
    """Conversations by id and their messages by `seq`, kept by `apply`.

    A lower revision never replaces a higher one, so events may come twice and late. A snapshot
    replaces everything once its last frame is there. Memory grows with the rows that are followed.

    Args:
        messages: how many messages of each conversation the snapshot was asked for; older ones
            that change are then left out, for others before them are not known.
    """

    def __init__(self, messages: int = 50) -> None:
        self._most = messages
        self._state = _State()
        self._filling: _State | None = None

    @property
    def conversations(self) -> Mapping[UUID, ConversationData]:
        """The conversations by id."""
        return MappingProxyType(self._state.conversations)

    def messages(self, conversation: UUID) -> Sequence[MessageData]:
        """Return the messages of a conversation by `seq`, the newest last."""
        return sorted(self._state.messages.get(conversation, {}).values(), key=lambda row: row.seq)

    def apply(self, event: Event) -> None:
        """Take one event after the other, as a client iterates over them."""
        match event:
            case Resync():
                self._filling = None
            case Snapshot(data=data):
                if self._filling is None:
                    self._filling = _State()
                for conversation in data.conversations:
                    self._filling.put_conversation(conversation)
                for message in data.messages:
                    self._filling.put_message(message)
                if not data.more:
                    self._filling.settle(self._most)
                    self._state, self._filling = self._filling, None
            case NewConversation(data=row) | ConversationUpdate(data=row):
                self._state.put_conversation(row)
            case ConversationDeleted(data=gone):
                self._state.remove_conversation(gone)
            case NewMessage(data=row) | MessageUpdate(data=row):
                self._state.put_message(row)
            case MessageDeleted(data=gone):
                self._state.remove_message(gone)


class _State:
    def __init__(self) -> None:
        self.conversations: dict[UUID, ConversationData] = {}
        self.messages: dict[UUID, dict[UUID, MessageData]] = {}
        self._floor: dict[UUID, int] = {}
        self._gone: dict[UUID, int] = {}

    def put_conversation(self, row: ConversationData) -> None:
        if self._went_after(row):
            return
        known = self.conversations.get(row.id)
        if known is None or known.revision <= row.revision:
            self.conversations[row.id] = row

    def put_message(self, row: MessageData) -> None:
        if row.seq < self._floor.get(row.conversation_id, 0) or self._went_after(row):
            return
        rows = self.messages.setdefault(row.conversation_id, {})
        known = rows.get(row.id)
        if known is None or known.revision <= row.revision:
            rows[row.id] = row

    def remove_message(self, gone: DeletedData) -> None:
        rows = self.messages.get(gone.conversation_id, {})
        known = rows.get(gone.id)
        if known is not None and known.revision > gone.revision:
            return
        rows.pop(gone.id, None)
        self._remember(gone)

    def remove_conversation(self, gone: DeletedConversationData) -> None:
        known = self.conversations.get(gone.id)
        if known is not None and known.revision > gone.revision:
            return
        self.conversations.pop(gone.id, None)
        self.messages.pop(gone.id, None)
        self._remember(gone)

    def _went_after(self, row: ConversationData | MessageData) -> bool:
        # What went at the same revision came back: a database that refused it took it after all.
        return self._gone.get(row.id, -1) > row.revision

    def _remember(self, gone: DeletedData | DeletedConversationData) -> None:
        self._gone[gone.id] = max(gone.revision, self._gone.pop(gone.id, -1))
        if len(self._gone) > _MOST_GONE:
            del self._gone[next(iter(self._gone))]

    def settle(self, most: int) -> None:
        """Take note that of each conversation its last `most` messages were fetched."""
        for conversation, rows in self.messages.items():
            if len(rows) >= most:
                self._floor[conversation] = min(row.seq for row in rows.values())
