"""What a client may say, read from one text frame.

A frame that is not understood is a value, too: the `error` to answer it with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from conv_realtime.events import ErrorData, ErrorEvent, SubscribeRequest, UnsubscribeRequest

MAX_REQUEST_BYTES = 64 * 1024
MAX_SNAPSHOT_MESSAGES = 10_000
_DEFAULT_SNAPSHOT_MESSAGES = 50
_KNOWN = ("ping", "pong", "subscribe", "unsubscribe")


@dataclass(frozen=True, slots=True)
class PingRequest:
    """`ping`; `timestamp` is the client's, of any JSON type."""

    timestamp: Any


@dataclass(frozen=True, slots=True)
class PongReply:
    """`pong`: the client is there."""


Request = PingRequest | PongReply | SubscribeRequest | UnsubscribeRequest


def read_request(text: str) -> Request | ErrorEvent:
    """Return what the client asks, or the error that answers it. Unknown fields are ignored."""
    try:
        frame = from_json(text, allow_inf_nan=False)
    except (ValueError, RecursionError):
        return error("invalid_json", "a frame is one JSON object")
    if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
        return error("invalid_message", 'a frame has a "type", which is a string')
    if frame["type"] not in _KNOWN:
        return error("unknown_type", f"known types are {', '.join(_KNOWN)}")
    data = frame.get("data")
    if data is not None and not isinstance(data, dict):
        return error("invalid_data", '"data" is an object')
    try:
        return _read_data(frame["type"], data or {}, frame)
    except ValidationError as invalid:
        first = invalid.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return error("invalid_data", f"{where}: {first['msg']}")


def snapshot_messages(asked: bool | int | None) -> int | None:
    """Return how many messages of each conversation a snapshot shall have; None for none.

    Raises:
        ValueError: the number is negative or too large.
    """
    if asked is None or asked is False:
        return None
    if asked is True:
        return _DEFAULT_SNAPSHOT_MESSAGES
    if not 0 <= asked <= MAX_SNAPSHOT_MESSAGES:
        raise ValueError(f"snapshot: from 0 to {MAX_SNAPSHOT_MESSAGES} messages")
    return asked


def error(code: str, message: str) -> ErrorEvent:
    """Return the event that tells a client what was wrong with its frame."""
    return ErrorEvent(data=ErrorData(code=code, message=message))


def _read_data(name: str, data: dict[str, Any], frame: dict[str, Any]) -> Request:
    match name:
        case "ping":
            # Clients of the older form put the timestamp beside the data.
            return PingRequest(data.get("timestamp", frame.get("timestamp")))
        case "subscribe":
            return SubscribeRequest.model_validate(data)
        case "unsubscribe":
            return UnsubscribeRequest.model_validate(data)
    return PongReply()
