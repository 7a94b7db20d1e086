"""Any bytes, read as a transcript of one format, and what has to hold whatever they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

from conv_realtime.core.document import DocumentFormat
from conv_realtime.core.format import HEAD_BYTES, Format, Head, LogFormat, Recognised
from conv_realtime.core.formats import BUILT_IN
from conv_realtime.core.formats.opencode import OpenCode
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.edges.disk import OpenFile
from conv_realtime.ingest.follow import Follower
from conv_realtime.ingest.follow_document import DocumentFollower
from conv_realtime.ingest.follow_statements import Common
from conv_realtime.ingest.following import Following
from conv_realtime.testing.formats.examples import built_in
from conv_realtime.testing.formats.reading import Stated
from conv_realtime.testing.formats.well_formed import faults
from tests.fuzz import database
from tests.fuzz.memories import IDENTITY, NoMemories
from tests.fuzz.rows import rows_of

FORMATS: Mapping[str, Format] = {form.source: form for form in BUILT_IN if built_in(form.source)}
"""All but those that are read from a database."""

SOURCES = [*FORMATS, OpenCode.source]

CASES = Path(__file__).parent / "cases"
"""What a fuzzer found once, by format."""


def seeds(source: str) -> list[bytes]:
    """Returns what fuzzing begins with: our examples, and all that was ever found."""
    earlier = [path.read_bytes() for path in sorted((CASES / source).glob("*"))]
    if source == OpenCode.source:
        return [*database.seeds(), *earlier]
    return [state for example in built_in(source) for state in example.states] + earlier


def read(source: str, data: bytes, folder: Path) -> None:
    """Reads bytes as a file of a format, in one piece and, where files grow, in two.

    Nothing, where they are none of its own.

    Raises:
        AssertionError: a row is one that the database or a reader would refuse, or the pieces
            make another one than the whole.
    """
    if source == OpenCode.source:
        database.read_database(data, folder)
        return
    form = FORMATS[source]
    path = folder / built_in(source)[0].name  # some are told by their folders
    path.parent.mkdir(parents=True, exist_ok=True)
    head = Head(data[:HEAD_BYTES], whole=len(data) <= HEAD_BYTES, resting=True)
    if not isinstance(form.claim(path, head), Recognised):
        return
    whole = _read(form, path, [data])
    wrong = next(faults(source, whole), None)
    assert wrong is None, wrong
    if isinstance(form, LogFormat) and data:
        pieces = _read(form, path, [data[: crc32(data) % len(data)], data])
        assert _rows(pieces) == _rows(whole)


def _read(form: Format, path: Path, states: list[bytes]) -> Stated:
    path.write_bytes(b"")
    with OpenFile(str(path)) as file:
        follower = _follower(form, path)
        for state in states:
            path.write_bytes(state)
            while follower.read(file):
                pass
        follower.take_rest()
        return rows_of(follower, file)


def _follower(form: Format, path: Path) -> Following:
    if isinstance(form, DocumentFormat):
        return DocumentFollower(str(path), form, Common(IDENTITY, NoMemories()), Sanitizer())
    assert isinstance(form, LogFormat)
    return Follower(str(path), form, IDENTITY, Sanitizer(), max_line_bytes=2**20)


def _rows(stated: Stated) -> list[dict[str, Any]]:
    rows = [*stated.conversations.values(), *stated.messages.values()]
    return [row.to_row() for row in rows]
