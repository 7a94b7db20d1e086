"""Rows of a document: a conversation is read again, whole, when some of its rows are wanted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from conv_realtime.core.conversation_fold import ConversationFold, Entry, Span
from conv_realtime.core.document_fold import DocumentTranscript
from conv_realtime.core.said import Said
from conv_realtime.edges.disk import OpenFile
from conv_realtime.ingest.rows import Rows

_PARSES = 4


class Parses:
    """The last few conversations that were read again: batches of one follow each other."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, Span, str], Sequence[Said | None]] = OrderedDict()
        self._lock = Lock()

    def get(
        self, key: tuple[str, Span, str], read: Callable[[], Sequence[Said | None]]
    ) -> Sequence[Said | None]:
        """Return what was read under this key, read now where it was not."""
        with self._lock:
            found = self._kept.get(key)
        if found is None:
            found = read()
        with self._lock:
            self._kept[key] = found
            self._kept.move_to_end(key)
            while len(self._kept) > _PARSES:
                self._kept.popitem(last=False)
        return found

    def drop(self, path: str) -> None:
        """Forget what was read from a file."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == path]:
                del self._kept[key]


@dataclass(frozen=True, slots=True)
class DocumentRows(Rows):
    """The rows of a document: `read` gives a conversation's messages as the file states them."""

    transcript: DocumentTranscript
    read: Callable[[OpenFile, Span, str], Sequence[Said | None]]

    def _fields(
        self, fold: ConversationFold, entries: Sequence[Entry], file: OpenFile
    ) -> Iterator[dict[str, Any]]:
        for entry in entries:
            said = self.read(file, entry.spans[0], fold.thread or "")[entry.seq]
            assert said is not None  # the bytes are those that were folded
            yield self._with_secrets(self.transcript.message_fields(entry, said))
