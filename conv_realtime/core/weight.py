"""About how much memory changes and events take, for who bounds what is kept of them."""

from __future__ import annotations

from typing import Any

from conv_realtime.events import Event
from conv_realtime.models import Change, Message

_ROW_BYTES = 1024
_ITEM_BYTES = 16  # of a list or an object, beside the characters of texts


def weight_of(said: Change | Event) -> int:
    """Return about how many bytes a change, or an event that a host has made, takes in memory.

    Its texts count three times: a message's content is mostly its text again, and there is what
    is sent of both.
    """
    row = said.row if isinstance(said, Change) else said.data
    if isinstance(row, Message):
        texts = max(len(row.text), _size_of([row.content, row.metadata]))
    else:
        texts = _size_of(list(row.__dict__.values()))
    return _ROW_BYTES + 3 * texts


def _size_of(parts: list[Any]) -> int:
    """Return about how many bytes there are in JSON values; the list grows by their parts."""
    size = 0
    for part in parts:
        kind = type(part)
        if kind is str:
            size += len(part)
        elif kind is dict:
            size += _ITEM_BYTES * len(part) + sum(map(len, part))
            parts += part.values()
        elif kind is list:
            size += _ITEM_BYTES * len(part)
            parts += part
    return size
