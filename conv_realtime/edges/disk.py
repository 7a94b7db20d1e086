"""The file system: which transcripts there are, what is in them, byte by byte."""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Iterable, Iterator
from pathlib import Path
from zlib import crc32

from conv_realtime.core.checkpoint import FileStat
from conv_realtime.errors import SourceError

SUFFIX = ".jsonl"
_NOT_TRANSCRIPTS = frozenset({"journal.jsonl", "history.jsonl"})
_CHUNK = 2**20


def default_paths() -> list[Path]:
    """Return the usual places of the assistants that are read: those that exist.

    Where none does, all of them: an assistant makes its folder when it is first used.
    """
    stated = [Path(part) for part in os.environ.get("CLAUDE_CONFIG_DIR", "").split(",") if part]
    folders = stated or [Path("~/.claude"), Path("~/.config/claude")]
    places = [folder.expanduser() / "projects" for folder in folders]
    return [place for place in places if place.is_dir()] or places


def is_transcript_name(path: str) -> bool:
    """Return whether a file of this name can be a transcript."""
    return path.endswith(SUFFIX) and os.path.basename(path) not in _NOT_TRANSCRIPTS


def walk(paths: Iterable[Path]) -> Iterator[str]:
    """Yield the absolute path of every file below `paths` that can be a transcript, sorted.

    Raises:
        SourceError: one of `paths` cannot be read at all. Folders below that cannot be read
            are left out.
    """
    found: set[str] = set()
    for path in paths:
        place = os.path.abspath(path.expanduser())
        try:
            top = os.stat(place)
        except OSError as error:
            raise SourceError(place, error.strerror or str(error)) from error
        if not modes.S_ISDIR(top.st_mode):
            found.add(place)
            continue
        for folder, _, names in os.walk(place):
            found.update(os.path.join(folder, name) for name in names if is_transcript_name(name))
    yield from sorted(found)


def stat(path: str) -> FileStat | None:
    """Return a regular file's state, None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    if not modes.S_ISREG(found.st_mode):
        return None
    return FileStat(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class OpenFile:
    """One open transcript; every read names its place, so that readers do not disturb each other.

    Raises:
        SourceError: from the constructor and every read, when the file cannot be read.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise SourceError(path, error.strerror or str(error)) from error

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def stat(self) -> FileStat:
        """Return the state of the file that is open, whatever its path holds by now."""
        found = os.fstat(self._fd)
        return FileStat(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    def read(self, start: int, length: int) -> bytes:
        """Return the bytes at `start`, fewer than `length` only at the end of the file."""
        parts: list[bytes] = []
        try:
            while length > 0 and (part := os.pread(self._fd, min(length, _CHUNK), start)):
                parts.append(part)
                start += len(part)
                length -= len(part)
        except OSError as error:
            raise SourceError(self.path, error.strerror or str(error)) from error
        return b"".join(parts)

    def crc(self, end: int) -> int | None:
        """Return the CRC-32 of the bytes before `end`, None where the file is shorter."""
        crc, position = 0, 0
        while position < end:
            data = self.read(position, min(_CHUNK, end - position))
            if not data:
                return None
            crc = crc32(data, crc)
            position += len(data)
        return crc
