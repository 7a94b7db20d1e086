"""Rows to the sink, as changes in the order in which the file grew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

from conv_realtime.ingest.batches import Batch
from conv_realtime.ingest.following import Following
from conv_realtime.ingest.rows import Rows
from conv_realtime.ingest.shown import AllShown, Keeping, Shown
from conv_realtime.models import Change, Conversation, Message, Project
from conv_realtime.ports import Sink

_ACTIVE = timedelta(hours=24)


class Announcer:
    """Tells a sink of what the files say, before the database has it.

    Attributes:
        rows: every conversation announced or remembered, by id.
    """

    def __init__(self, sink: Sink | None) -> None:
        self._sink = sink
        self.rows = AllShown()
        self._counts: Counter[UUID | None] = Counter()
        self._newest: dict[UUID, datetime | None] = {}

    @property
    def wanted(self) -> bool:
        """Whether anybody listens."""
        return self._sink is not None

    def remember(self, keeping: Keeping) -> None:
        """Take conversations that an earlier run has seen: they are no news.

        What was known before counts no more.
        """
        self.rows = AllShown(keeping)
        counts = self.rows.of_projects()
        self._counts = Counter({UUID(id) if id else None: n for id, n in counts.items()})

    def moved(self, former: str, path: str) -> None:
        """Take note that another file states what `former` did."""
        self.rows.moved(former, path)

    def announce(self, follower: Following, batch: Batch) -> None:
        """Publish a batch: new conversations first, messages as they came, totals last."""
        if self._sink is None:
            return
        totals = {row.id: row for row in batch.totals}
        begun = [totals.pop(stub.id, stub) for stub in batch.stubs]
        new = {row.id for row in begun if row.id in batch.created and row.id not in self.rows}
        for row in (*begun, *totals.values()):
            self._keep(row.id, Shown(follower.path, row.project_id, row.revision, row))
        changes = [self._of_project(row) for row in batch.projects]
        changes += [Change(row, row.id in new) for row in begun]
        messages = sorted(batch.messages, key=lambda row: row.revision)
        changes += [Change(row, row.id in batch.created) for row in messages]
        owner = follower.identity.owner_id
        changes += [
            _deleted(owner, one.id, one.conversation_id, one.revision, one.at) for one in batch.gone
        ]
        changes += [Change(row, False) for row in totals.values()]
        self._sink.publish([change for change in changes if self._tells(change, batch)])

    def announce_deleted(
        self, follower: Following, messages: Mapping[UUID, UUID], revision: int, at: datetime
    ) -> None:
        """Publish that `messages`, by id with their conversation, were taken back."""
        told = {id: (conversation, revision) for id, conversation in messages.items()}
        self.withdraw_messages(follower.identity.owner_id, told, at)

    def withdraw(self, row: Conversation, messages: Mapping[UUID, int]) -> None:
        """Publish that nothing is left of a conversation, and of its messages at their revisions.

        It was erased for good, or the database refused it: it must not stay shown as live.
        """
        at = row.updated_at or datetime.fromtimestamp(0, UTC)
        self.withdraw_messages(row.owner_id, {id: (row.id, n) for id, n in messages.items()}, at)
        if self._sink is not None:
            gone = row.model_copy(update={"deleted_at": at})
            self._sink.publish([Change(gone, created=False)])

    def take_back(self, rows: Rows) -> None:
        """Withdraw what was announced under ids that turn out to be an earlier part's."""
        for id, fold in rows.conversations():
            self.withdraw(rows.conversation(fold), rows.revisions(fold))
            self.drop(id)

    def withdraw_messages(
        self, owner: UUID, messages: Mapping[UUID, tuple[UUID, int]], at: datetime
    ) -> None:
        """Publish that messages, by id with conversation and revision, are not there."""
        if self._sink is not None:
            self._sink.publish(
                [
                    _deleted(owner, id, conversation, revision, at)
                    for id, (conversation, revision) in messages.items()
                ]
            )

    def restore(self, messages: Iterable[Message]) -> None:
        """Publish messages that were withdrawn and are there after all."""
        if self._sink is not None:
            self._sink.publish([Change(row, created=False) for row in messages])

    def drop(self, conversation: UUID) -> None:
        """Name a conversation no more."""
        shown = self.rows.pop(conversation, None)
        if shown is not None:
            self._counts[shown.project_id] -= 1

    def file_changed(self, path: str, change: str, size: int) -> None:
        """Pass on that a file changed."""
        if self._sink is not None:
            self._sink.file_changed(path, change, size)

    def _keep(self, id: UUID, shown: Shown) -> None:
        known = self.rows.get(id)
        if known is None or known.project_id != shown.project_id:
            self._counts[shown.project_id] += 1
            if known is not None:
                self._counts[known.project_id] -= 1
        self.rows[id] = shown

    def _of_project(self, row: Project) -> Change:
        """Return what is told of a project: as new as its newest conversation in this run."""
        new = row.id not in self._newest
        times = [at for at in (row.updated_at, self._newest.get(row.id)) if at is not None]
        newest = self._newest[row.id] = max(times, default=None)
        recent = newest is not None and datetime.now(UTC) - newest < _ACTIVE
        update = {
            "updated_at": newest,
            "conversation_count": self._counts[row.id],
            "status": "active" if recent else "inactive",
        }
        return Change(row.model_copy(update=update), new)

    def _tells(self, change: Change, batch: Batch) -> bool:
        """Return whether a change is worth an event: projects only when a conversation begins."""
        return not isinstance(change.row, Project) or change.created or bool(batch.stubs)


def _deleted(owner: UUID, id: UUID, conversation: UUID, revision: int, at: datetime) -> Change:
    return Change(
        Message.model_construct(
            id=id,
            owner_id=owner,
            conversation_id=conversation,
            seq=0,
            revision=revision,
            role="other",
            text="",
            content=None,
            model=None,
            created_at=None,
            usage=None,
            metadata={},
            deleted_at=at,
            conversation=None,
        ),
        created=False,
    )
