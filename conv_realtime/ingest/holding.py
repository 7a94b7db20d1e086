"""Files kept open while the store lacks something of them.

A path can vanish or lead to another file before everything in it is acknowledged. What is still
to be sent is then read from the file that was open.
"""

from __future__ import annotations

import logging
import sys

from conv_realtime.edges.disk import OpenFile, open_file
from conv_realtime.errors import SourceError

logger = logging.getLogger("conv_realtime.ingest")

MOST_FILES = 256


def room() -> int:
    """Return how many files may be kept open: a quarter of what the system grants, at most.

    None on Windows, where the name of a file that is open is not free when it is deleted.
    """
    if sys.platform == "win32":
        return 0
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_FILES if soft == resource.RLIM_INFINITY else min(MOST_FILES, soft // 4)


class Holder:
    """Holds at most `most` files open, one a path; drops the one that was held longest."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._files: dict[str, OpenFile] = {}

    def keep(self, file: OpenFile) -> None:
        """Keep this file open for its path, instead of any other.

        None where the system lets no more files be open: it is read from its path then.
        """
        held = self._files.get(file.path)
        if self._most <= 0 or (held is not None and held.is_same(file)):
            return
        self.release(file.path)
        while len(self._files) >= self._most:
            self.release(next(iter(self._files)))
        try:
            self._files[file.path] = file.again()
        except SourceError as error:
            logger.info("not kept open: %s", error)

    def open(self, path: str) -> OpenFile:
        """Return the file that is held for the path, else the one that lies there.

        Raises:
            SourceError: none is held, and there is none or it cannot be read.
        """
        held = self._files.get(path)
        return held.again() if held is not None else open_file(path)

    def holds(self, path: str) -> bool:
        """Return whether a file is held for the path."""
        return path in self._files

    def holds_another(self, file: OpenFile) -> bool:
        """Return whether the file that is held for this one's path is not this one."""
        held = self._files.get(file.path)
        return held is not None and not held.is_same(file)

    def release(self, path: str) -> None:
        """Close what is held for the path, if anything."""
        if held := self._files.pop(path, None):
            held.close()

    def close(self) -> None:
        """Close everything."""
        for path in list(self._files):
            self.release(path)
