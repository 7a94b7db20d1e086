"""Under which account, with which programs and in which folder a local PostgreSQL runs.

A normal user runs it directly. PostgreSQL refuses to run as root, so there it runs as the system
account `postgres` or else `nobody`. Where that account cannot reach the wanted folder, as below a
closed home, the data lies in `/var/lib/conv_realtime/<hash>` and the folder tells so: no mode of a
folder that is not ours is ever changed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pwd
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from conv_realtime.errors import ConfigError, unusable
from conv_realtime.local.postgres.binaries import copy_for_others, find_binaries

SHELF = Path("/var/lib/conv_realtime")
"""Where root keeps what another account must reach."""

_SIGNPOST = "elsewhere"
"""The file in a folder that tells where its data lies, if not there."""

BACK = "belongs_to"
"""The file in such a place that tells whose data it is, for people who clean up."""

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

    @property
    def sockets_are_temporary(self) -> bool:
        """Whether the socket's folder was made for this run alone, because of a long path."""
        return self.sockets.parent != self.data.parent


def place(folder: Path) -> Placement:
    """Decides where the PostgreSQL of `folder` lives and makes the folders above its data.

    Raises:
        ConfigError: no PostgreSQL that fits, no account to run it as, or somebody else's data.
        OSError: a folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        data = folder / "pgdata"
        _check_owner(data)
        return Placement(None, find_binaries(made_by(data)), data, _socket_folder(folder, None))
    return _place_for_root(folder)


@contextlib.contextmanager
def usable(folder: Path) -> Iterator[None]:
    """Makes an error of the operating system one that says what to do.

    Raises:
        ConfigError: the folder cannot be used as it is.
    """
    try:
        yield
    except OSError as error:
        raise unusable(error.filename or folder, error) from error


def made_by(data: Path) -> int | None:
    """Gives the major version of the PostgreSQL that made `data`, None if there is none."""
    try:
        told = (data / "PG_VERSION").read_bytes().strip()
    except FileNotFoundError:
        return None
    return int(told) if told.isdigit() else None


def _check_owner(data: Path) -> None:
    if data.exists() and (owner := data.stat().st_uid) != os.geteuid():
        raise ConfigError(
            "state_dir",
            f"{data} belongs to user {owner}, and this is user {os.geteuid()}: run it as that one, "
            "or choose another state directory",
        )


def _place_for_root(folder: Path) -> Placement:
    home = kept_elsewhere(folder) or folder
    account = _account(home / "pgdata")
    # Data that was once made elsewhere stays there, even if the folder has been opened since.
    if home == folder and not reachable(folder, account):
        home = _move_elsewhere(folder)
    binaries = find_binaries(made_by(home / "pgdata"))
    if not reachable(binaries / "postgres", account):
        SHELF.mkdir(parents=True, exist_ok=True, mode=0o755)
        binaries = copy_for_others(binaries, SHELF)
    return Placement(account, binaries, home / "pgdata", _socket_folder(home, account))


def kept_elsewhere(folder: Path) -> Path | None:
    """Reads where the data of `folder` lies, if it was made elsewhere and is still there."""
    try:
        elsewhere = Path((folder / _SIGNPOST).read_text())
    except FileNotFoundError:
        return None
    return elsewhere if elsewhere.is_dir() else None


def _move_elsewhere(folder: Path) -> Path:
    """Makes a home on the shelf; a folder that was deleted and made again gets a fresh one."""
    made_at = folder.stat().st_ctime_ns
    name = hashlib.sha256(f"{folder.resolve()}:{made_at}".encode()).hexdigest()[:16]
    elsewhere = SHELF / name
    elsewhere.mkdir(parents=True, exist_ok=True, mode=0o755)
    if (folder / "pgdata").exists():  # the way to it was closed after it was made
        (folder / "pgdata").rename(elsewhere / "pgdata")
    (elsewhere / BACK).write_text(str(folder.resolve()))
    (folder / _SIGNPOST).write_text(str(elsewhere))
    return elsewhere


def _account(data: Path) -> Account:
    """The owner of data that exists, so that a new system account does not lock us out."""
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
        _give(sockets, account)
    return sockets


def _give(folder: Path, account: Account) -> None:
    try:
        os.chown(folder, account.uid, account.gid)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise ConfigError(  # root of a user namespace that has no other users
            "local Supabase",
            "PostgreSQL does not run as root, and there is no other account in this container: "
            "give it more user ids, or set SUPABASE_URL and SUPABASE_SECRET_KEY",
        ) from error
