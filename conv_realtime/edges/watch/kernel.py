"""inotify(7), by watchdog's binding to it: folders in, events out."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator

from watchdog.observers.inotify_c import (
    InotifyConstants,
    WatchDescriptor,
    inotify_add_watch,
    inotify_init,
    inotify_rm_watch,
)

MODIFY, CREATE = InotifyConstants.IN_MODIFY, InotifyConstants.IN_CREATE
MOVED_FROM, MOVED_TO = InotifyConstants.IN_MOVED_FROM, InotifyConstants.IN_MOVED_TO
OVERFLOW, IGNORED = InotifyConstants.IN_Q_OVERFLOW, InotifyConstants.IN_IGNORED
IS_FOLDER = InotifyConstants.IN_ISDIR
# Neither opening nor closing: our own reads would wake us.
_WANTED = MODIFY | CREATE | MOVED_FROM | MOVED_TO | InotifyConstants.IN_DELETE
_ONLY_FOLDERS = InotifyConstants.IN_ONLYDIR

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
        self.fd = _checked(inotify_init())
        os.set_blocking(self.fd, False)
        os.set_inheritable(self.fd, False)

    def close(self) -> None:
        """Watch nothing any more. With thousands of folders this takes its time."""
        os.close(self.fd)

    def add(self, folder: str) -> int:
        """Watch a folder; return the number of the watch, the same one for the same folder.

        Raises:
            OSError: it is not there, closed to us, or above the limit (`ENOSPC`).
        """
        return _checked(inotify_add_watch(self.fd, os.fsencode(folder), _WANTED | _ONLY_FOLDERS))

    def remove(self, number: int) -> None:
        """Watch a folder no more; one that is gone already is none."""
        inotify_rm_watch(self.fd, WatchDescriptor(number))

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


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
