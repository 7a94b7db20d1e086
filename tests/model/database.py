"""A database as its readers know it: rows, transactions, and `changes_since`.

Transactions get their number when they begin and commit in any order. A reader sees only what
lies below the oldest one that still runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from conv_realtime.models import Conversation, ConversationSummary, Message, Project, Row

RANKS = {"projects": 1, "conversations": 2, "messages": 3}
TABLES = {rank: table for table, rank in RANKS.items()}
Key = tuple[str, UUID]
Place = tuple[int, int, int, int]
"""Transaction, table, revision, number: the order in which rows are read."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A row, where it is read, and the transaction that it first appeared in."""

    row: Row
    place: Place
    created_tx: int


class Database:
    """Committed rows and running transactions; synchronous, its caller says when what happens."""

    def __init__(self) -> None:
        self.rows: dict[Key, Stored] = {}
        self._epoch = 0
        self._next_tx = 1
        self._running: set[int] = set()
        self._number = 0

    @property
    def stream(self) -> str:
        """What cursors begin with: another one after every restore."""
        return f"s{self._epoch}"

    def begin(self) -> int:
        """Return the number of a new transaction."""
        tx = self._next_tx
        self._next_tx += 1
        self._running.add(tx)
        return tx

    def abort(self, tx: int) -> None:
        """End a transaction that changed nothing."""
        self._running.discard(tx)

    def has_parent(self, row: Row) -> bool:
        """Return whether what a row hangs under is there."""
        if isinstance(row, Message):
            return ("conversations", row.conversation_id) in self.rows
        if isinstance(row, Conversation) and row.project_id is not None:
            return ("projects", row.project_id) in self.rows
        return True

    def commit(self, tx: int, rows: Sequence[Row]) -> tuple[int, str | None]:
        """Write rows; return how many changed, and the cursor that has read them all."""
        self._running.discard(tx)
        last: Place | None = None
        changed = 0
        for row in rows:
            if place := self._write(tx, row):
                changed += 1
                last = max(last or place, place)
        return changed, None if last is None else f"{self.stream}.{'-'.join(map(str, last))}"

    def restore(self, rows: dict[Key, Stored]) -> None:
        """Become what a backup has; transactions that run are lost."""
        self.rows = dict(rows)
        self._epoch += 1
        self._running.clear()

    def changes_since(self, cursor: str | None, max_rows: int) -> dict[str, Any]:
        """Answer as the function of that name does."""
        stream, _, position = (cursor or "").partition(".")
        horizon = min(self._running, default=self._next_tx)
        if stream != self.stream:
            below = (stored.place[0] for stored in self.rows.values())
            head = max((tx for tx in below if tx < horizon), default=-1) + 1
            return _page([], f"{self.stream}.{head}", resync=cursor is not None)
        since = tuple(map(int, position.split("-")))
        found = sorted(
            (stored for stored in self.rows.values() if self._is_next(stored, since, horizon)),
            key=lambda stored: stored.place,
        )
        chosen, more = found[:max_rows], len(found) > max_rows
        if more:
            position = "-".join(map(str, chosen[-1].place))
        elif chosen:
            position = str(chosen[-1].place[0] + 1)
        changes = [
            {
                "table": stored.row.table,
                "created": stored.created_tx >= since[0],
                "cursor": f"{self.stream}.{'-'.join(map(str, stored.place))}",
                "row": self._joined(stored.row),
            }
            for stored in chosen
        ]
        return _page(changes, f"{self.stream}.{position}", more=more)

    def select(self, table: str) -> list[dict[str, Any]]:
        """Return the columns of every row of a table."""
        return [stored.row.to_row() for (name, _), stored in self.rows.items() if name == table]

    def _is_next(self, stored: Stored, since: tuple[int, ...], horizon: int) -> bool:
        return stored.place[0] < horizon and (
            stored.place[0] >= since[0] if len(since) == 1 else stored.place > since
        )

    def _write(self, tx: int, row: Row) -> Place | None:
        old = self.rows.get((row.table, row.id))
        revision = 0 if isinstance(row, Project) else row.revision
        if old is not None:
            known = 0 if isinstance(old.row, Project) else old.row.revision
            if revision < known or old.row.to_row() == row.to_row():
                return None
        self._number += 1
        place = (tx, RANKS[row.table], revision, self._number)
        self.rows[row.table, row.id] = Stored(row, place, old.created_tx if old else tx)
        return place

    def _joined(self, row: Row) -> dict[str, Any]:
        if not isinstance(row, Message):
            return row.model_dump(mode="json")
        parent = self.rows["conversations", row.conversation_id].row
        assert isinstance(parent, Conversation)
        shown = {"conversation": ConversationSummary.of(parent), "project_id": parent.project_id}
        return row.model_copy(update=shown).model_dump(mode="json")


def _page(
    changes: list[dict[str, Any]], cursor: str, *, more: bool = False, resync: bool = False
) -> dict[str, Any]:
    return {"changes": changes, "cursor": cursor, "more": more, "resync": resync}
