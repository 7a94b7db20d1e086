"""Bytes of a growing file → lines with their place in it.

Lines end at b"\\n" alone: a JSON string may hold U+2028, U+0085 or a lone carriage return.
A line keeps its offsets, because a message is identified and ordered by them. What follows the
last newline is kept until the rest of it arrives; nothing is ever given out in halves. A line
above the limit is given as `None` bytes and never held in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

_FILLER = b"\x00 \t\r\n"  # a crashed writer leaves runs of NUL behind


@dataclass(slots=True)  # faster to make and to read than a NamedTuple
class Line:
    """Bytes `start` to `end` of a file, without the newline; `data` is None when too long.

    `mark` is where the line ends with all its filler, and the CRC-32 of the file up to there,
    `before` that of the file up to the line; `raw` are the bytes with the filler, up to the mark.
    """

    start: int
    end: int
    data: bytes | None
    mark: tuple[int, int]
    before: int
    raw: bytes = b""


class LineBuffer:
    """Splits what is pushed into lines; any split of the bytes gives the same lines.

    Attributes:
        position: offset in the file behind the last line given out and its newline.
        crc: CRC-32 of the file up to `position`.
    """

    __slots__ = ("_held", "_held_bytes", "_held_crc", "_limit", "_overlong", "crc", "position")

    def __init__(self, *, max_line_bytes: int = 64 * 2**20) -> None:
        self.position = 0
        self.crc = 0
        self._held_crc = 0
        self._limit = max_line_bytes
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._overlong = False

    @property
    def end(self) -> int:
        """Offset behind everything pushed so far."""
        return self.position + self._held_bytes

    @property
    def overlong(self) -> bool:
        """Whether what follows the last newline is above the limit, wherever it will end."""
        return self._overlong

    @property
    def crc_at_end(self) -> int:
        """CRC-32 of everything pushed so far."""
        return self._held_crc

    def push(self, data: bytes) -> Iterator[Line]:
        """Take the bytes at `end`, yield the lines that they complete."""
        begin = 0
        while (newline := data.find(b"\n", begin)) >= 0:
            line = self._complete(data[begin:newline])
            begin = newline + 1
            if line is not None:
                yield line
        self._hold(data[begin:])

    def rest(self) -> Line | None:
        """Return what follows the last newline, or None when there is nothing to read."""
        if self._overlong or not self._held:
            return None
        data = b"".join(self._held)
        return _trimmed(self.position, data, (self.end, self._held_crc), self.crc)

    def take_rest(self) -> None:
        """Count what `rest` returned as read: the next line begins behind it."""
        self.position, self.crc = self.end, self._held_crc
        self._forget()

    def drop_rest(self) -> None:
        """Forget what follows the last newline: it is read again from `position`."""
        self._forget()

    def _complete(self, last: bytes) -> Line | None:
        start, before, data = self.position, self.crc, last
        end = start + self._held_bytes + len(last)
        mark = (end, crc32(last, self._held_crc))
        too_long = end - start > self._limit
        if self._held_bytes:
            if not too_long:
                data = b"".join([*self._held, last])
            self._forget()
        self.position = end + 1
        self.crc = self._held_crc = crc32(b"\n", mark[1])
        if too_long:
            return Line(start, end, None, mark, before)
        return _trimmed(start, data, mark, before)

    def _hold(self, data: bytes) -> None:
        self._held_bytes += len(data)
        self._held_crc = crc32(data, self._held_crc)
        if self._held_bytes > self._limit:
            self._overlong = True
            self._held.clear()
        elif data:
            self._held.append(data)

    def _forget(self) -> None:
        self._held.clear()
        self._held_bytes = 0
        self._held_crc = self.crc
        self._overlong = False


def _trimmed(start: int, data: bytes, mark: tuple[int, int], before: int) -> Line | None:
    """Return the line without filler at its ends, None when nothing else is on it."""
    if data.startswith(b"{") and data.endswith(b"}"):  # nearly always
        return Line(start, mark[0], data, mark, before)
    body = data.lstrip(_FILLER)
    start += len(data) - len(body)
    body = body.rstrip(_FILLER)
    return Line(start, start + len(body), body, mark, before, data) if body else None
