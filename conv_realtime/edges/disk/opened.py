"""One open transcript, read by place."""

from __future__ import annotations

import os
import stat as modes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self
from zlib import crc32

from conv_realtime.core.checkpoint import FileStat
from conv_realtime.errors import SourceError

CHUNK = 2**20
_MOST = 2**30  # systems refuse two gigabytes at once
_IDENTITY = 2**63 - 1
IRREGULAR = "not a regular file"

if sys.platform == "win32":
    import _winapi
    import msvcrt
    from threading import Lock

    _SHARED = 7  # FILE_SHARE_READ, FILE_SHARE_WRITE, FILE_SHARE_DELETE
    _turn = Lock()

    def _open(path: str) -> int:
        """Open a file for reading; its writer may replace or delete it, which os.open forbids."""
        handle = _winapi.CreateFile(
            path, _winapi.GENERIC_READ, _SHARED, 0, _winapi.OPEN_EXISTING, 0, 0
        )
        return msvcrt.open_osfhandle(handle, os.O_RDONLY | os.O_BINARY)

    def _read_at(descriptor: int, length: int, start: int) -> bytes:
        """Read in two steps, for there is no pread; of one file that is open twice, too."""
        with _turn:
            os.lseek(descriptor, start, os.SEEK_SET)
            return os.read(descriptor, length)

else:
    _read_at = os.pread

    def _open(path: str) -> int:
        """Open a file for reading, at once: a pipe in its place would never be opened."""
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK)


def state_of(found: os.stat_result) -> FileStat:
    """Return a file's state, its identity in numbers that SQLite can keep.

    Some systems give 64 bits without a sign, or 128.
    """
    device, inode = found.st_dev & _IDENTITY, found.st_ino & _IDENTITY
    return FileStat(device, inode, found.st_size, found.st_mtime_ns)


@contextmanager
def telling(path: str) -> Iterator[None]:
    """Tell what the system refuses of a file as an error of that file.

    Raises:
        SourceError: it refuses something.
    """
    try:
        yield
    except OSError as error:
        raise SourceError(path, error.strerror or str(error)) from error


class OpenFile:
    """One open transcript; every read names its place, so that readers do not disturb each other.

    Attributes:
        packed: whether what is read is not what lies on the disk, byte by byte.

    Raises:
        SourceError: from the constructor and every read, when the file cannot be read, and where
            the system lets no more files be open.
    """

    packed = False

    def __init__(self, path: str) -> None:
        self.path = path
        with telling(path):
            self._fd = _open(path)
        try:
            with telling(path):
                found = os.fstat(self._fd)
            if not modes.S_ISREG(found.st_mode):
                raise SourceError(path, IRREGULAR)
        except SourceError:
            os.close(self._fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; nothing can be read any more."""
        os.close(self._fd)

    def again(self) -> Self:
        """Return the same file, opened once more: also where its path has gone."""
        other = object.__new__(type(self))
        other.path = self.path
        with telling(self.path):
            other._fd = os.dup(self._fd)
        return other

    def is_same(self, other: OpenFile) -> bool:
        """Return whether both are the same file, whatever it holds."""
        with telling(self.path):
            return os.path.sameopenfile(self._fd, other._fd)

    def stat(self) -> FileStat:
        """Return the state of the file that is open, whatever its path holds by now."""
        with telling(self.path):
            found = os.fstat(self._fd)
        return state_of(found)

    def read(self, start: int, length: int) -> bytes:
        """Return the bytes at `start`, fewer than `length` only at the end of the file."""
        parts: list[bytes] = []  # one, nearly always: those that are joined are there twice
        with telling(self.path):
            while length > 0 and (part := _read_at(self._fd, min(length, _MOST), start)):
                parts.append(part)
                start += len(part)
                length -= len(part)
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
