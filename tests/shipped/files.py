"""What a relay takes snapshots from, in tests of clients."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from conv_realtime.models import Conversation, Message
from tests.relay.rows import conversation

TALK, OTHER = conversation("one"), conversation("two")


class Files:
    """A `ports.Transcripts` of both conversations and the given messages."""

    def __init__(self, *rows: Message) -> None:
        self.rows = list(rows)

    async def conversations(self) -> Sequence[Conversation]:
        """Return both conversations."""
        return [TALK, OTHER]

    async def messages(self, conversation: UUID, last: int) -> Sequence[Message]:
        """Return the last of the messages of one."""
        return [row for row in self.rows if row.conversation_id == conversation][-last:]
