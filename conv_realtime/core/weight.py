"""About how much memory a change takes, for who bounds what is kept of them."""

from __future__ import annotations

from typing import Any

from conv_realtime.models import Change, Message

_ROW_BYTES = 1024
_ITEM_BYTES = 16  # of a list or an object, beside the characters of texts


def weight_of(change: Change) -> int:
    """Return about how many bytes a change takes in memory.

    Its texts count three times: a message's content is mostly its text again, and there is what
    is sent of both.
    """
    row = change.row
    if isinstance(row, Message):
        texts = max(len(row.text), _size_of([row.content, row.metadata]))
    else:
        names = [len(value) for value in row.__dict__.values() if type(value) is str]
        texts = sum(names) + _size_of([row.metadata])
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
