"""This machine: the state directory, the transcripts, and whether they can be watched."""

from __future__ import annotations

import logging
import os
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from conv_realtime.background import on_thread
from conv_realtime.cli.checkup import Check, failed, ok, warning
from conv_realtime.cli.instance import running
from conv_realtime.edges import disk
from conv_realtime.edges.checkpoints import make_state_dir
from conv_realtime.edges.formats import known_formats, usual_paths
from conv_realtime.edges.watch import Watcher, watch
from conv_realtime.errors import SourceError

_SECRETS = ("instance.json", "session.json", "checkpoints.sqlite3", "supabase/keys.json")
_LIMITS = Path("/proc/sys/fs/inotify")


def state_directory(folder: Path) -> Check:
    """Try to write into the state directory, and look who else may read its secrets."""
    name = "state directory"
    try:
        make_state_dir(folder)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"doctor")
            file.flush()
    except OSError as error:
        return failed(
            name,
            f"{folder} cannot be written: {error.strerror or error}",
            "make room in it, make it yours (chown), or choose another: CONV_REALTIME_STATE_DIR",
        )
    open_to = [path for path in (folder / secret for secret in _SECRETS) if _is_open(path)]
    if open_to:
        files = " ".join(str(path) for path in open_to)
        return failed(
            name, "others on this machine may read its secrets", f"run: chmod 600 {files}"
        )
    instance = running(folder)
    busy = f"; process {instance.get('pid')} runs on it" if instance else ""
    return ok(name, f"{folder} can be written{busy}", running=instance is not None)


def _is_open(path: Path) -> bool:
    if sys.platform == "win32":  # has no such bits: who may read the user's folder may read it
        return False
    try:
        return bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
    except OSError:
        return False


class Transcripts:
    """The transcripts that would be read: where, and how many."""

    def __init__(self, paths: Sequence[Path] | None) -> None:
        self.formats = known_formats()
        self.usual = not paths
        self.paths = list(paths) if paths else usual_paths(self.formats)
        self.files: list[str] = []
        self.bytes = 0

    @property
    def reached(self) -> list[Path]:
        """Those of `paths` that are there, and open to this account."""
        return [path for path in self.paths if os.path.exists(path)]

    def find(self) -> Check:
        """Look for them."""
        name = "transcripts"
        missing = [str(path) for path in self.paths if not disk.is_there(path)]
        there = [path for path in self.paths if disk.is_there(path)]
        where = ", ".join(map(str, there or self.paths))
        if self.usual and not there:
            where = "the usual place of any assistant"
        try:
            found = disk.walk(there, lambda path: any(f.is_named(path) for f in self.formats))
        except SourceError as error:
            return failed(name, str(error), "let this account read it, or leave it out")
        self.files = sorted(found.stats)
        self.bytes = sum(stat.size for stat in found.stats.values())
        gone = f"; not there: {', '.join(missing)}" if missing else ""
        closed = [*found.odd, *(path for path in self.files if not os.access(path, os.R_OK))]
        if closed:
            gone += f"; {len(closed)} cannot be read, such as {closed[0]}"
        if not self.files:
            return warning(
                name,
                f"none in {where}{gone}",
                "name folders (conv-realtime doctor PATH), or see what `conv-realtime demo` does;"
                " a server that only serves needs none",
                files=0,
            )
        says = f"{len(self.files)} files, {self.bytes / 1e6:.1f} MB in {where}{gone}"
        facts = {"files": len(self.files), "bytes": self.bytes}
        if closed:
            remedy = "let this account read what `conv-realtime sources` names, or leave it out"
            return warning(name, says, remedy, **facts)
        return ok(name, says, **facts)


async def watching(paths: Sequence[Path]) -> Check:
    """Watch the folders for a moment, as `up` does."""
    name = "watching"
    if not paths:
        return ok(name, "nothing to watch yet")
    limit = _limit("max_user_watches")
    of = f" of {limit} that this system watches for a user" if limit else ""
    with _silenced("conv_realtime.watch"):
        async with watch(paths) as watcher:
            folders = await on_thread(_enter_all, watcher, paths)
            state = watcher.watching
    facts = {"folders": folders, "max_user_watches": limit}
    if state == "ok":
        return ok(name, f"{folders} folders{of}", **facts)
    if limit is None:
        says = f"{folders} folders, and the system does not watch them all"
        return failed(name, says, "watch fewer; changes in the others are found late", **facts)
    instances = _limit("max_user_instances")
    wanted = max(2 * folders, 524_288)
    return failed(
        name,
        f"{folders} folders, and the system does not watch them all; it allows {limit} watches"
        f" and {instances} instances, which other programs of this user share",
        "run: sudo sysctl fs.inotify.max_user_instances=1024"
        f" fs.inotify.max_user_watches={wanted} (and keep it in /etc/sysctl.d);"
        " until then changes are found by looking, which takes longer",
        **facts,
    )


def _enter_all(watcher: Watcher, paths: Sequence[Path]) -> int:
    """Watch every folder below `paths`; return how many there are."""
    folders = [folder for path in paths for folder, _, _ in os.walk(path)]
    for folder in folders:
        watcher.enter(folder)
    return len(folders)


def _limit(name: str) -> int | None:
    try:
        return int((_LIMITS / name).read_text())
    except (OSError, ValueError):
        return None  # another system than Linux


@contextmanager
def _silenced(name: str) -> Iterator[None]:
    """Keep a log from saying what the check says."""
    log = logging.getLogger(name)
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = False
