"""A conversation's messages in 64 characters, as `conversation_digests` in the database has it.

SHA-256, in hex, of the live messages in the order of their ids, a line each, joined by newlines:
`id:seq:revision:role:sha256(text)`.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from uuid import UUID


def text_sha256(text: str) -> str:
    """Return the SHA-256 of a text, in hex."""
    return sha256(text.encode()).hexdigest()


def digest(messages: Iterable[tuple[UUID, int, int, str, str]]) -> str:
    """Return the digest of (id, seq, revision, role, SHA-256 of the text), in any order."""
    # PostgreSQL orders UUIDs by their bytes, which is the order of their texts.
    lines = (":".join(map(str, message)) for message in sorted(messages))
    return sha256("\n".join(lines).encode()).hexdigest()
