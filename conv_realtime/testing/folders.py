"""Where the databases of tests lie: a folder a server, gone with it, even after a `kill -9`."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from conv_realtime import shared_files
from conv_realtime.local.postgres.placement import kept_elsewhere

_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 1 << 30
_PREFIX = "conv_realtime-test-"
_YOUNG_SECONDS = 60.0


def roomy() -> Path:
    """Gives a folder in memory where there is a gigabyte of it to spare, else the temporary one.

    Nothing here waits for a disk to be flushed, but a busy one makes each new file wait.
    """
    with contextlib.suppress(OSError):
        if shutil.disk_usage(_MEMORY).free >= _ROOM_BYTES and os.access(_MEMORY, os.W_OK):
            return _MEMORY
    return Path(tempfile.gettempdir())


@contextlib.contextmanager
def server_folder(parent: Path) -> Iterator[Path]:
    """Makes a folder that PostgreSQL's account reaches, and removes it and what others left."""
    _sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    folder.chmod(0o755)
    try:
        yield folder / "supabase"
    finally:
        _remove(folder)


def _sweep(parent: Path) -> None:
    """Removes folders whose owners were killed: a PostgreSQL that lives holds its folder's lock."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            found = folder.lstat()  # anybody may put a link to a folder of ours here
            ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
            young = time.time() - found.st_mtime < _YOUNG_SECONDS
            if ours and not young and not _in_use(folder):
                _remove(folder)


def _in_use(folder: Path) -> bool:
    try:
        return shared_files.is_locked(folder / "supabase" / "lock")
    except FileNotFoundError:
        return False


def _remove(folder: Path) -> None:
    elsewhere = kept_elsewhere(folder / "supabase")
    for each in (elsewhere, folder) if elsewhere else (folder,):
        shutil.rmtree(each, ignore_errors=True)
