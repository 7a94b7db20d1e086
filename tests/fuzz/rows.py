"""The rows of a file that was read."""

from __future__ import annotations

from conv_realtime.edges.disk import OpenFile
from conv_realtime.ingest.following import Following
from conv_realtime.testing.formats.reading import Stated

_ALL = 10**9


def rows_of(follower: Following, file: OpenFile) -> Stated:
    """Return every row that a follower states."""
    stated = Stated()
    for _, fold in follower.rows.conversations():
        row = follower.rows.conversation(fold)
        stated.conversations[row.id] = row
        for message in follower.last_messages(fold, file, _ALL):
            stated.messages[message.id] = message
    return stated
