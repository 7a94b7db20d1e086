"""Lists and quotes in query strings: commas count only outside of quotes and brackets."""

from __future__ import annotations

_OPENING, _CLOSING = "({[", ")}]"


def split_top(text: str) -> list[str]:
    """Splits at the commas that stand in no quotes and no brackets; empty text gives no part."""
    parts: list[str] = []
    start = depth = 0
    quoted = escaped = False
    for index, character in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    parts.append(text[start:])
    return [] if parts == [""] else parts


def unquote(text: str) -> str:
    """Gives what stands between double quotes, escapes undone; text without quotes is trimmed."""
    text = text.strip()
    if len(text) < 2 or not (text.startswith('"') and text.endswith('"')):
        return text
    kept: list[str] = []
    escaped = False
    for character in text[1:-1]:
        if character == "\\" and not escaped:
            escaped = True
            continue
        kept.append(character)
        escaped = False
    return "".join(kept)
