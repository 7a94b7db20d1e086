"""What looks like a secret and is none: placeholders, words, code. Each judges the groups."""

from __future__ import annotations

import re
from itertools import pairwise

_PLACEHOLDERS = "$*{<[%"
_SHORTEST = 12
_LONGEST = 128  # longer ones are signatures, images, archives

_NO_VALUES = frozenset(
    {
        "password", "passwd", "secret", "string", "number", "boolean", "undefined", "optional",
        "required", "function", "changeme", "change-me", "example", "default", "redacted",
        "hidden", "placeholder", "authorization", "credentials", "bearer",
    }
)  # fmt: skip
_MADE_UP = re.compile(r"(?i)your|example|xxxx|\*\*\*|\.\.\.|dummy|placeholder|test[-_]|develop")
_CODE = re.compile(r"[A-Za-z_$][\w$]*(?:\.[A-Za-z_$][\w$]*)+")  # process.env.NAME

_PORT = re.compile(r"[0-9]{1,5}(?:,[^/?#]*)?[/?#]")  # of the first host, and a path

# What assistants and tools call their own things.
_IDS = re.compile(
    r"(?:.*[_-])?"
    r"(?:toolu|msg|req|call|chatcmpl|resp|rs|fc|file|srvtoolu|cse|session|thread|run|asst)[_-]"
    r"|sha(?:1|256|384|512)-"
    r"|[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-"
)


def no_digit_or_letter(groups: list[str]) -> bool:
    """Whether there is no digit, or no letter: a word, a number."""
    return not _is_mixed(groups[-1])


def example(groups: list[str]) -> bool:
    """Whether it is the one of every manual."""
    return "EXAMPLE" in groups[-1]


def word(groups: list[str]) -> bool:
    """Whether a value is a word or a number, or names where the secret is to be found."""
    value = groups[-1]
    return len(value) < _SHORTEST or not _is_mixed(value)


def password(groups: list[str]) -> bool:
    """Whether what stands in a URL is a placeholder, the user's name once more, or no password.

    What is behind a host is a port, and a path that may hold an `@`.
    """
    user, found = groups
    if user.startswith("[") or _PORT.match(found):
        return True
    return user == found or found[0] in _PLACEHOLDERS or (found.isupper() and found.isalpha())


def quoted(groups: list[str]) -> bool:
    """Whether a value in quotes is none: a placeholder, a type, the name of a variable."""
    value = groups[-1]
    if value[0] in _PLACEHOLDERS or value.lower() in _NO_VALUES or _MADE_UP.search(value):
        return True
    return value.isupper() and not _is_mixed(value)


def assigned(groups: list[str]) -> bool:
    """Whether a value without quotes is none: all of that, and code."""
    value = groups[-1]
    return quoted(groups) or not _is_mixed(value) or bool(_CODE.fullmatch(value))


def not_random(groups: list[str]) -> bool:
    """Whether a long word was hardly drawn by lot.

    In one that was, capitals, small letters and digits take turns all the time; in what people
    and programs name, they do so at the beginnings of words. Digests are of one case.
    """
    value = groups[-1]
    if _IDS.match(value) or len(value) > _LONGEST:
        return True
    piece = max(re.split(r"[/_+-]", value), key=len)
    if len(piece) < _SHORTEST or sum(c.isdigit() for c in piece) < 2:
        return True
    if not (any(map(str.isupper, piece)) and any(map(str.islower, piece))):
        return True
    turns = sum(_case(a) != _case(b) for a, b in pairwise(piece))
    return turns < 0.42 * (len(piece) - 1)


def _case(letter: str) -> int:
    return 0 if letter.isdigit() else 1 if letter.isupper() else 2


def _is_mixed(value: str) -> bool:
    return any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
