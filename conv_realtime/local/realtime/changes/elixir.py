"""How a real Realtime server, which is written in Elixir, shows values in its messages. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\x1b": "\\e"}


def string(text: str) -> str:
    """Shows a string in double quotes."""
    shown = "".join(_ESCAPES.get(char, char) for char in text).replace("#{", "\\#{")
    return f'"{shown}"'


def strings(texts: Iterable[str]) -> str:
    """Shows a list of strings."""
    return f"[{', '.join(string(text) for text in texts)}]"


def value(shown: Any) -> str:
    """Shows any JSON value."""
    if shown is None:
        return "nil"
    if isinstance(shown, bool):
        return "true" if shown else "false"
    if isinstance(shown, str):
        return string(shown)
    if isinstance(shown, dict):
        pairs = (f"{string(key)} => {value(shown[key])}" for key in sorted(shown))
        return f"%{{{', '.join(pairs)}}}"
    if isinstance(shown, list):
        return f"[{', '.join(value(item) for item in shown)}]"
    return str(shown)
