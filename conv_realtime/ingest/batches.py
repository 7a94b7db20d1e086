"""What a reader of a file takes next: rows in the order in which the file grew.

A message is taken at its last place in the log, once, however many records it has; a
conversation's totals behind everything that they count.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from operator import attrgetter
from uuid import UUID

from conv_realtime.core.conversation_fold import ConversationFold, Entry
from conv_realtime.core.ownership import is_subagent
from conv_realtime.core.transcript import Transcript
from conv_realtime.edges.disk import OpenFile
from conv_realtime.ingest.rows import Rows, Tombstone
from conv_realtime.models import Conversation, Message, Project

_end = attrgetter("end")
_number = attrgetter("id.int")  # sorts as the ids do, faster
_place = attrgetter("conversation_id.int", "id.int")

Mark = tuple[int, int]
"""A position in the file, and the CRC-32 of everything before it."""


@dataclass(slots=True)
class Reader:
    """How far one consumer of the file has got, and which totals it has seen."""

    position: int = 0
    start: int = 0
    totals: dict[str | None, int] = field(default_factory=dict)

    @classmethod
    def at(cls, position: int) -> Reader:
        """Return a reader that has everything before `position`."""
        return cls(position, position)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows to take next, in the order of the fields; `mark` is acknowledged with the last.

    Rows are sorted by conversation, then id: writers that lock them and their parents in
    different orders deadlock each other.

    `stubs` are conversations that begin here, at revision 0, so that messages have something
    to hang under; `totals` are the conversations as they stand behind the batch. `created`
    are the ids that were in no earlier batch, `newest` is the time of the newest record. `ended`
    is how far the totals go, by thread. `size` is how many bytes the messages have in the file.
    """

    projects: Sequence[Project]
    stubs: Sequence[Conversation]
    messages: Sequence[Message]
    gone: Sequence[Tombstone]
    totals: Sequence[Conversation]
    created: frozenset[UUID]
    mark: Mark
    newest: datetime | None
    ended: Mapping[str | None, int] = field(default_factory=dict)
    size: int = 0

    @property
    def rows(self) -> int:
        """How many rows it has, without projects."""
        return len(self.stubs) + len(self.messages) + len(self.gone) + len(self.totals)

    def without(
        self, conversations: Collection[UUID], messages: Mapping[UUID, int] | None = None
    ) -> Batch:
        """Return the batch without some conversations and all that is theirs.

        Also without those of `messages` that are not above the revision given there.
        """
        stubs = [row for row in self.stubs if row.id not in conversations]
        totals = [row for row in self.totals if row.id not in conversations]
        needed = {row.project_id for row in (*stubs, *totals)}
        above = messages or {}
        return replace(
            self,
            projects=[row for row in self.projects if row.id in needed],
            stubs=stubs,
            messages=[
                row
                for row in self.messages
                if row.conversation_id not in conversations and row.revision > above.get(row.id, -1)
            ],
            gone=[row for row in self.gone if row.conversation_id not in conversations],
            totals=totals,
        )

    def below(self, conversations: Collection[UUID]) -> set[UUID]:
        """Return the conversations of the batch that are subagents of some of `conversations`."""
        return {
            row.id
            for row in (*self.stubs, *self.totals)
            if row.parent_id in conversations and is_subagent(row.agent_id, row.metadata)
        }


def make_batch(
    rows: Rows, reader: Reader, end: Mark, file: OpenFile, count: int, size: int
) -> Batch:
    """Return the rows behind the reader's position, up to `end`, within `count` and `size`.

    Raises:
        RewrittenError: the file no longer holds what was folded.
    """
    transcript = rows.transcript
    chosen, mark, chosen_size = _choose(transcript, reader, end, count, size)
    begun = list(transcript.begun(reader.position, mark[0]))
    ended = [
        fold
        for fold in transcript.ended(reader.position, mark[0])
        if reader.totals.get(fold.thread, reader.start) < fold.end
    ]
    now = {name: rows.conversation(transcript.conversations[name]) for name in chosen}
    messages: list[Message] = []
    gone: list[Tombstone] = []
    created = {rows.conversation_id(fold) for fold in begun if not fold.recalled}
    for name, entries in sorted(chosen.items(), key=lambda one: now[one[0]].id):
        fold, row = transcript.conversations[name], now[name]
        stated = [entry for entry in entries if entry.spans]
        built = rows.messages(fold, row, stated, file)
        pairs = zip(built, stated, strict=True)
        created.update(one.id for one, entry in pairs if entry.since >= reader.position)
        messages += sorted(built, key=_number)
        gone += rows.tombstones(row.id, [entry for entry in entries if not entry.spans])
    involved = {fold.thread: fold for fold in (*begun, *ended)}.values()
    totals = (now.get(fold.thread) or rows.conversation(fold) for fold in ended)
    return Batch(
        projects=list({row.id: row for row in map(rows.project, involved)}.values()),
        stubs=sorted((rows.conversation(fold, 0) for fold in begun), key=_number),
        messages=messages,
        gone=gone,
        totals=sorted(totals, key=_number),
        created=frozenset(created),
        mark=mark,
        newest=_newest(messages, involved),
        ended={fold.thread: fold.end for fold in ended},
        size=chosen_size,
    )


def beginning(rows: Rows, fold: ConversationFold) -> Batch:
    """Return what a conversation begins with, and none of its messages."""
    return Batch(
        projects=[rows.project(fold)],
        stubs=[rows.conversation(fold, 0)],
        messages=(),
        gone=(),
        totals=(),
        created=frozenset(),
        mark=(0, 0),
        newest=fold.last_time,
    )


def merged(batches: Sequence[Batch]) -> Batch:
    """Return the rows of batches of several files as one batch, which no file's mark fits."""
    if len(batches) == 1:
        return batches[0]
    projects = {row.id: row for batch in reversed(batches) for row in batch.projects}
    times = [batch.newest for batch in batches if batch.newest is not None]
    return Batch(
        projects=sorted(projects.values(), key=_number),
        stubs=sorted((row for batch in batches for row in batch.stubs), key=_number),
        messages=sorted((row for batch in batches for row in batch.messages), key=_place),
        gone=[one for batch in batches for one in batch.gone],
        totals=sorted((row for batch in batches for row in batch.totals), key=_number),
        created=frozenset(),
        mark=(0, 0),
        newest=max(times, default=None),
    )


def _choose(
    transcript: Transcript, reader: Reader, end: Mark, count: int, size: int
) -> tuple[dict[str | None, list[Entry]], Mark, int]:
    """Return the messages to take, by thread, the mark behind them, and how large they are."""
    log, taken = transcript.log, 0
    chosen: dict[str | None, list[Entry]] = {}
    place = bisect_right(log, reader.position, key=_end)
    while place < len(log):
        at, thread, native, mark = log[place]
        entry = transcript.conversations[thread].entries[native]
        place += 1
        if entry.end == at:  # else a later record of the same message follows
            chosen.setdefault(thread, []).append(entry)
            count -= 1
            taken += entry.size
        full = count <= 0 or taken >= size
        if full and place < len(log) and log[place].mark != mark:
            return chosen, mark, taken
    return chosen, end, taken


def _newest(messages: Sequence[Message], folds: Iterable[ConversationFold]) -> datetime | None:
    times = [row.created_at for row in messages] or [fold.last_time for fold in folds]
    return max((time for time in times if time is not None), default=None)
