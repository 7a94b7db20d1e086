"""A feed whose kind is known only when a bridge is entered: its routes exist before that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from uuid import UUID

from conv_realtime.ports import Feed, FeedHealth, Page, PageHandler, SnapshotPart


class ChosenFeed:
    """A `ports.Feed` that does what the chosen one does."""

    def __init__(self) -> None:
        self._feed: Feed | None = None

    def choose(self, feed: Feed) -> None:
        """Let `feed` be the one from now on."""
        self._feed = feed

    @property
    def _chosen(self) -> Feed:
        if self._feed is None:
            raise RuntimeError("the bridge has not been entered: async with bridge")
        return self._feed

    async def run(self, on_page: PageHandler) -> None:
        await self._chosen.run(on_page)

    async def since(self, cursor: str, limit: int = 500) -> Page:
        return await self._chosen.since(cursor, limit)

    def snapshot(
        self,
        *,
        owner: UUID | None,
        conversations: Collection[UUID] | None,
        projects: Collection[UUID] | None,
        messages: int,
    ) -> AsyncIterator[SnapshotPart]:
        return self._chosen.snapshot(
            owner=owner, conversations=conversations, projects=projects, messages=messages
        )

    def health(self) -> FeedHealth:
        if self._feed is None:
            return FeedHealth(kind="local", state="stopped", last_event_at=None)
        return self._feed.health()
