"""Wire framing of Supabase Realtime, protocol versions 1.0.0 and 2.0.0. No I/O.

The rules, as a Realtime 2.122 server shows them on the wire:

* 1.0.0 speaks JSON objects ``{"topic", "event", "payload", "ref", "join_ref"}``. What the server
  sends never carries ``join_ref``, and is never binary.
* 2.0.0 speaks JSON arrays ``[join_ref, ref, topic, event, payload]``, and two binary kinds. A
  client may push a broadcast as kind 3; the server sends broadcasts that a client pushed so, and
  all broadcasts from the database, as kind 4. Both open with the sizes of their fields, one byte
  each, and end with the payload, which runs to the end of the frame:

      3  join_ref ref topic event metadata  encoding  join_ref... metadata  payload
      4  topic event metadata               encoding  topic... metadata     payload

  Encoding is 1 for JSON and 0 for opaque bytes. Opaque bytes never reach a 1.0.0 socket.
* Frames that go to everybody on a topic have neither ``ref`` nor ``join_ref``. They are encoded
  once per version however many sockets take them: see :class:`Outgoing`.
* A frame that does not parse is ``None``: the server ignores it, as a real one does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

import orjson

from conv_realtime.core.wire import binary_frame, text_frames

KIND_PUSH = 3
KIND_BROADCAST = 4
FIELD_MAX_BYTES = 255

Ref = str | int | None


class Version(StrEnum):
    """A protocol version that a socket speaks for as long as it lives."""

    V1 = "1.0.0"
    V2 = "2.0.0"

    @classmethod
    def of(cls, vsn: str | None) -> Version | None:
        """Returns the version that the query parameter ``vsn`` asks for, None if unsupported.

        Absent means 1.0.0. Patch releases of the two are accepted.
        """
        if not vsn:
            return cls.V1
        if vsn.startswith("1.0."):
            return cls.V1
        return cls.V2 if vsn.startswith("2.0.") else None


@dataclass(frozen=True, slots=True)
class Frame:
    """One message of either version, either way. ``payload`` is any JSON value."""

    topic: str
    event: str
    payload: Any
    ref: Ref = None
    join_ref: Ref = None


@dataclass(frozen=True, slots=True)
class Push:
    """A broadcast that a client pushed as a binary frame (kind 3); ``event`` is the user's."""

    topic: str
    event: str
    payload: bytes
    is_json: bool
    metadata: bytes = b""
    ref: Ref = None
    join_ref: Ref = None


class Wire:
    """An encoded frame: ``data`` is text or bytes, as a WebSocket message carries it."""

    __slots__ = ("_framed", "data")

    def __init__(self, data: str | bytes) -> None:
        self.data = data
        self._framed: bytes | None = None

    @property
    def framed(self) -> bytes:
        """The complete unmasked WebSocket frame, header included, built once."""
        if self._framed is None:
            if isinstance(self.data, str):
                self._framed = text_frames((self.data.encode(),))
            else:
                self._framed = binary_frame(self.data)
        return self._framed


class Outgoing(ABC):
    """A message for every socket on a topic, encoded once per version at its first use.

    Attributes:
        row_id: of the row of the database that it came from, if it did.
    """

    row_id: str | None = None

    @cached_property
    def _v1(self) -> Wire | None:
        text = self.encode_v1()
        return None if text is None else Wire(text)

    @cached_property
    def _v2(self) -> Wire:
        return Wire(self.encode_v2())

    def wire(self, version: Version) -> Wire | None:
        """Returns the encoded frame, or None where this version cannot carry it."""
        return self._v1 if version is Version.V1 else self._v2

    @abstractmethod
    def encode_v1(self) -> str | None:
        """Returns the 1.0.0 text."""

    @abstractmethod
    def encode_v2(self) -> str | bytes:
        """Returns the 2.0.0 text or binary."""


@dataclass(frozen=True)
class TextBroadcast(Outgoing):
    """A broadcast that came as JSON; ``body`` is the whole payload, usually type, event, payload.

    The server does not look into it: whatever a client sent comes out again.
    """

    topic: str
    body: bytes

    def encode_v1(self) -> str:
        return _v1_text(None, "broadcast", self.body, self.topic)

    def encode_v2(self) -> str:
        return _v2_text(None, None, self.topic, "broadcast", self.body)


@dataclass(frozen=True)
class UserBroadcast(Outgoing):
    """A broadcast from the database or from a binary push.

    Attributes:
        topic: with its ``realtime:`` prefix.
        event: the user's event name.
        payload: JSON text exactly as it is to be sent, or opaque bytes.
        is_json: which of the two.
        metadata: a JSON object or empty, such as ``{"id":"..."}`` for a row of the database.
        row_id: see `Outgoing`.
    """

    topic: str
    event: str
    payload: bytes
    is_json: bool = True
    metadata: bytes = b""
    row_id: str | None = None

    def encode_v1(self) -> str | None:
        return _v1_text(None, "broadcast", self._body(), self.topic) if self.is_json else None

    def encode_v2(self) -> str | bytes:
        fields = (self.topic.encode(), self.event.encode(), self.metadata)
        if any(len(field) > FIELD_MAX_BYTES for field in fields):
            # Sizes are one byte: a longer name only fits the text form, opaque bytes neither.
            body = self._body() if self.is_json else _body(self.event, b"null", self.metadata)
            return _v2_text(None, None, self.topic, "broadcast", body)
        sizes = (len(field) for field in fields)
        head = bytes((KIND_BROADCAST, *sizes, 1 if self.is_json else 0))
        return b"".join((head, *fields, self.payload))

    def _body(self) -> bytes:
        return _body(self.event, self.payload, self.metadata)


@dataclass(frozen=True)
class TextFanOut(Outgoing):
    """Any other event for everybody on a topic; ``body`` is its payload as JSON."""

    topic: str
    event: str
    body: bytes

    def encode_v1(self) -> str:
        return _v1_text(None, self.event, self.body, self.topic)

    def encode_v2(self) -> str:
        return _v2_text(None, None, self.topic, self.event, self.body)


def encode(version: Version, frame: Frame) -> Wire:
    """Encodes a frame for one socket: a reply, a system message, a close."""
    payload = orjson.dumps(frame.payload)
    if version is Version.V1:
        return Wire(_v1_text(frame.ref, frame.event, payload, frame.topic))
    return Wire(_v2_text(frame.join_ref, frame.ref, frame.topic, frame.event, payload))


def decode(version: Version, data: str | bytes) -> Frame | Push | None:
    """Decodes what a client sent; None for what is not a frame of this version."""
    if isinstance(data, bytes):
        return _decode_push(data) if version is Version.V2 else None
    try:
        parsed = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if version is Version.V1:
        if not isinstance(parsed, dict) or "payload" not in parsed:
            return None
        keys = ("join_ref", "ref", "topic", "event", "payload")
        fields = [parsed.get(key) for key in keys]
    else:
        if not isinstance(parsed, list) or len(parsed) != 5:
            return None
        fields = parsed
    join_ref, ref, topic, event, payload = fields
    if not (isinstance(topic, str) and isinstance(event, str) and _is_ref(ref)):
        return None
    return Frame(topic, event, payload, ref, join_ref) if _is_ref(join_ref) else None


def _decode_push(data: bytes) -> Push | None:
    if len(data) < 7 or data[0] != KIND_PUSH:
        return None
    sizes, encoding = data[1:6], data[6]
    start = 7
    fields = []
    for size in sizes:
        fields.append(data[start : start + size])
        start += size
    if start > len(data):
        return None
    payload = data[start:]
    try:
        join_ref, ref, topic, event = (field.decode() for field in fields[:4])
        if encoding == 1:
            orjson.loads(payload)  # a 1.0.0 frame gets it spliced in: it must be JSON
    except (UnicodeDecodeError, orjson.JSONDecodeError):
        return None
    metadata = fields[4]
    return Push(topic, event, payload, encoding == 1, metadata, ref or None, join_ref or None)


def _is_ref(value: object) -> bool:
    return value is None or (isinstance(value, (str, int)) and not isinstance(value, bool))


def _json(value: str | int | None) -> str:
    return "null" if value is None else orjson.dumps(value).decode()


def _v1_text(ref: Ref, event: str, payload: bytes, topic: str) -> str:
    body = payload.decode()
    return f'{{"ref":{_json(ref)},"event":{_json(event)},"payload":{body},"topic":{_json(topic)}}}'


def _v2_text(join_ref: Ref, ref: Ref, topic: str, event: str, payload: bytes) -> str:
    head = f"[{_json(join_ref)},{_json(ref)},{_json(topic)},{_json(event)},"
    return f"{head}{payload.decode()}]"


def _body(event: str, payload: bytes, metadata: bytes) -> bytes:
    meta = b'"meta":' + metadata + b"," if metadata else b""
    name = orjson.dumps(event)
    return b'{"event":' + name + b"," + meta + b'"payload":' + payload + b',"type":"broadcast"}'
