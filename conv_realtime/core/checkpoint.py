"""How far a file has been acknowledged by one destination, and by what it is known again.

The position moves only after the database has acknowledged everything before it. A file is
known by its content: the CRC-32 of the bytes before the position, never by its name or inode,
which only say when to look.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from conv_realtime.core.format import Recognised


class FileStat(NamedTuple):
    """What the file system says of a file."""

    device: int
    inode: int
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is known of one file at one destination.

    Attributes:
        stat: the file as it was when everything in it had been judged; unchanged since means
            nothing to do. None while something is unsent.
        base: what revisions are counted from; it rises when the file is rewritten.
        part: 0, or how often the file has been replaced by an unrelated conversation.
        position: everything before this byte offset is acknowledged.
        crc: CRC-32 of the bytes before `position`.
        end: the highest offset read so far, acknowledged or not.
        rewritten: messages that the file no longer states are still to be marked deleted.
        foreign: the highest revision of messages that the database had before this file was
            first sent and that it does not state: a larger copy's, not ours to take back.
        messages, conversations: how many the file stated when it was judged last.
        known: what the file is, so that it need not be read to tell.
    """

    stat: FileStat | None = None
    base: int = 0
    part: int = 0
    position: int = 0
    crc: int = 0
    end: int = 0
    rewritten: bool = False
    foreign: int = 0
    messages: int = 0
    conversations: int = 0
    known: Recognised | None = None

    def acknowledged(self, mark: tuple[int, int]) -> Self:
        """Return the checkpoint moved to `mark`, a position and the CRC before it."""
        position, crc = mark
        return replace(self, position=position, crc=crc, end=max(self.end, position))
