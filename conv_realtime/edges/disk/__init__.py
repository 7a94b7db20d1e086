"""The file system: which transcripts there are, what is in them, byte by byte."""

from __future__ import annotations

import os
import stat as modes
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from conv_realtime.core.checkpoint import FileStat
from conv_realtime.edges.disk.opened import IRREGULAR, state_of
from conv_realtime.edges.disk.opened import OpenFile as OpenFile
from conv_realtime.edges.disk.packed import PackedFile
from conv_realtime.edges.disk.packed import is_packed as is_packed
from conv_realtime.errors import SourceError


@dataclass(slots=True)
class Found:
    """What lies below some paths.

    Attributes:
        stats: what can be a transcript: the state of each file, by absolute path.
        links: linked folders that were walked as well; a watcher has to be told of them.
        odd: what is named like a transcript and no file that can be read, and folders that
            cannot be listed; each with the reason.
    """

    stats: dict[str, FileStat] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)
    odd: dict[str, str] = field(default_factory=dict)


def is_there(path: Path) -> bool:
    """Return whether there is something at a path; what is closed to this account is there.

    For `Path.exists` it is an error, and from Python 3.14 on it is not there.
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def walk(
    paths: Iterable[Path],
    wanted: Callable[[str], bool],
    entering: Callable[[str], object] = lambda folder: None,
) -> Found:
    """Return the files below `paths` that are `wanted` by their path, in linked folders too.

    A file that is one of `paths` itself is always wanted. `entering` is called with each folder
    before it is listed, and with that of such a file.

    A link is followed unless it leads to what is walked anyway, or to a folder above: so no
    loop is endless, and no file is found by more ways than it has names outside of links.

    Raises:
        SourceError: one of `paths` is not there, or nothing can be told of it.
    """
    found = Found()
    walked: set[str] = set()
    linked: list[str] = []
    for path in paths:
        place = os.path.abspath(path)
        try:
            top = os.stat(place)
        except OSError as error:
            raise SourceError(place, error.strerror or str(error)) from error
        if modes.S_ISDIR(top.st_mode):
            walked.add(os.path.realpath(place))
            _walk(place, wanted, entering, found, linked)
        else:
            entering(os.path.dirname(place))
            _take(place, found)
    while linked:
        link = linked.pop()
        real = os.path.realpath(link)
        if not any(_holds(known, real) or _holds(real, known) for known in walked):
            walked.add(real)
            found.links.append(link)
            _walk(link, wanted, entering, found, linked)
    found.links.sort()
    return found


def _walk(
    place: str,
    wanted: Callable[[str], bool],
    entering: Callable[[str], object],
    found: Found,
    linked: list[str],
) -> None:
    waiting = [place]
    while waiting:
        folder = waiting.pop()
        entering(folder)
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if _is_folder(entry):
                        waiting.append(entry.path)
                    elif _leads_to_folder(entry):
                        linked.append(entry.path)
                    elif wanted(entry.path):
                        _take(entry.path, found)
        except (FileNotFoundError, NotADirectoryError):  # gone meanwhile
            continue
        except OSError as error:
            found.odd[folder] = error.strerror or str(error)


def _take(path: str, found: Found) -> None:
    try:
        state = _state(os.stat(path))
    except FileNotFoundError:  # gone meanwhile, or a link to nothing
        return
    except OSError as error:
        found.odd[path] = error.strerror or str(error)
        return
    if state is None:
        found.odd[path] = IRREGULAR
    else:
        found.stats[path] = state


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder and no link; one that cannot be told hides no other."""
    try:
        return entry.is_dir(follow_symlinks=False) and not _is_link(entry)
    except OSError:
        return False


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a link to a folder; one that cannot be told hides no other."""
    try:
        return _is_link(entry) and os.path.isdir(entry.path)
    except OSError:
        return False


def _is_link(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry leads elsewhere: on Windows a junction does, which no event passes.

    Raises:
        OSError: it cannot be told.
    """
    if sys.platform == "win32" and not entry.is_symlink():
        tag = entry.stat(follow_symlinks=False).st_reparse_tag
        return tag == modes.IO_REPARSE_TAG_MOUNT_POINT
    return entry.is_symlink()


def _holds(folder: str, path: str) -> bool:
    """Return whether `path` is `folder` or lies in it."""
    return path == folder or path.startswith(os.path.join(folder, ""))


def stat(path: str) -> FileStat | None:
    """Return a regular file's state, None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return _state(found)


def _state(found: os.stat_result) -> FileStat | None:
    return state_of(found) if modes.S_ISREG(found.st_mode) else None


def stats(paths: Iterable[str]) -> dict[str, FileStat]:
    """Return the state of each of `paths` that is a regular file now."""
    return {path: found for path in paths if (found := stat(path))}


def open_file(path: str) -> OpenFile:
    """Open a transcript; of a compressed one, what was compressed is read.

    Raises:
        SourceError: it cannot be read.
    """
    return PackedFile(path) if is_packed(path) else OpenFile(path)
