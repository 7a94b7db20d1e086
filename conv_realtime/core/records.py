"""Lines → records: JSON objects with their exact place, torn lines mended where they can be.

A writer that was killed leaves half a record, and the next one goes on behind it without a
newline; two writers leave two records on a line. What is whole of them is read, the rest is
counted as skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from zlib import crc32

import orjson

from conv_realtime.core.framing import Line

_FIRST_KEYS = ("parentUuid", "type", "uuid", "sessionId", "isSidechain", "timestamp", "cwd")
_STARTS = tuple(f'{{"{key}"'.encode() for key in _FIRST_KEYS)
_MAX_STARTS = 256  # candidates tried in one torn line
_MAX_TRIED = 256 * 2**20  # bytes that may be gone through for them
TOO_LONG = "line too long"


@dataclass(slots=True)  # faster to make and to read than a NamedTuple
class Record:
    """One JSON object of a file, bytes `start` to `end`.

    `crc` is the CRC-32 of these bytes, begun with `seed`: that of the file before them, so that
    none is computed twice, or 0. `mark` is the end of its line, and the CRC-32 of the file up to
    there.
    """

    start: int
    end: int
    crc: int
    mark: tuple[int, int]
    fields: dict[str, Any]
    seed: int = 0


class Torn(NamedTuple):
    """Bytes `start` to `end` that make no record, and why."""

    start: int
    end: int
    reason: str


def read_records(line: Line) -> Iterable[Record | Torn]:
    """Return what is on a line, in order: nearly always one record."""
    data = line.data
    if data is None:
        return (Torn(line.start, line.end, TOO_LONG),)
    value = load(data)
    if isinstance(value, dict):
        mark = line.mark
        if line.raw:
            return (Record(line.start, line.end, crc32(data), mark, value),)
        return (Record(line.start, line.end, mark[1], mark, value, line.before),)
    if value is not None:
        reason = f"not an object but {type(value).__name__}"
        return (Torn(line.start, line.end, reason),)
    return _mend(line, data)


def load(data: bytes) -> Any:
    """Return the JSON value, or None when `data` is no JSON.

    orjson reads nearly every line; what it refuses and JSON's grammar allows (lone surrogates) or
    other writers produce (NaN, stray bytes that are no UTF-8, a byte order mark in front) the
    standard library reads.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(data.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return None


def _mend(line: Line, data: bytes) -> Iterator[Record | Torn]:
    """Yield the whole records within a line that is no JSON as it stands."""
    start, begin, tried = line.start, 0, 0
    for at in _candidates(data):
        if at < begin:
            continue
        tried += len(data) - at
        if tried > _MAX_TRIED:
            break
        end, value = _one_object(data, at)
        if value is None:
            continue
        if at > begin and data[begin:at].strip(b"\x00 \t\r"):
            yield Torn(start + begin, start + at, "torn record")
        yield Record(start + at, start + end, crc32(data[at:end]), line.mark, value)
        begin = end
    if data[begin:].strip(b"\x00 \t\r"):
        yield Torn(start + begin, start + len(data), "not JSON")


def _candidates(data: bytes) -> list[int]:
    """Return where a record may begin, in order."""
    places = {0}
    for literal in _STARTS:
        at = data.find(literal)
        while at >= 0 and len(places) < _MAX_STARTS:
            places.add(at)
            at = data.find(literal, at + 1)
    return sorted(places)


def _one_object(data: bytes, at: int) -> tuple[int, dict[str, Any] | None]:
    """Return the end of the object that begins at `at` and the object, if it is a record.

    An object that ends inside an outer one (a content block) is no record: behind a record
    comes another one or the end of the line.
    """
    text = data[at:].decode("utf-8", "surrogateescape")
    try:
        value, length = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return at, None
    end = at + len(text[:length].encode("utf-8", "surrogateescape"))
    behind = data[end:].lstrip(b"\x00 \t\r")[:1]
    if not isinstance(value, dict) or behind not in (b"", b"{"):
        return at, None
    return end, value
