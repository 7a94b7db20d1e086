"""Under which account, with which programs and in which folder a local PostgreSQL runs.

A normal user runs it directly. PostgreSQL refuses to run as root, so there it runs as the system
account `postgres` or else `nobody`. Where that account cannot reach the wanted folder, as below a
closed home, the data lies in `/var/lib/conv_realtime/<hash>`: no mode of a folder that is not ours
is ever changed.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from conv_realtime.errors import ConfigError
from conv_realtime.local.binaries import copy_for_others, find_binaries

SHELF = Path("/var/lib/conv_realtime")
"""Where root keeps what another account must reach."""

_ACCOUNTS = ("postgres", "nobody")
_MAX_SOCKET_FOLDER_BYTES = 103 - len("/.s.PGSQL.65535")  # macOS has the shortest socket path


@dataclass(frozen=True, slots=True)
class Account:
    """A system account: user id and group id."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Placement:
    """What a local PostgreSQL runs with.

    Attributes:
        account: the account to switch to, or None to run as ourselves.
        binaries: the folder of the programs, which `account` can run.
        data: the data directory; it may not exist yet.
        sockets: the folder of the Unix socket, closed to other accounts.
    """

    account: Account | None
    binaries: Path
    data: Path
    sockets: Path


def place(folder: Path) -> Placement:
    """Decides where the PostgreSQL of `folder` lives and makes the folders above its data.

    Raises:
        ConfigError: no PostgreSQL, no account to run it as, or a folder that cannot be written.
    """
    binaries = find_binaries()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() != 0:
            return Placement(None, binaries, folder / "pgdata", _socket_folder(folder, None))
        return _place_for_root(folder, binaries)
    except OSError as error:
        raise ConfigError("--state-dir", f"cannot use {error.filename}: {error.strerror}") from None


def _place_for_root(folder: Path, binaries: Path) -> Placement:
    elsewhere = SHELF / hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    account = _account(folder / "pgdata", elsewhere / "pgdata")
    # Data that was once made elsewhere stays there, even if the folder has been opened since.
    if (elsewhere / "pgdata").exists() or not reachable(folder, account):
        elsewhere.mkdir(parents=True, exist_ok=True, mode=0o755)
        folder = elsewhere
    if not reachable(binaries / "postgres", account):
        SHELF.mkdir(parents=True, exist_ok=True, mode=0o755)
        binaries = copy_for_others(binaries, SHELF)
    return Placement(account, binaries, folder / "pgdata", _socket_folder(folder, account))


def _account(*data_folders: Path) -> Account:
    """The owner of data that exists, so that a new system account does not lock us out."""
    for data in data_folders:
        if data.exists() and (found := data.stat()).st_uid != 0:
            return Account(found.st_uid, found.st_gid)
    for name in _ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise ConfigError("local Supabase", "root needs an account 'nobody' to run PostgreSQL as")


def reachable(path: Path, account: Account) -> bool:
    """Says whether `account` may pass every folder on the way to `path` and enter or run it."""
    path = path.resolve()
    return all(_may_pass(step.stat(), account) for step in (path, *path.parents))


def _may_pass(found: os.stat_result, account: Account) -> bool:
    if found.st_uid == account.uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == account.gid:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)


def _socket_folder(folder: Path, account: Account | None) -> Path:
    """A folder of our own, short enough for a socket's path and closed to everybody else."""
    sockets = folder / "run"
    if len(os.fsencode(sockets)) <= _MAX_SOCKET_FOLDER_BYTES:
        sockets.mkdir(mode=0o700, exist_ok=True)
    else:
        sockets = Path(tempfile.mkdtemp(prefix="conv_rt-", dir="/tmp"))
    if account is not None:
        os.chown(sockets, account.uid, account.gid)
    return sockets
