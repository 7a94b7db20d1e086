"""What looks like a secret and is none: placeholders, words, code. Each judges the groups."""

from __future__ import annotations

_PLACEHOLDERS = "$*{<[%"
_SHORTEST = 12


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
    """Whether what stands in a URL is a placeholder, or the user's name once more."""
    user, found = groups
    return user == found or found[0] in _PLACEHOLDERS or (found.isupper() and found.isalpha())


def _is_mixed(value: str) -> bool:
    return any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
