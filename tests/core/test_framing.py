"""Lines of a growing file, however its bytes arrive."""

from __future__ import annotations

import itertools
from zlib import crc32

from hypothesis import given
from hypothesis import strategies as st

from conv_realtime.core.framing import Line, LineBuffer

_pieces = st.lists(
    st.sampled_from(
        [b"{}", b"\n", b"\r\n", b"\x00\x00", b" ", "é\u2028".encode(), b'{"a":1}', b"x"]
    ),
    max_size=40,
)


def _lines(data: bytes, cuts: list[int]) -> tuple[list[Line], LineBuffer]:
    buffer = LineBuffer(max_line_bytes=12)
    found: list[Line] = []
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        found += buffer.push(data[start:end])
    return found, buffer


@given(_pieces, st.lists(st.integers(0, 200), max_size=8))
def test_any_split_of_the_bytes_gives_the_same_lines(pieces: list[bytes], cuts: list[int]) -> None:
    """Lines, places and checksums do not depend on how the file was read."""
    data = b"".join(pieces)
    whole, one = _lines(data, [])
    parts, other = _lines(data, cuts)
    assert parts == whole
    assert (other.position, other.crc, other.end) == (one.position, one.crc, len(data))
    assert one.crc == crc32(data[: one.position])
    assert other.rest() == one.rest()


@given(_pieces)
def test_a_line_is_found_at_its_place(pieces: list[bytes]) -> None:
    """The offsets of a line cut exactly its bytes out of the file, its mark the file before."""
    data = b"".join(pieces)
    for line in _lines(data, [])[0]:
        if line.data is not None:
            assert data[line.start : line.end] == line.data
        position, crc = line.mark
        assert data[position : position + 1] == b"\n"
        assert crc == crc32(data[:position])


def test_unicode_line_separators_do_not_end_a_line() -> None:
    """JSON strings may hold U+2028 and U+0085 as they are."""
    text = '{"a":"x\u2028y\u0085z"}'.encode()
    assert [line.data for line in LineBuffer().push(text + b"\n")] == [text]


def test_a_line_above_the_limit_is_given_without_its_bytes() -> None:
    """A gigabyte on one line is counted and passed over, and the next line is read."""
    buffer = LineBuffer(max_line_bytes=10)
    lines = [*buffer.push(b"x" * 8), *buffer.push(b"x" * 8), *buffer.push(b"x\n{}\n")]
    assert [(line.start, line.end, line.data) for line in lines] == [(0, 17, None), (18, 20, b"{}")]
    assert buffer.rest() is None


def test_a_rest_that_was_taken_is_not_given_again_with_its_newline() -> None:
    """A last line counted at rest is one line, also when its newline arrives later."""
    buffer = LineBuffer()
    assert list(buffer.push(b'{"a":1}')) == []
    rest = buffer.rest()
    assert rest is not None and rest.data == b'{"a":1}'
    buffer.take_rest()
    assert [line.data for line in buffer.push(b"\n{}\n")] == [b"{}"]
    assert buffer.position == 11
