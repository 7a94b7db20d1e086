"""Transcripts that are kept compressed, read as if they were not.

Codex compresses rollouts that nobody has written to for a week, keeping their modification time,
and takes the plain file away; to resume one it makes the plain file again (openai/codex,
`codex-rs/rollout/src/compression.rs`). Positions and checksums are those of the plain bytes, so a
transcript goes on being the same one through all of that.

Only what is asked for is decompressed, forwards: memory holds a window of the file, however long
it is. Reading what lies before costs beginning again, so a file that is open twice has one place.
"""

from __future__ import annotations

import os
import sys
from threading import Lock
from typing import Self

from conv_realtime.edges.disk.opened import CHUNK, OpenFile, telling
from conv_realtime.errors import SourceError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SUFFIX = ".zst"


def is_packed(path: str) -> bool:
    """Return whether a file of this path is compressed."""
    return path.endswith(SUFFIX)


class PackedFile(OpenFile):
    """One open compressed transcript.

    Raises:
        SourceError: from the constructor and every read, when the file cannot be read, also
            where it is torn or no such file.
    """

    packed = True

    def __init__(self, path: str) -> None:
        super().__init__(path)
        try:
            with telling(path):
                self._content = _Content(os.dup(self._fd))
        except SourceError:
            super().close()
            raise

    def close(self) -> None:
        """Close it; nothing can be read any more."""
        self._content.leave()
        super().close()

    def again(self) -> Self:
        """Return the same file, opened once more: also where its path has gone."""
        other = super().again()
        other._content = self._content.join()
        return other

    def read(self, start: int, length: int) -> bytes:
        """Return the plain bytes at `start`, fewer than `length` only at their end."""
        try:
            return self._content.read(start, length)
        except (OSError, EOFError, zstd.ZstdError) as error:
            raise SourceError(self.path, f"not readable as zstd: {error}") from error

    def check(self) -> None:
        """Read all of it once: what is torn must not be told as far as it goes.

        Raises:
            SourceError: it is torn.
        """
        place = 0
        while data := self.read(place, CHUNK):
            place += len(data)


class _Content:
    """The plain bytes of an open file; takes it over, and closes it when its last user leaves."""

    def __init__(self, fd: int) -> None:
        self._raw = os.fdopen(fd, "rb")
        self._plain = zstd.ZstdFile(self._raw)
        self._users = 1
        self._lock = Lock()

    def join(self) -> _Content:
        """Return this for one more user."""
        with self._lock:
            self._users += 1
        return self

    def leave(self) -> None:
        """Count a user less."""
        with self._lock:
            self._users -= 1
            if not self._users:
                self._plain.close()
                self._raw.close()

    def read(self, start: int, length: int) -> bytes:
        """Return the bytes at `start`, fewer than `length` only at the end."""
        parts: list[bytes] = []
        with self._lock:
            if self._plain.tell() != start:
                self._plain.seek(start)
            while length > 0 and (part := self._plain.read(min(length, CHUNK))):
                parts.append(part)
                length -= len(part)
        return b"".join(parts)
