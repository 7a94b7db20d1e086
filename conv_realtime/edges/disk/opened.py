"""One open transcript, read by place."""

from __future__ import annotations

import os
import stat as modes
from typing import Self
from zlib import crc32

from conv_realtime.core.checkpoint import FileStat
from conv_realtime.errors import SourceError

CHUNK = 2**20
_MOST = 2**30  # systems refuse two gigabytes at once
_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
IRREGULAR = "not a regular file"


class OpenFile:
    """One open transcript; every read names its place, so that readers do not disturb each other.

    Attributes:
        packed: whether what is read is not what lies on the disk, byte by byte.

    Raises:
        SourceError: from the constructor and every read, when the file cannot be read.
    """

    packed = False

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            # Without waiting: a pipe that has taken a file's place would never be opened.
            self._fd = os.open(path, _FLAGS)
        except OSError as error:
            raise SourceError(path, error.strerror or str(error)) from error
        if not modes.S_ISREG(os.fstat(self._fd).st_mode):
            os.close(self._fd)
            raise SourceError(path, IRREGULAR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; nothing can be read any more."""
        os.close(self._fd)

    def again(self) -> OpenFile:
        """Return the same file, opened once more: also where its path has gone."""
        other = object.__new__(type(self))
        other.path = self.path
        other._fd = os.dup(self._fd)
        return other

    def is_same(self, other: OpenFile) -> bool:
        """Return whether both are the same file, whatever it holds."""
        return os.path.sameopenfile(self._fd, other._fd)

    def stat(self) -> FileStat:
        """Return the state of the file that is open, whatever its path holds by now."""
        found = os.fstat(self._fd)
        return FileStat(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    def read(self, start: int, length: int) -> bytes:
        """Return the bytes at `start`, fewer than `length` only at the end of the file."""
        parts: list[bytes] = []
        try:  # in one piece, nearly always: pieces that are joined are there twice
            while length > 0 and (part := os.pread(self._fd, min(length, _MOST), start)):
                parts.append(part)
                start += len(part)
                length -= len(part)
        except OSError as error:
            raise SourceError(self.path, error.strerror or str(error)) from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def check(self) -> None:
        """Find out whether all of it can be read, where that is not told by opening it."""

    def crc(self, end: int) -> int | None:
        """Return the CRC-32 of the bytes before `end`, None where the file is shorter."""
        crc, position = 0, 0
        while position < end:
            data = self.read(position, min(CHUNK, end - position))
            if not data:
                return None
            crc = crc32(data, crc)
            position += len(data)
        return crc
