"""What must not reach Postgres, or leave the machine: one step, for every value.

PostgreSQL refuses NUL in text and jsonb (22P05) and lone surrogates in jsonb; JSON has no NaN;
a value nested too deep fails the whole request (54001). Likely secrets are replaced by a
marker, because transcripts hold what was pasted into them and what tools printed; images by a
note; and only then is cut what is too long: half a secret would not be recognised.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from enum import IntEnum
from typing import Any
from uuid import uuid5

from conv_realtime.core import redaction
from conv_realtime.core.omission import (
    SHORTEST_LEFT_OUT,
    cut,
    without_data_url,
    without_media,
)
from conv_realtime.core.redaction import Found, Redactor
from conv_realtime.models import NAMESPACE

MAX_DEPTH = 100
MAX_NAME = 100_000
"""Characters of a value that is a name or a path: the database refuses rows with much longer."""

_MAX_NUMBER = 1e300  # the database refuses larger ones: readers could not take them
_MAX_INTEGER = 2**63  # of what lies between it and its negative, all stays as it is
_SURROGATE = re.compile("[\ud800-\udfff]")


def storable(text: str) -> str:
    """Return `text` without NUL, lone surrogates replaced by U+FFFD."""
    if "\x00" in text:
        text = text.replace("\x00", "")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text)
    return text


def _as_json(value: Any) -> Any:
    """Return what a format gives, and JSON does not have, as what JSON has for it."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list | tuple):
        return list(value)
    return str.__str__(value if isinstance(value, str) else str(value))  # no kind of its own


class Cleaning(IntEnum):
    """What is to be done to a value; of several together what most is to be done to one."""

    NOTHING = 0
    STORING = 1
    """It holds no secret, but maybe something that PostgreSQL does not take, or too much."""
    ALL = 2


_NOTHING, _STORING, _ALL = Cleaning  # cheaper to look up, for every message


class Sanitizer:
    """Cleans values on their way out, and remembers which secrets it came across.

    Args:
        redactor: what is a secret; default: the forms that nothing else has.
        images: whether images and files in base64 stay in what is sent.
        max_text_bytes: bytes of UTF-8 beyond which a text is cut.

    Attributes:
        found: the secrets that were replaced since they were taken last.
    """

    __slots__ = ("_images", "_max_text_bytes", "_redactor", "_short", "found")

    def __init__(
        self,
        *,
        redactor: Redactor | None = None,
        images: bool = False,
        max_text_bytes: int = 2**20,
    ) -> None:
        self._redactor = redactor or redaction.redactor()
        self._images = images
        self._max_text_bytes = max_text_bytes
        self._short = min(SHORTEST_LEFT_OUT - 1, max_text_bytes)
        self.found: set[Found] = set()

    def text(self, text: str) -> str:
        """Return a string that PostgreSQL takes and that holds no likely secret."""
        return cut(self._without_secrets(self._without_data_url(text)), self._max_text_bytes)

    def name(self, text: str) -> str:
        """Return a name or path, cut to what a column of that kind takes."""
        return self.text(text)[:MAX_NAME]

    def id(self, text: str) -> str:
        """Return an id; of one that holds a secret a digest, so that two ids stay two."""
        clean = self._without_secrets(text)
        return clean[:MAX_NAME] if clean == storable(text) else f"redacted-{uuid5(NAMESPACE, text)}"

    def value(self, value: Any, needed: Cleaning | None = None) -> Any:
        """Return a JSON value, keys included, that jsonb takes; order is kept.

        A format of one's own may give what JSON does not have: a tuple, a set, a read-only dict.
        What is nested deeper than `MAX_DEPTH` becomes a marker, NaN and numbers beyond 1e300 None.
        `needed` where `note` has looked at all that is in it. Mostly nothing is: then it is the
        same value.
        """
        if needed is None:
            needed = self._look(value)
        if needed is _NOTHING:
            return value
        return self._clean(value, 0, self._storable if needed is _STORING else self.text)

    def note(self, value: Any) -> Cleaning:
        """Remember the secrets of a JSON value; return what is to be done to it."""
        needed = self._look(value)
        if needed is not _ALL:
            return needed
        before, self.found = self.found, set()
        self._clean(value, 0, self.text)
        found = bool(self.found)
        self.found |= before
        return _ALL if found else _STORING

    def take_found(self) -> Collection[Found]:
        """Return the secrets that were replaced since this was asked last."""
        found = self.found
        if found:
            self.found = set()
        return found

    def _look(self, value: Any) -> Cleaning:
        """Return what may have to be done to a value: one search for all its texts."""
        texts: list[str] = []
        parts = [value]
        as_it_is = True
        for part in parts:  # which grows while it is read
            kind = type(part)
            if kind is str:
                texts.append(part)
            elif kind is dict:
                texts += part
                if "data" in part:
                    block = self._without_media(part)
                    as_it_is = as_it_is and block is part
                    parts += block.values()
                else:
                    parts += part.values()
            elif kind is list:
                parts += part
            elif kind is int or kind is float:
                as_it_is = as_it_is and -_MAX_INTEGER <= part < _MAX_INTEGER
            elif part is not None and kind is not bool:
                parts.append(_as_json(part))
                as_it_is = False
        said = "\n".join(texts)
        try:
            data = said.encode()
        except UnicodeEncodeError:
            data, as_it_is = said.encode(errors="replace"), False
        if self._redactor.notices(data):
            said = "\n".join(map(self._without_data_url, texts)).replace("\x00", "")
            return _ALL if self._redactor.suspects(said.encode(errors="replace")) else _STORING
        # As many parts as there may be levels are not too deep.
        fits = len(data) <= self._max_text_bytes and len(parts) <= MAX_DEPTH
        return _NOTHING if as_it_is and fits else _STORING

    def _clean(self, value: Any, depth: int, text: Callable[[str], str]) -> Any:
        if isinstance(value, str):
            return text(value)
        if depth >= MAX_DEPTH and isinstance(value, dict | list):
            return "[nested too deep]"
        if isinstance(value, dict):
            block = self._without_media(value) if "data" in value else value
            return {
                text(key): text(item)
                if isinstance(item, str)
                else self._clean(item, depth + 1, text)
                for key, item in block.items()
            }
        if isinstance(value, list):
            return [self._clean(item, depth + 1, text) for item in value]
        if isinstance(value, float):
            return value if math.isfinite(value) and abs(value) <= _MAX_NUMBER else None
        if isinstance(value, int) and not -(2**63) <= value < 2**64:  # what orjson reads as a float
            return float(value) if abs(value) <= _MAX_NUMBER else None
        if value is None or isinstance(value, int):
            return value
        return self._clean(_as_json(value), depth, text)

    def _storable(self, text: str) -> str:
        """Return a string without secrets as PostgreSQL takes it."""
        if len(text) <= self._short and text.isascii() and "\x00" not in text:
            return text  # most keys, names and ids
        return cut(storable(self._without_data_url(text)), self._max_text_bytes)

    def _without_secrets(self, text: str) -> str:
        text, found = self._redactor.redact(storable(text))
        self.found.update(found)
        return text

    def _without_media(self, block: dict[str, Any]) -> Any:
        return block if self._images else without_media(block)

    def _without_data_url(self, text: str) -> str:
        return text if self._images else without_data_url(text)
