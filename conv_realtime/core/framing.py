"""Bytes of a growing file → lines with their place in it.

Lines end at b"\\n" alone: a JSON string may hold U+2028, U+0085 or a lone carriage return.
A line keeps its offsets, because a message is identified and ordered by them. What follows the
last newline is kept until the rest of it arrives; nothing is ever given out in halves. A line
above the limit is given as `None` bytes and never held in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_FILLER = b"\x00 \t\r\n"  # a crashed writer leaves runs of NUL behind


@dataclass(frozen=True, slots=True)
class Line:
    """Bytes `start` to `end` of a file, without the newline; `data` is None when too long."""

    start: int
    end: int
    data: bytes | None


class LineBuffer:
    """Splits what is pushed into lines; any split of the bytes gives the same lines.

    Attributes:
        position: offset in the file behind the last line given out and its newline.
    """

    __slots__ = ("_held", "_held_bytes", "_limit", "_overlong", "position")

    def __init__(self, position: int = 0, *, max_line_bytes: int = 64 * 2**20) -> None:
        self.position = position
        self._limit = max_line_bytes
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._overlong = False

    @property
    def end(self) -> int:
        """Offset behind everything pushed so far."""
        return self.position + self._held_bytes

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
        return _trimmed(self.position, b"".join(self._held))

    def take_rest(self) -> None:
        """Count what `rest` returned as read: the next line begins behind it."""
        self.position = self.end
        self._forget()

    def _complete(self, last: bytes) -> Line | None:
        start = self.position
        end = self.end + len(last)
        self.position = end + 1
        if self._overlong or end - start > self._limit:
            self._forget()
            return Line(start, end, None)
        data = b"".join([*self._held, last]) if self._held else last
        self._forget()
        return _trimmed(start, data)

    def _hold(self, data: bytes) -> None:
        self._held_bytes += len(data)
        if self._held_bytes > self._limit:
            self._overlong = True
            self._held.clear()
        elif data:
            self._held.append(data)

    def _forget(self) -> None:
        self._held.clear()
        self._held_bytes = 0
        self._overlong = False


def _trimmed(start: int, data: bytes) -> Line | None:
    """Return the line without filler at its ends, None when nothing else is on it."""
    body = data.lstrip(_FILLER)
    start += len(data) - len(body)
    body = body.rstrip(_FILLER)
    return Line(start, start + len(body), body) if body else None
