"""How many secrets were replaced where: numbers by kind, never the secrets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any
from uuid import UUID

from conv_realtime.core.conversation_fold import ConversationFold
from conv_realtime.core.redaction import Found

KEY = "redacted"
"""Under which metadata of messages and conversations have the numbers."""


def metadata_of(secrets: Collection[Found]) -> dict[str, Any]:
    """Return what metadata say of secrets: how many different ones, by kind; nothing of none."""
    counts = Counter(secret.kind for secret in list(secrets))  # a thread may read on
    return {KEY: dict(sorted(counts.items()))} if counts else {}


class Secrets:
    """The numbers of each file: of those that were read, and of those that an earlier run read."""

    def __init__(self) -> None:
        self._by_path: dict[str, dict[UUID, Counter[str]]] = {}

    @property
    def all(self) -> dict[str, int]:
        """What all files come to, by kind."""
        return dict(sorted(sum(map(self.of, self._by_path), Counter()).items()))

    def of(self, path: str) -> Counter[str]:
        """Return the numbers of one file."""
        return sum(self._by_path.get(path, {}).values(), Counter())

    def of_all(self, paths: Collection[str]) -> Counter[str]:
        """Return the numbers of some files; few have any."""
        return sum((self.of(path) for path in self._by_path.keys() & paths), Counter())

    def note(
        self,
        path: str,
        folds: Iterable[ConversationFold],
        id_of: Callable[[ConversationFold], UUID],
        *,
        whole: bool,
    ) -> None:
        """Take what the conversations of a file were found to hold so far.

        Where that was not the whole of it, what an earlier run found in the rest still holds.
        """
        if whole:
            self._by_path.pop(path, None)
        for fold in folds:
            if fold.entries and (fold.secrets or path in self._by_path):
                self._put(path, id_of(fold), metadata_of(fold.secrets))

    def remember(self, kept: Iterable[tuple[str, UUID, Mapping[str, int]]]) -> None:
        """Take what an earlier run found: the numbers of conversations, and their files."""
        self._by_path.clear()
        for path, id, counts in kept:
            self._put(path, id, {KEY: counts})

    def _put(self, path: str, id: UUID, metadata: Mapping[str, Mapping[str, int]]) -> None:
        if counts := metadata.get(KEY):
            self._by_path.setdefault(path, {})[id] = Counter(counts)
        elif path in self._by_path:
            self._by_path[path].pop(id, None)
