"""What goes to the store in one request, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from conv_realtime.errors import StoreError
from conv_realtime.ingest.batches import Batch
from conv_realtime.models import Conversation, Message, Row, StoredFault

_PROBES = 8
"""Rows of a batch that are tried alone, to learn whether it is a row's fault at all."""


class MissingParentError(Exception):
    """The database does not have the rows that these hang under: it lost what it had."""


class PutOffError(Exception):
    """The store takes other rows and, for now, not these: they make way, and come again.

    Attributes:
        error: what it said of these.
    """

    def __init__(self, error: StoreError) -> None:
        self.error = error
        super().__init__(str(error))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch: `faults` were refused for good, `held` wait for a refused parent.

    Everything else of it is acknowledged.
    """

    faults: list[StoredFault]
    held: frozenset[UUID]

    def taken(self, batch: Batch) -> set[UUID]:
        """Return the ids of the batch's rows that the store has."""
        rows: tuple[Row, ...] = (
            *batch.projects, *batch.stubs, *batch.messages, *batch.totals
        )  # fmt: skip
        ids: set[UUID] = {row.id for row in rows} | {one.id for one in batch.gone}
        return ids - self.held - {fault.id for fault in self.faults}


@dataclass(frozen=True, slots=True)
class Request:
    """What the writes of one batch have in common; `faults` gathers what is refused.

    `rows` are all those of the batch in the table that is written.
    """

    path: str
    history: bool
    more: bool = False
    resent: bool = False
    rows: Sequence[Row] = ()
    faults: list[StoredFault] = field(default_factory=list)
    held: set[UUID] = field(default_factory=set)

    def of(self, rows: Sequence[Row], *, more: bool = False) -> Request:
        """Return the request for rows of a table; whether `more` of the batch follow them."""
        return replace(self, rows=rows, more=more)


def parent_of(row: Row) -> UUID | None:
    """Return the conversation or project that a row hangs under."""
    if isinstance(row, Message):
        return row.conversation_id
    return row.project_id if isinstance(row, Conversation) else None


def spread(rows: Sequence[Row]) -> Sequence[Row]:
    """Return some of several rows, from the first to the last."""
    some = min(len(rows), _PROBES)
    return [rows[place * (len(rows) - 1) // (some - 1)] for place in range(some) if some > 1]


def halves(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Return the earlier rows and the later ones, each sorted as a batch is.

    They become transactions of their own, which readers see in their order.
    """
    places = sorted(range(len(rows)), key=lambda place: getattr(rows[place], "revision", 0))
    half = len(rows) // 2
    return (
        [rows[place] for place in sorted(places[:half])],
        [rows[place] for place in sorted(places[half:])],
    )
