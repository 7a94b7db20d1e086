"""What a transcript format is: where its files lie, how they are told, what reads them.

A format is one file in `core/formats`, without I/O. There are two kinds, by how files grow:

* a **log** is appended to; it is read once, line by line, by a `LogTranscript`: `LogFormat`;
* a **document** is rewritten whole; it is parsed when it is complete, and compared with what it
  stated before: `DocumentFormat`.

A user's own format is the same class in the user's own package: see `JsonLines` for the short way.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import Any, ClassVar, Literal

from conv_realtime.core.framing import LineBuffer
from conv_realtime.core.outline import Outline, outline
from conv_realtime.core.records import Record, load, read_records
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.core.transcript import LogTranscript

HEAD_BYTES = 4 * 2**20
"""How much of a file is looked at, at most, to tell what it is."""

GLANCE_BYTES = 64 * 2**10
"""How much of it is looked at first: folders are full of other files."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What decides where an assistant keeps its files: home, environment and `sys.platform`."""

    home: PurePath
    environ: Mapping[str, str]
    platform: str

    def folders(self, variable: str, *usual: str) -> list[PurePath]:
        """Return the folders that an environment variable names, comma between them.

        Where it is not set, those of `usual`, each relative to the home directory.
        """
        stated = [part.strip() for part in self.environ.get(variable, "").split(",")]
        if any(stated):
            return [self._absolute(part) for part in stated if part]
        return [self.home / part for part in usual]

    def app_data(self, name: str) -> list[PurePath]:
        """Return where desktop applications keep the data of the one called `name`."""
        if self.platform == "darwin":
            return [self.home / "Library" / "Application Support" / name]
        if self.platform == "win32":
            return [place / name for place in self.folders("APPDATA", "AppData/Roaming")]
        return [place / name for place in self.folders("XDG_CONFIG_HOME", ".config")]

    def _absolute(self, path: str) -> PurePath:
        return self.home / path[2:] if path.startswith("~/") else self.home / path


@dataclass(frozen=True, slots=True)
class Recognised:
    """A file of `source` that states session `session`, or its subagent `agent`.

    A document of many conversations, an export, has some name of itself as session.

    `named` when the file is named like the session, as the original is and a copy may not be.
    """

    source: str
    session: str
    agent: str | None = None
    named: bool = False


@dataclass(frozen=True)
class Head:
    """The beginning of a file.

    Attributes:
        data: its first bytes, at most `HEAD_BYTES`.
        whole: whether that is all of the file.
        resting: whether nothing is expected to be added soon, so that a last line without a
            newline counts.
    """

    data: bytes
    whole: bool
    resting: bool

    @cached_property
    def outline(self) -> Outline:
        """The fields of the first object in it, for formats of one JSON value a file."""
        return outline(self.data)

    @cached_property
    def records(self) -> Sequence[Record]:
        """The records in it, for formats of one JSON object a line."""
        buffer = LineBuffer(max_line_bytes=HEAD_BYTES)
        lines = list(buffer.push(self.data))
        rest = buffer.rest() if self.resting else None
        if rest is not None and load(rest.data or b"") is not None:  # else torn: nothing to mend
            lines.append(rest)
        return [
            found for line in lines for found in read_records(line) if isinstance(found, Record)
        ]

    @property
    def begun(self) -> Mapping[str, Any]:
        """The fields of a first line that goes on behind all that is looked at; else nothing.

        The field that is cut off is None.
        """
        if len(self.data) < HEAD_BYTES or b"\n" in self.data or self.outline.listed:
            return {}
        return {**dict.fromkeys(self.outline.names), **self.outline.fields}


Claim = Recognised | Literal["unsure"] | None
"""What a format says of a file: its own, perhaps when there is more of it, or not its own."""


class Format(abc.ABC):
    """A transcript format, one of the two kinds below or in `core/document.py`.

    Attributes:
        source: its name in rows and ids; it must never change.
        title: its name for people.
        asked_last: whether it is asked of a file only where no assistant usually writes, behind
            all others: a format of many programs.
    """

    source: ClassVar[str]
    title: ClassVar[str]
    asked_last: ClassVar[bool] = False

    def places(self, machine: Machine) -> Sequence[PurePath]:
        """Return the folders or files where the assistant usually writes; none by default."""
        return ()

    @abc.abstractmethod
    def is_named(self, path: str) -> bool:
        """Return whether a file of this path can be a transcript; asked for every file found."""

    @abc.abstractmethod
    def claim(self, path: PurePath, head: Head) -> Claim:
        """Return whether a file is a transcript of this format, by its content."""


class LogFormat(Format):
    """A format whose files are appended to."""

    @abc.abstractmethod
    def transcript(self, path: PurePath, sanitizer: Sanitizer) -> LogTranscript:
        """Return what folds the file at `path`, from its start."""
