"""inotify(7) as the C library has it: folders in, events out."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from functools import cache

MODIFY, MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x2, 0x40, 0x80, 0x100, 0x200
OVERFLOW, IGNORED, IS_FOLDER = 0x4000, 0x8000, 0x4000_0000
# Neither opening nor closing: our own reads would wake us.
_WANTED = MODIFY | MOVED_FROM | MOVED_TO | CREATE | DELETE
_ONLY_FOLDERS = 0x100_0000

_HEAD = struct.Struct("iIII")
_READ_BYTES = 64 * 2**10

Event = tuple[int, int, str]
"""Number of a watch, what happened as a mask, and to which name in the folder."""


class Kernel:
    """An inotify instance.

    Attributes:
        fd: readable when there are events.

    Raises:
        OSError: the system gives no more of them.
    """

    def __init__(self) -> None:
        self.fd = _checked(_libc().inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def close(self) -> None:
        """Watch nothing any more. With thousands of folders this takes its time."""
        os.close(self.fd)

    def add(self, folder: str) -> int:
        """Watch a folder; return the number of the watch, the same one for the same folder.

        Raises:
            OSError: it is not there, closed to us, or above the limit (`ENOSPC`).
        """
        found = _libc().inotify_add_watch(self.fd, os.fsencode(folder), _WANTED | _ONLY_FOLDERS)
        return _checked(found)

    def remove(self, number: int) -> None:
        """Watch a folder no more; one that is gone already is none."""
        _libc().inotify_rm_watch(self.fd, number)

    def read(self) -> Iterator[Event]:
        """Yield some of the events that there are.

        Raises:
            OSError: nothing can be read any more.
        """
        try:
            data = os.read(self.fd, _READ_BYTES)
        except BlockingIOError:
            return
        place = 0
        while place < len(data):
            number, mask, _, length = _HEAD.unpack_from(data, place)
            place += _HEAD.size
            name = data[place : place + length].rstrip(b"\0")
            place += length
            yield number, mask, os.fsdecode(name)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
