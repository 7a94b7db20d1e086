"""Stores that refuse what a database would."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from conv_realtime.errors import StoreError
from conv_realtime.models import Conversation, Message, Project, Row, Table
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


def saying(*words: str) -> Callable[[Row], bool]:
    """Find messages that say one of `words`."""
    return lambda row: isinstance(row, Message) and row.text in words


def on(branch: str) -> Callable[[Row], bool]:
    """Find conversations of a branch."""
    return lambda row: isinstance(row, Conversation) and row.git_branch == branch


def of(row: Row) -> bool:
    """Find projects."""
    return isinstance(row, Project)
