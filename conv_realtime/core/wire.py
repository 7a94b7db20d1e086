"""WebSocket frames from a server: a header, then the payload as it is (RFC 6455, section 5.2).

A server does not mask, and we never fragment, so a frame that many clients get is built once.
Uncompressed frames stay legal where permessage-deflate was negotiated (RFC 7692, section 6).
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import pack

_TEXT, _BINARY, _CLOSE, _PING = 0x81, 0x82, 0x88, 0x89  # each with the FIN bit
_MAX_CONTROL_BYTES = 125


def _header(opcode: int, length: int) -> bytes:
    if length < 126:
        return bytes((opcode, length))
    if length < 2**16:
        return pack("!BBH", opcode, 126, length)
    return pack("!BBQ", opcode, 127, length)


def text_frames(payloads: Iterable[bytes]) -> bytes:
    """Return one text frame for each UTF-8 payload, joined for a single write."""
    parts: list[bytes] = []
    for payload in payloads:
        parts.append(_header(_TEXT, len(payload)))
        parts.append(payload)
    return b"".join(parts)


def binary_frame(payload: bytes) -> bytes:
    """Return one frame of bytes that are no text."""
    return _header(_BINARY, len(payload)) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """Return a close frame; a reason beyond 123 bytes is cut between characters."""
    text = reason.encode()[: _MAX_CONTROL_BYTES - 2].decode(errors="ignore").encode()
    return _header(_CLOSE, 2 + len(text)) + pack("!H", code) + text


def ping_frame() -> bytes:
    """Return a ping without a payload; its pong says only that the peer is there."""
    return _header(_PING, 0)
