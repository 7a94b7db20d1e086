"""The files of one PostgreSQL: data directory, access rules, socket, port and log."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Generator
from pathlib import Path

from conv_realtime.errors import ConfigError
from conv_realtime.local.postgres.binaries import major_version
from conv_realtime.local.postgres.orphans import stop_orphan
from conv_realtime.local.postgres.placement import Placement

SUPERUSER = "supabase_admin"

_ACCESS = """\
# Written by conv_realtime at every start. The socket's folder is closed to other accounts.
local all all trust
local replication all trust
host all all 127.0.0.1/32 scram-sha-256
"""

_MAX_LOG_BYTES = 1 << 20

_MAX_DATA_BYTES = 900
"""Of the path of a data directory: PostgreSQL takes those below 1,024 bytes, with what is in it."""

_PORTS = range(1024, 1 << 16)
"""Those that any account may take: PostgreSQL does not run as root."""


def environment() -> dict[str, str]:
    """Gives the server's environment: nothing of the user's PG* variables or locale."""
    kept = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C"}


def prepare(placement: Placement, lock: int, *, sync: bool = True) -> None:
    """Makes the data directory if there is none, and clears what an earlier run left.

    Args:
        placement: where.
        lock: the descriptor of the folder's lock. `initdb` inherits it: it goes on after a
            `kill -9`, and nobody may begin anew meanwhile.
        sync: wait until a new one is on the disk.
    """
    if not placement.data.exists():
        _initialise(placement, lock, [] if sync else ["--no-sync"])
    clear(placement)
    (placement.data / "pg_hba.conf").write_text(_ACCESS)


def clear(placement: Placement) -> None:
    """Ends what is left of an earlier PostgreSQL; its socket's lock would pass for a live one.

    In a container without an init process a killed server stays a zombie, and its pid "alive".
    """
    stop_orphan(placement.data)
    for left in placement.sockets.glob(".s.PGSQL.*"):
        left.unlink(missing_ok=True)


def _initialise(placement: Placement, lock: int, options: list[str]) -> None:
    if len(os.fsencode(placement.data)) > _MAX_DATA_BYTES:
        advice = f"its path is too long for PostgreSQL: choose one below {_MAX_DATA_BYTES} bytes"
        raise ConfigError("state_dir", advice)
    fresh = placement.data.with_name(f"{placement.data.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    account = placement.account
    if account is not None:
        os.chown(fresh, account.uid, account.gid)
    program = placement.binaries / "initdb"
    options = [*options, "--locale=C"]
    if major_version(placement.binaries) >= 17:
        options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    made = subprocess.run(
        [program, "-D", fresh, "-U", SUPERUSER, "-E", "UTF8", "-A", "trust", *options],
        env=environment(),
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        pass_fds=(lock,),
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )
    if made.returncode != 0:
        shutil.rmtree(fresh, ignore_errors=True)
        raise failure(made.stderr or made.stdout, placement.data)
    fresh.rename(placement.data)


def remembered_port(folder: Path, wanted: int) -> int:
    """Gives `wanted`, or the port of the last run, or a free one: people keep `db_url` in files."""
    kept = folder / "port"
    with contextlib.suppress(OSError, ValueError):
        last = int(kept.read_text())
        wanted = wanted or (last if last in _PORTS else 0)
    port = _usable_port(wanted)
    kept.write_text(str(port))
    return port


def _usable_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise ConfigError("local Supabase", "no free TCP port on 127.0.0.1")


def _log_path(data: Path) -> Path:
    return data.with_name("postgres.log")


@contextlib.contextmanager
def open_log(data: Path) -> Generator[int]:
    """Opens the server's log for appending, begun anew when it has grown; gives a descriptor."""
    path = _log_path(data)
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > _MAX_LOG_BYTES:
            path.unlink()
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def last_words(data: Path, since: int) -> str:
    """Gives what the server's log says from byte `since` on: the words of one run."""
    with contextlib.suppress(OSError):
        return _log_path(data).read_bytes()[since:].decode(errors="replace")
    return ""


_NO_SHARED_MEMORY = (
    "this machine has no shared memory left for PostgreSQL: end what uses it, or give a container "
    "more of it (docker run --shm-size)"
)

_ADVICE = {
    # First: Linux says of it, too, that no space is left.
    "shared memory segment": _NO_SHARED_MEMORY,
    "anonymous shared memory": _NO_SHARED_MEMORY,
    "No space left on device": "the disk of {folder} is full: free some space and start again; "
    "nothing that was committed is lost",
    "Disk quota exceeded": "the quota for {folder} is used up: free some space and start again; "
    "nothing that was committed is lost",
    "ermission": "{folder} must belong to the account that runs this: use that account, or another "
    "state directory",
    "wrong ownership": "{folder} belongs to another account: use that one, or another state "
    "directory",
    "could not look up effective user ID": "PostgreSQL runs only as a user with a name: give this "
    "one a line in /etc/passwd, run it as another, or set SUPABASE_URL and SUPABASE_SECRET_KEY",
    "File too large": "no file may grow as large as PostgreSQL needs: raise the limit (ulimit -f)",
    "insufficient file descriptors": "it may not open as many files as PostgreSQL needs: raise the "
    "limit (ulimit -n)",
}


_ROOM_BYTES = 32 << 20
"""A new database takes more than so much, and a log segment of a known one half of it."""


def _free_bytes(data: Path) -> int:
    try:
        return shutil.disk_usage(data.parent).free
    except OSError:
        return _ROOM_BYTES


def failure(told: str, data: Path) -> ConfigError:
    """Makes an error of what initdb or the server said when it ended: its words, and what to do."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    fatal = [line for line in lines if re.search(r"FATAL:|PANIC:|error:", line)]
    words = re.sub(r"^.*?(?=FATAL:|PANIC:|error:)", "", (fatal or lines or ["no message"])[-1])
    if _free_bytes(data) < _ROOM_BYTES:  # then it says so only if it is lucky
        told += "No space left on device"
    advice = [text for sign, text in _ADVICE.items() if sign in told]
    todo = advice[0] if advice else "its log is {folder}/postgres.log"
    return ConfigError("local Supabase", f"PostgreSQL: {words}; {todo.format(folder=data.parent)}")
