"""inotify and nothing else: the least that telling of a change takes in Python."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import sys

from tests.bench.watchers import notice, watching

_MODIFIED = 0x2
_HEAD = struct.Struct("iIII")


def main(root: str) -> None:
    """Watch until the input ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_NONBLOCK)
    folders = {
        libc.inotify_add_watch(fd, os.fsencode(folder), _MODIFIED): os.fsencode(folder)
        for folder, _, _ in os.walk(root)
    }
    assert fd >= 0 and -1 not in folders, os.strerror(ctypes.get_errno())
    watching()
    while True:
        ready, _, _ = select.select([fd, 0], [], [])
        if 0 in ready:
            return
        data = os.read(fd, 1 << 16)
        place = 0
        while place < len(data):
            number, _, _, length = _HEAD.unpack_from(data, place)
            place += _HEAD.size + length
            name = data[place - length : place].rstrip(b"\0")
            notice(os.path.join(folders[number], name))


if __name__ == "__main__":
    main(sys.argv[1])
