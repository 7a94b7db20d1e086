"""Files that several processes use: locked by one of them, replaced in one piece.

A lock goes with the process that holds it, however that ends, and with the descriptor: a second one
is another holder, in the same process too.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

_PAUSES_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2)

_TO_LOOK = os.O_RDONLY
"""How a locked file is opened by who only looks: the file system may have become read-only."""

if sys.platform == "win32":
    import msvcrt

    _TO_LOOK = os.O_RDWR

    _BYTES = 2**20
    """What a holder locks, whether they are there or not."""

    def lock(descriptor: int, *, shared: bool = False) -> bool:
        """Lock an open file, if that can be done at once; return whether it is locked.

        Two that share it do not see each other: each locks one byte, by its process id.
        """
        first, length = (os.getpid() % _BYTES, 1) if shared else (0, _BYTES)
        os.lseek(descriptor, first, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, length)
        except PermissionError:
            return False
        return True

else:
    import fcntl

    def lock(descriptor: int, *, shared: bool = False) -> bool:
        """Lock an open file, if that can be done at once; return whether it is locked.

        Two that share it do not see each other.
        """
        how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def take_lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock on `path`, or None if somebody else does.

    Closing it frees the lock. The file is made if need be, readable by this account alone.

    Raises:
        OSError: the file cannot be made or opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    held = False
    try:
        held = lock(descriptor)
    finally:
        if not held:
            os.close(descriptor)
    return descriptor if held else None


def is_locked(path: Path) -> bool:
    """Return whether somebody holds the lock on `path`. Who takes it at that moment gets none.

    Raises:
        OSError: there is no such file, or it cannot be opened.
    """
    descriptor = os.open(path, _TO_LOOK)
    try:
        return not lock(descriptor, shared=True)
    finally:
        os.close(descriptor)


def replace(draft: Path, target: Path) -> None:
    """Put a file in another one's place; whoever reads meanwhile gets the old one or the new one.

    Raises:
        OSError: it cannot be done.
    """
    _insist(lambda: os.replace(draft, target))


def write_closed(path: Path, text: str) -> None:
    """Write a file that this account alone may read, in one piece; it is on the disk then.

    What somebody has put in its place before, a link perhaps, gets nothing of it.

    Raises:
        OSError: it cannot be written.
    """
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.stem}-", dir=path.parent)  # of mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        replace(Path(draft), path)
    except BaseException:
        os.unlink(draft)
        raise


def remove(path: Path) -> None:
    """Remove a file; does nothing where there is none.

    Raises:
        OSError: it cannot be done.
    """
    _insist(lambda: path.unlink(missing_ok=True))


def _insist(act: Callable[[], None]) -> None:
    """Do it, for a moment against refusal: on Windows nothing is done to a file that is open.

    Whoever reads it closes it soon, and so does a virus scanner.
    """
    for pause in _PAUSES_SECONDS:
        try:
            return act()
        except PermissionError:
            time.sleep(pause)
    act()
