"""Records out of lines, torn ones included."""

from __future__ import annotations

import json
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conv_realtime.core import records
from conv_realtime.core.framing import LineBuffer
from conv_realtime.core.records import Record, Torn, load, read_records


def _read(data: bytes) -> list[Record | Torn]:
    return [found for line in LineBuffer().push(data) for found in read_records(line)]


def _fields(data: bytes) -> list[dict[str, Any] | str]:
    return [found.fields if isinstance(found, Record) else found.reason for found in _read(data)]


def test_two_records_on_a_line_are_both_read() -> None:
    """Two writers, or a lost newline, cost nothing; each record keeps its own place."""
    data = b'{"type":"user","n":1}{"type":"user","n":2}\n'
    first, second = _read(data)
    assert isinstance(first, Record) and isinstance(second, Record)
    assert (first.fields["n"], second.fields["n"]) == (1, 2)
    assert data[second.start : second.end] == b'{"type":"user","n":2}'
    assert second.crc == crc32(data[second.start : second.end], second.seed)


def test_a_records_checksum_goes_on_from_what_is_before_it() -> None:
    """Whole lines are not read for it a second time; filler around one makes no difference."""
    lines = [b'{"n":1}', b' {"n":2}', b'{"n":3}\x00', b'{"n":4}']
    data = b"\n".join(lines) + b"\n"
    found = [one for one in _read(data) if isinstance(one, Record)]
    assert [one.fields["n"] for one in found] == [1, 2, 3, 4]
    for one in found:
        assert one.seed in (0, crc32(data[: one.start]))
        assert one.crc == crc32(data[one.start : one.end], one.seed)


def test_a_record_behind_a_torn_one_is_read() -> None:
    """A writer killed in the middle of a line does not take the next record with it."""
    torn = b'{"type":"assistant","message":{"content":[{"type":"text","text":"half'
    whole = b'{"parentUuid":null,"type":"user","uuid":"u"}'
    assert _fields(torn + whole + b"\n") == ["torn record", json.loads(whole)]


def test_a_block_within_a_torn_record_is_no_record() -> None:
    """An object that ends inside a broken outer one is not taken for a line of its own."""
    data = b'{"type":"user","message":{"content":[{"type":"text","text":"a"}]},"uuid":\n'
    assert _fields(data) == ["not JSON"]


@pytest.mark.parametrize("line", [b"[1]", b"3", b"nonsense", b'{"a":', b"\xff\xfe", b"[" * 9000])
def test_what_is_no_record_is_a_value_and_not_an_exception(line: bytes) -> None:
    """A bad line is counted with its place and a reason."""
    (found,) = _read(line + b"\n")
    assert isinstance(found, Torn)
    assert (found.start, found.end) == (0, len(line))


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a":"\\ud83d"}', {"a": "\ud83d"}),
        (b'{"a":"\xff"}', {"a": "\ufffd"}),
        (b'{"a":1e999}', {"a": float("inf")}),
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
    ],
)
def test_what_other_writers_produce_is_read(data: bytes, value: object) -> None:
    """Lone surrogates, stray bytes, infinities and a byte order mark do not lose a record."""
    assert load(data) == value


@given(st.binary(max_size=200))
def test_no_bytes_are_fatal(data: bytes) -> None:
    """Whatever is on a line, every byte of a record is where it says."""
    for found in _read(data + b"\n"):
        if isinstance(found, Record):
            assert load(data[found.start : found.end]) == found.fields


def test_a_torn_line_is_gone_through_so_often_and_no_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of one that is long enough only the first places are tried where a record may begin."""
    torn = b'{"type":"user",' * 20
    whole = b'{"type":"user","n":1}'
    assert _fields(torn + whole + b"\n") == ["torn record", json.loads(whole)]
    monkeypatch.setattr(records, "_MAX_TRIED", 5 * len(torn))
    assert _fields(torn + whole + b"\n") == ["not JSON"]
