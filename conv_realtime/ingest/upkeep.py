"""What a user does about rows that are refused, different or not to be kept.

Beside an ingest that runs on the same state directory, in this process or another, these are
calls of an `Ingest` of their own: the running one notices.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from pathlib import Path
from uuid import UUID

from conv_realtime.background import on_thread
from conv_realtime.edges import disk
from conv_realtime.edges.formats import usual_paths
from conv_realtime.errors import ConvRealtimeError, SourceError
from conv_realtime.ingest import stated
from conv_realtime.ingest.catching_up import Progress, catch_up
from conv_realtime.ingest.desk import Desk
from conv_realtime.ingest.tender import Tender
from conv_realtime.ingest.verifying import Verified, repair, verify
from conv_realtime.models import StoredFault
from conv_realtime.settings import as_paths

_TRIES = 3


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Raise an error of ours as itself and not as a group: callers handle one at a time."""
    try:
        yield
    except ExceptionGroup as group:
        ours: BaseException = group.subgroup(ConvRealtimeError) or group
        while ours is not group and isinstance(ours, ExceptionGroup):
            ours = ours.exceptions[0]
        raise ours from group


class Upkeep(ABC):
    """The part of an `Ingest` that looks after what was sent."""

    @property
    @abstractmethod
    def _opened(self) -> tuple[Desk, Tender]:
        """What is there once the ingest has been entered."""

    @property
    def dead_letters(self) -> Sequence[StoredFault]:
        """The rows that the database refused for good, the oldest first."""
        return self._opened[0].checkpoints.letters.open

    async def retry(self, ids: Collection[UUID] | None = None) -> Sequence[StoredFault]:
        """Send the files of dead letters once more; return the letters that are left.

        Args:
            ids: of the rows, also those that were given up; default: all others.

        Raises:
            SourceError: one of `ids` is no dead letter.
            StoreError: the database refuses for a reason that does not pass by itself, or has not
                answered once in half a minute.
        """
        desk, tender = self._opened
        letters = desk.checkpoints.letters
        for unknown in set(ids or ()) - letters.faults.keys():
            raise SourceError(str(unknown), "is no dead letter; `conv-realtime status` shows them")
        letters.reopen(ids or ())
        desk.resends.update(fault.path for fault in letters.open if ids is None or fault.id in ids)
        with plain_errors():
            async with tender.running():
                await self._send_again()
        left = {fault.id for fault in letters.open}
        desk.checkpoints.changed_elsewhere()  # the running one may have dropped some meanwhile
        return [fault for fault in letters.open if fault.id in left]

    def discard(self, ids: Collection[UUID] | None = None) -> int:
        """Give up on dead letters: on those of `ids`, or on all; return on how many.

        Their rows stay out of sight until they change.
        """
        return self._opened[0].checkpoints.letters.discard(ids)

    async def forget(self, conversations: Collection[UUID]) -> None:
        """Note that conversations were erased for good: nothing of them is sent or shown again."""
        await stated.forget(*self._opened, conversations)

    def _wanted(self, paths: str | Path | Iterable[str | Path] | None) -> Sequence[Path]:
        """Return the paths that are meant: given, else of the settings, else the usual ones."""
        desk, _ = self._opened
        wanted = desk.settings.paths if paths is None else as_paths(paths)
        return usual_paths(desk.shelf.formats) if wanted is None else wanted

    async def _send_again(self) -> None:
        """Send the files that are due once more, and those that become due by that.

        One that cannot be sent stays due, so each has some tries.
        """
        desk, tender = self._opened
        tried: Counter[str] = Counter()
        while stats := await on_thread(
            disk.stats, [path for path in desk.resends if tried[path] < _TRIES]
        ):
            tried.update(stats.keys())
            await catch_up(desk, tender, stats, resting=True)
        desk.resends.difference_update(tried)

    async def verify(
        self,
        paths: str | Path | Iterable[str | Path] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> AsyncIterator[Verified]:
        """Yield what the database says of each conversation, compared with the files.

        Args:
            paths: files and folders; default: those of the settings.
            on_progress: called after each file.

        Raises:
            SourceError: one of `paths` cannot be read at all.
            StoreError: the database refuses for a reason that does not pass by itself, or has not
                answered once in half a minute.
        """
        desk, _ = self._opened
        told = on_progress or (lambda progress: None)
        async for found in verify(desk, self._wanted(paths), told):
            yield found

    async def repair(self, found: Collection[Verified]) -> Mapping[str, str]:
        """Send the files of conversations that differ once more; return what was done, by path.

        Raises:
            StoreError: the database refuses for a reason that does not pass by itself, or has not
                answered once in half a minute.
        """
        desk, tender = self._opened
        with plain_errors():
            async with tender.running():
                return await repair(desk, tender, found)
