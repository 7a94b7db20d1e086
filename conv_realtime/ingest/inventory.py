"""What there is to read on a machine: whose files, how many, and what would not be read and why.

A file is judged as ingest judges it, by its first bytes, and nothing is folded or sent.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from conv_realtime.core.checkpoint import FileStat
from conv_realtime.core.format import Format
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.edges import disk
from conv_realtime.edges.formats import all_places, places_of
from conv_realtime.errors import SourceError
from conv_realtime.ingest.book import Book
from conv_realtime.ingest.shelf import Shelf
from conv_realtime.models import Skipped


@dataclass
class Source:
    """An assistant on this machine.

    Attributes:
        source: its name in rows; None stands for files that are nobody's.
        title: its name for people.
        places: where it usually writes, whether that exists or not.
        files, bytes: what would be read.
        newest: when the newest of them was written last, in seconds; None without any.
        skipped: what lies in its places, is named as a transcript and would not be read.
    """

    source: str | None
    title: str
    places: Sequence[Path] = ()
    files: int = 0
    bytes: int = 0
    newest: float | None = None
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def found(self) -> bool:
        """Whether anything of it is on this machine."""
        return bool(self.files or self.skipped) or any(map(os.path.exists, self.places))

    def take(self, stat: FileStat) -> None:
        """Count a file of it."""
        self.files += 1
        self.bytes += stat.size
        self.newest = max(self.newest or 0.0, stat.mtime_ns / 1e9)


def take_stock(formats: Sequence[Format], paths: Iterable[Path] | None = None) -> list[Source]:
    """Return every assistant that is known, in the order of `formats`, and last what is nobody's.

    Args:
        formats: what can be read.
        paths: files and folders to look at; default: every assistant's usual place.

    Raises:
        SourceError: one of `paths` cannot be read at all.
    """
    sources = {form.source: Source(form.source, form.title) for form in reversed(formats)}
    sources = {form.source: sources[form.source] for form in formats}
    for form in formats:
        source = sources[form.source]
        source.places = list(dict.fromkeys([*source.places, *places_of(form)]))
    usual = all_places(formats)
    shelf = Shelf(formats, Sanitizer(), [str(place) for place in usual])
    wanted = list(paths) if paths is not None else [at for at in usual if os.path.exists(at)]
    found = disk.walk(wanted, shelf.is_named)
    stats = found.stats
    faults = {path: fault for path in stats if (fault := _look(shelf, path)) is not None}
    nobody = Source(None, "nobody's")
    owners = {os.path.join(at, ""): one for one in sources.values() for at in one.places}

    def skip(path: str, reason: str, mine: Source | None = None) -> None:
        there = (one for place, one in owners.items() if path.startswith(place))
        (mine or next(there, nobody)).skipped.append(Skipped(path, reason))

    for path, stat in stats.items():
        book = shelf.book(path)
        fault = faults.get(path) or _fault(shelf, book, stat)
        if fault is None and book.form is not None:
            sources[book.form.source].take(stat)
        else:
            skip(path, fault or "not read", sources[book.form.source] if book.form else None)
    for path, reason in found.odd.items():
        skip(path, reason)
    return [*sources.values(), *([nobody] if nobody.skipped else [])]


def _look(shelf: Shelf, path: str) -> str | None:
    """Tell what a file is; return why that cannot be done."""
    try:
        shelf.recognise(path, resting=True)
    except SourceError as error:
        return error.reason
    return None


def _fault(shelf: Shelf, book: Book, stat: FileStat) -> str | None:
    """Return why a file would not be read, None if it would."""
    if stat.size == 0:
        return "empty"
    if book.recognised is None:
        return "no record in it"
    if isinstance(book.recognised, str):
        return book.recognised
    shelf.settle_owner(book)
    return f"copy of {book.owner}" if book.owner is not None else None
