"""The beginning of a JSON file, as far as it is there: which fields its first object has.

Enough to tell whose file it is without reading all of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Outline:
    """What is known of a file's first object.

    Attributes:
        listed: whether it is the first item of a list.
        fields: those that are there as a whole.
        names: all that are there, also one that is cut off.
        ends: whether the object ends within what is there.
        json: False where it cannot become a JSON object or a list of objects.
    """

    listed: bool = False
    fields: dict[str, Any] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    ends: bool = False
    json: bool = True


_NO_JSON = Outline(json=False)
_BLANK = " \t\r\n"
_decode = json.JSONDecoder(strict=False).raw_decode


def outline(data: bytes) -> Outline:
    """Return what the first bytes of a file say of its first object."""
    text = data.decode("utf-8-sig", "replace")
    at = _skip(text, 0)
    listed = text[at : at + 1] == "["
    if listed:
        at = _skip(text, at + 1)
    begin = text[at : at + 1]
    if begin == "":
        return Outline(listed=listed)
    if begin != "{":
        return Outline(listed=True, ends=True) if listed and begin == "]" else _NO_JSON
    return _object(text, _skip(text, at + 1), listed)


def _object(text: str, at: int, listed: bool) -> Outline:
    fields: dict[str, Any] = {}
    names: set[str] = set()
    ends = text[at : at + 1] == "}"
    while not ends and at < len(text):
        if text[at] != '"':
            return _NO_JSON
        try:
            name, at = _decode(text, at)
        except (ValueError, RecursionError):
            break
        at = _skip(text, at)
        if text[at : at + 1] != ":":
            if at < len(text):
                return _NO_JSON
            break
        names.add(name)
        start = _skip(text, at + 1)
        try:
            value, at = _decode(text, start)
        except (ValueError, RecursionError):
            break
        at = _skip(text, at)
        if at >= len(text) and not isinstance(value, dict | list | str):
            break  # a number may go on
        fields[name] = value
        if text[at : at + 1] not in (",", "}", ""):
            return _NO_JSON
        ends = text[at : at + 1] == "}"
        at = _skip(text, at + 1)
    return Outline(listed, fields, frozenset(names), ends)


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANK:
        at += 1
    return at
