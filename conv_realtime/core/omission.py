"""What is left out for its size, and the words that stand in its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MEDIA_TYPES = ("media_type", "mimeType", "mime_type")
_URL_HEAD = 200  # characters within which a data URL says what it is
SHORTEST_LEFT_OUT = 200
"""Characters of base64 below which nothing is gained."""


def cut(text: str, limit: int) -> str:
    """Return `text` in at most `limit` bytes of UTF-8, with a word on how much went."""
    if len(text) * 4 <= limit or (size := len(text.encode())) <= limit:
        return text
    note = f"\n[cut: {size:,} bytes in all]"
    head = text.encode()[: max(0, limit - len(note))].decode(errors="ignore")
    return (head + note)[:limit]


def without_media(block: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the block; if it carries an image or a file in base64, a note in place of that."""
    data = block.get("data")
    if not isinstance(data, str) or len(data) < SHORTEST_LEFT_OUT:
        return block
    for name in _MEDIA_TYPES:
        if isinstance(kind := block.get(name), str):
            return {**block, "data": _note(kind, data)}
    return block


def without_data_url(text: str) -> str:
    """Return the text; if it is a `data:` URL in base64, a note in place of it."""
    if len(text) < SHORTEST_LEFT_OUT or not text.startswith("data:"):
        return text
    head, comma, _ = text[:_URL_HEAD].partition(";base64,")
    return _note(head.removeprefix("data:"), text[len(head) + len(comma) :]) if comma else text


def _note(kind: str, base64: str) -> str:
    size = len(base64) * 3 // 4 - base64[-2:].count("=")
    return f"[left out: {kind[:100]}, {size:,} bytes]"
