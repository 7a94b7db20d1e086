"""How many secrets were replaced where: numbers by kind, never the secrets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import orjson

from conv_realtime.core.redaction import Found
from conv_realtime.edges.checkpoints import KeptConversation

if TYPE_CHECKING:
    from conv_realtime.ingest.rows import Rows

KEY = "redacted"
"""Under which metadata of messages and conversations have the numbers."""

_SAYS = f'"{KEY}":'


def metadata_of(secrets: Collection[Found]) -> dict[str, Any]:
    """Return what metadata say of secrets: how many different ones, by kind; nothing of none."""
    counts = Counter(secret.kind for secret in secrets)
    return {KEY: dict(sorted(counts.items()))} if counts else {}


class Secrets:
    """The numbers of each file: of those that were read, and of those that an earlier run read."""

    def __init__(self) -> None:
        self._by_path: dict[str, Counter[str]] = {}

    @property
    def all(self) -> dict[str, int]:
        """What all files come to, by kind."""
        return dict(sorted(sum(self._by_path.values(), Counter()).items()))

    def of(self, path: str) -> Counter[str]:
        """Return the numbers of one file."""
        return self._by_path.get(path, Counter())

    def note(self, path: str, rows: Rows) -> None:
        """Take what a file was found to hold so far."""
        self._put(path, (metadata_of(fold.secrets) for _, fold in rows.conversations()))

    def remembered(self, kept: Iterable[KeptConversation]) -> Iterator[KeptConversation]:
        """Pass on conversations of an earlier run, and take what they say."""
        self._by_path.clear()
        for one in kept:
            if _SAYS in one.row:  # few do, and there may be many thousands
                stated = orjson.loads(one.row)["metadata"].get(KEY, {})
                self._by_path[one.path] = self.of(one.path) + Counter(stated)
            yield one

    def _put(self, path: str, stated: Iterable[Mapping[str, Mapping[str, int]]]) -> None:
        counts: Counter[str] = sum((Counter(one.get(KEY, {})) for one in stated), Counter())
        if counts:
            self._by_path[path] = counts
        else:
            self._by_path.pop(path, None)
