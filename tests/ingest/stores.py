"""Stores that refuse what a database would, or do not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from uuid import UUID

from conv_realtime.errors import StoreError
from conv_realtime.models import Conversation, Message, Project, Row, Table
from conv_realtime.ports import KnownConversation
from conv_realtime.testing import MemoryStore


class Strict(MemoryStore):
    """A store that knows of parents, and refuses rows that `poison` finds, as PostgreSQL does.

    Attributes:
        code: of the refusal.
        asked: how many writes there were.
    """

    def __init__(
        self, poison: Callable[[Row], bool] = lambda row: False, code: str = "23514"
    ) -> None:
        super().__init__()
        self.poison = poison
        self.code = code
        self.asked = 0

    async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
        """Refuse a whole request for one row, without saying which."""
        self.asked += 1
        for row in rows:
            if self.poison(row):
                raise StoreError(table, self.code, "refused", retryable=False)
            if isinstance(row, Message) and row.conversation_id not in self.conversations:
                raise StoreError(table, "23503", "missing parent", retryable=False)
            if isinstance(row, Conversation) and row.project_id not in self.projects:
                raise StoreError(table, "23503", "missing parent", retryable=False)
        return await super().write(table, rows, **hints)


class Shut(MemoryStore):
    """A store that does not answer as long as it is shut.

    Attributes:
        tells: set while it says what it has.
        takes: set while it takes rows.
        asked: how many have asked what it has, or wanted it to take rows.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tells, self.takes = asyncio.Event(), asyncio.Event()
        self.tells.set()
        self.takes.set()
        self.asked = 0

    async def known(self, ids: Collection[UUID]) -> Mapping[UUID, KnownConversation]:
        """Wait until it tells."""
        self.asked += 1
        await self.tells.wait()
        return await super().known(ids)

    async def write(self, table: Table, rows: Sequence[Row], **hints: bool) -> int:
        """Wait until it takes."""
        self.asked += 1
        await self.takes.wait()
        return await super().write(table, rows, **hints)


def saying(*words: str) -> Callable[[Row], bool]:
    """Find messages that say one of `words`."""
    return lambda row: isinstance(row, Message) and row.text in words


def on(branch: str) -> Callable[[Row], bool]:
    """Find conversations of a branch."""
    return lambda row: isinstance(row, Conversation) and row.git_branch == branch


def of(row: Row) -> bool:
    """Find projects."""
    return isinstance(row, Project)
