"""For tests that must not share their database: a folder for it, and a way to kill it."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from conv_realtime.testing.folders import roomy


@contextmanager
def open_folder() -> Iterator[Path]:
    """Gives a folder that any account may reach, and removes it."""
    path = Path(tempfile.mkdtemp(prefix="conv_rt_own-", dir=roomy()))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def kill_postmaster(dsn: str) -> None:
    """Kills a PostgreSQL as the kernel would: at once, without a word to anybody."""
    with psycopg.connect(dsn) as connection:
        stat = Path(f"/proc/{connection.info.backend_pid}/stat").read_text()
    os.kill(int(stat.rpartition(")")[2].split()[1]), signal.SIGKILL)
