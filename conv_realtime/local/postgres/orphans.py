"""Ends what an earlier run left of PostgreSQL, by the rules of `postmaster.pid`.

Removing the pid file while a backend of the dead postmaster lives would let two servers write one
data directory. So every process on the directory is waited for first; a pid file is removed only
when its process is something else that was given the same pid, or when it names none, as after a
power cut: PostgreSQL would not start over either.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_PID_FILE = "postmaster.pid"
_MAX_PID = (1 << 31) - 1
_STEP_SECONDS = 5.0
_POLL_SECONDS = 0.02


def stop_orphan(data: Path) -> None:
    """Stops the postmaster of `data` if one runs, and waits for its backends; blocks."""
    if not (data / _PID_FILE).exists():
        return
    pid = _postmaster_pid(data)
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        if pid is None or not _is_postmaster_of(pid, data):
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        _wait_until_free(data)
    _wait_until_free(data)
    if _postmaster_pid(data) == pid and (pid is None or exists(pid)):
        (data / _PID_FILE).unlink(missing_ok=True)


def is_ready(data: Path, pid: int | None) -> bool:
    """Says whether postmaster `pid` takes connections: line 8 of its pid file tells."""
    try:
        lines = (data / _PID_FILE).read_text().splitlines()
    except OSError:
        return False
    return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _postmaster_pid(data: Path) -> int | None:
    try:
        first = (data / _PID_FILE).read_bytes().partition(b"\n")[0]
    except FileNotFoundError:
        return None
    return int(first) if first.isdigit() and 0 < int(first) <= _MAX_PID else None


def exists(pid: int) -> bool:
    """Says whether a process has this pid, whoever's it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_postmaster_of(pid: int, data: Path) -> bool:
    """Says whether `pid` is a PostgreSQL on `data`, whose processes all work in that folder."""
    if sys.platform.startswith("linux"):
        return _works_in(pid, data)
    listed = subprocess.run(
        ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return str(data) in listed.stdout


def _works_in(pid: int, data: Path) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/cwd") == str(data.resolve())
    except OSError:
        return False


def _wait_until_free(data: Path) -> None:
    deadline = time.monotonic() + _STEP_SECONDS
    while _is_used(data) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _is_used(data: Path) -> bool:
    if not sys.platform.startswith("linux"):
        pid = _postmaster_pid(data)
        return pid is not None and _is_postmaster_of(pid, data)
    return any(_works_in(int(name), data) for name in os.listdir("/proc") if name.isdigit())
