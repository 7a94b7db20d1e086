"""Transcripts as bad days leave them: torn, mixed with others' bytes, with odd values in them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from random import Random
from typing import Any

NOISE = b"\x00not a record: \xff\xfe }{ \xed\xa0\x80\n"

SECRET_LETTERS = b"a1B2c3D4"
"""What no secret in a transcript may leave in a row: it is part of every one."""

_NOISY_LINES = 6
_SECRET = b"gh" + b"p_" + SECRET_LETTERS * 5
_ENDS = re.compile(rb'(?<=[^\\\[{:,\s])"|(?<=[a-z])[ \n]')  # of a string, or of a word

_ODD: tuple[Any, ...] = (
    None, True, -1, 3.7, 1e308, 10**400, "", "a\x00b", "\ud800", "x" * 100_001, [], {}, [[]],
    ["\x00", 5, None, {"type": "text"}], {"type": 7, "id": [], "text": None, "content": 3},
    "9999-12-31T23:59:59Z", "0001-01-01T00:00:00", -62135596800, 253402300799999,
)  # fmt: skip


def cuts(data: bytes, random: Random, most: int = 24) -> list[int]:
    """Return where to cut `data`: at ends of its lines and anywhere, at most so often; its end."""
    lines = [place + 1 for place, byte in enumerate(data) if byte == 10]
    chosen = random.sample(lines, min(len(lines), most // 2))
    anywhere = [random.randrange(len(data)) for _ in range(most - len(chosen))] if data else []
    return [*sorted({*chosen, *anywhere} - {0, len(data)}), len(data)]


def spoiled(data: bytes, random: Random, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield spoiled versions of a transcript, and how each was spoiled."""
    ways: tuple[Callable[[bytes, Random], tuple[str, bytes]], ...] = (
        _odd_values, _flipped, _odd_values, _lost, _odd_values, _twice, _odd_values, _noise,
    )  # fmt: skip
    for number in range(count):
        yield ways[number % len(ways)](data, random)


def with_noise(data: bytes, random: Random) -> Iterator[tuple[int, bytes]]:
    """Yield `data` with a line in it that is nobody's, and where that line begins."""
    lines = [0] + [place + 1 for place, byte in enumerate(data) if byte == 10]
    for place in sorted(random.sample(lines, min(len(lines), _NOISY_LINES))):
        yield place, data[:place] + NOISE + data[place:]


def with_secrets(data: bytes, random: Random, most: int) -> Iterator[tuple[int, bytes]]:
    """Yield `data` with a token behind one of its strings or words, and where that is."""
    ends = [found.start() for found in _ENDS.finditer(data)]
    for place in sorted(random.sample(ends, min(len(ends), most))):
        yield place, b"%b %b%b" % (data[:place], _SECRET, data[place:])


def _flipped(data: bytes, random: Random) -> tuple[str, bytes]:
    place = random.randrange(len(data))
    byte = random.randrange(256)
    return f"byte {place} is {byte}", data[:place] + bytes([byte]) + data[place + 1 :]


def _lost(data: bytes, random: Random) -> tuple[str, bytes]:
    first = random.randrange(len(data))
    last = min(len(data), first + random.randrange(1, 200))
    return f"bytes {first} to {last} are lost", data[:first] + data[last:]


def _twice(data: bytes, random: Random) -> tuple[str, bytes]:
    first = random.randrange(len(data))
    last = min(len(data), first + random.randrange(1, 400))
    return f"bytes {first} to {last} are there twice", data[:last] + data[first:last] + data[last:]


def _noise(data: bytes, random: Random) -> tuple[str, bytes]:
    place = random.randrange(len(data))
    return f"at {place} are bytes of others", data[:place] + NOISE + data[place:]


def _odd_values(data: bytes, random: Random) -> tuple[str, bytes]:
    """Replace values in a JSON document, or one in each line that is one."""
    whole = _load(data)
    pieces = [data] if whole is not None else data.splitlines(keepends=True)
    told: list[str] = []
    for place, piece in enumerate(pieces):
        value = _load(piece)
        for _ in range(1 if whole is None else 5):
            if isinstance(value, dict | list):
                odd = deepcopy(random.choice(_ODD))
                told.append(f"{_replace(value, odd, random)} = {str(odd)[:20]!r}")
                pieces[place] = json.dumps(value).encode() + b"\n"
    return ", ".join(told) or "nothing is changed", b"".join(pieces)


def _load(piece: bytes) -> Any:
    try:
        return json.loads(piece)
    except ValueError:
        return None


def _replace(value: Any, odd: Any, random: Random) -> str:
    """Put `odd` in the place of one value within `value`; return which."""
    if not isinstance(value, dict | list) or not value:
        return "nothing"
    keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = random.choice(keys)
    if isinstance(value[key], dict | list) and value[key] and random.random() < 0.7:
        return f"{key}.{_replace(value[key], odd, random)}"
    value[key] = odd
    return str(key)
