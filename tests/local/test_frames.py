"""Realtime's wire framing: both versions, hand-made vectors, captures of a real server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame as WebSocketFrame
from websockets.streams import StreamReader

from conv_realtime.local.realtime.frames import (
    Frame,
    Outgoing,
    Push,
    TextBroadcast,
    UserBroadcast,
    Version,
    Wire,
    decode,
    encode,
)

CAPTURES = Path(__file__).parents[3] / "shared" / "captures" / "realtime-2.122"
KEPT = [
    (Version.V1, '{"ref":null,"event":"phx_reply","payload":{"status":"ok"},"topic":"phoenix"}'),
    (Version.V2, '["1",null,"realtime:a","system",{"message":"é","status":"error"}]'),
    (Version.V2, '["1","1","realtime:a","phx_close",{}]'),
]
ROW_ID = "9f2c8051-26e7-43d1-aeac-f1df7957dba0"

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
refs = st.none() | names | st.integers(0, 2**31)
payloads = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


def push(join_ref: str, ref: str, topic: str, event: str, payload: bytes, encoding: int) -> bytes:
    """Builds a binary push by hand, without metadata."""
    fields = [field.encode() for field in (join_ref, ref, topic, event)]
    return bytes([3, *map(len, fields), 0, encoding]) + b"".join(fields) + payload


def sent(outgoing: Outgoing, version: Version) -> str | bytes | None:
    """Returns what a socket of this version gets."""
    wire = outgoing.wire(version)
    return None if wire is None else wire.data


@pytest.mark.parametrize(
    ("vsn", "version"),
    [
        (None, Version.V1),
        ("", Version.V1),
        ("1.0.0", Version.V1),
        ("2.0.0", Version.V2),
        ("3.0.0", None),
        ("0.1", None),
    ],
)
def test_vsn_absent_1_and_2_are_spoken_and_nothing_else(
    vsn: str | None, version: Version | None
) -> None:
    """The versions that a real server accepted."""
    assert Version.of(vsn) is version


def test_a_reply_in_1_0_0_never_carries_join_ref() -> None:
    """The bytes of a captured reply, key order included."""
    reply = Frame("realtime:a", "phx_reply", {"status": "ok", "response": {}}, "2", "1")
    assert encode(Version.V1, reply).data == (
        '{"ref":"2","event":"phx_reply","payload":{"status":"ok","response":{}},"topic":"realtime:a"}'
    )


def test_a_reply_in_2_0_0_is_an_array_of_five() -> None:
    """The bytes of a captured reply."""
    reply = Frame("realtime:a", "phx_reply", {"status": "ok", "response": {}}, "2", "1")
    assert encode(Version.V2, reply).data == (
        '["1","2","realtime:a","phx_reply",{"status":"ok","response":{}}]'
    )


@given(names, names, payloads, refs, refs)
def test_what_is_encoded_in_2_0_0_decodes_to_the_same_frame(
    topic: str, event: str, payload: Any, ref: Any, join_ref: Any
) -> None:
    """Round trip of the version whose two directions have one form."""
    frame = Frame(topic, event, payload, ref, join_ref)
    assert decode(Version.V2, encode(Version.V2, frame).data) == frame


@given(names, names, payloads, refs)
def test_what_is_encoded_in_1_0_0_decodes_to_the_same_frame_without_join_ref(
    topic: str, event: str, payload: Any, ref: Any
) -> None:
    """Round trip of the object form."""
    frame = Frame(topic, event, payload, ref)
    assert decode(Version.V1, encode(Version.V1, frame).data) == frame


@pytest.mark.parametrize(
    "data",
    ["", "hello", "[1,2]", "{}", '{"topic":"t","event":"e"}', '{"topic":1,"event":"e","payload":1}',
     '{"topic":"t","event":"e","payload":{},"ref":[]}', "null", "[" * 5000, b"\x03", b"anything"],
)  # fmt: skip
def test_what_is_no_1_0_0_frame_is_none(data: str | bytes) -> None:
    """Malformed frames, and binary ones, which this version does not know."""
    assert decode(Version.V1, data) is None


@pytest.mark.parametrize(
    "data",
    ["", "hello", '{"a":1}', "[1,2]", '[null,null,"t","e"]', '[null,null,3,"e",{}]',
     '[{},null,"t","e",{}]', "null", b"", b"\x09abc", b"\x03\x01", b"\x04\x00\x00\x00\x00\x00\x00",
     push("1", "2", "t", "e", b"{", 1), push("1", "2", "t", "e", b"", 1),
     bytes([3, 9, 9, 9, 9, 9, 0]) + b"short", bytes([3, 1, 0, 0, 0, 0, 0]) + b"\xff"],
)  # fmt: skip
def test_what_is_no_2_0_0_frame_is_none(data: str | bytes) -> None:
    """Malformed frames; JSON pushes must hold JSON, for they are spliced into text."""
    assert decode(Version.V2, data) is None


def test_binary_pushes_are_read_as_captured() -> None:
    """Two frames that a client sent to a real server."""
    as_json = base64.b64decode("AwEDDQcAATE5MDFyZWFsdGltZTpwdWIxYmluanNvbnsiaiI6MX0=")
    opaque = base64.b64decode("AwEDDQYAADE5MDJyZWFsdGltZTpwdWIxYmlucmF3AAH/")
    assert decode(Version.V2, as_json) == Push(
        "realtime:pub1", "binjson", b'{"j":1}', True, b"", "901", "1"
    )
    assert decode(Version.V2, opaque) == Push(
        "realtime:pub1", "binraw", b"\x00\x01\xff", False, b"", "902", "1"
    )


def test_a_broadcast_from_the_database_has_the_bytes_of_a_real_server() -> None:
    """Kind 4 in 2.0.0, spliced JSON with meta in 1.0.0: the captured frames."""
    payload = f'{{"id": "{ROW_ID}", "from": "db"}}'
    metadata = f'{{"id":"{ROW_ID}"}}'
    row = UserBroadcast("realtime:pub1", "dbevent", payload.encode(), metadata=metadata.encode())
    assert sent(row, Version.V2) == base64.b64decode(
        "BA0HLQFyZWFsdGltZTpwdWIxZGJldmVudHsiaWQiOiI5ZjJjODA1MS0yNmU3LTQzZDEtYWVhYy1mMWRmNzk1N2RiYTAi"
        "fXsiaWQiOiAiOWYyYzgwNTEtMjZlNy00M2QxLWFlYWMtZjFkZjc5NTdkYmEwIiwgImZyb20iOiAiZGIifQ=="
    )
    assert sent(row, Version.V1) == (
        f'{{"ref":null,"event":"broadcast","payload":{{"event":"dbevent","meta":{metadata},'
        f'"payload":{payload},"type":"broadcast"}},"topic":"realtime:pub1"}}'
    )


def test_numbers_of_the_database_keep_their_exact_form() -> None:
    """A payload is spliced as text: no float ever touches it."""
    row = UserBroadcast("realtime:a", "e", b'{"n": 12345678901234567890.10}')
    for version in Version:
        data = sent(row, version)
        assert data is not None
        assert "12345678901234567890.10" in (data if isinstance(data, str) else data.decode())


def test_opaque_bytes_never_reach_a_1_0_0_socket() -> None:
    """There is no way to write them in that version."""
    message = UserBroadcast("realtime:a", "e", b"\x00\xff", is_json=False)
    assert sent(message, Version.V1) is None
    assert sent(message, Version.V2) == b"\x04\x0a\x01\x00\x00realtime:ae\x00\xff"


def test_a_name_too_long_for_one_byte_of_size_travels_as_text() -> None:
    """Binary sizes are one byte: 255 fits, 256 does not."""
    fits = UserBroadcast("realtime:" + "x" * 246, "e", b"{}")
    longer = UserBroadcast("realtime:" + "x" * 247, "e", b"{}")
    assert isinstance(sent(fits, Version.V2), bytes)
    text = sent(longer, Version.V2)
    assert isinstance(text, str)
    assert json.loads(text)[3:] == [
        "broadcast",
        {"event": "e", "payload": {}, "type": "broadcast"},
    ]


def test_a_broadcast_is_encoded_once_per_version() -> None:
    """However many sockets take it, they share one object."""
    message = TextBroadcast("realtime:a", b'{"no":"type"}')
    for version in Version:
        assert message.wire(version) is message.wire(version)
    assert sent(message, Version.V1) == (
        '{"ref":null,"event":"broadcast","payload":{"no":"type"},"topic":"realtime:a"}'
    )
    assert sent(message, Version.V2) == '[null,null,"realtime:a","broadcast",{"no":"type"}]'


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 200_000])
def test_a_websocket_frame_reads_back_with_an_independent_parser(size: int) -> None:
    """The three header forms of RFC 6455, parsed by the websockets package."""
    payload = b"x" * size
    reader = StreamReader()
    reader.feed_data(Wire(payload).framed)
    parser = WebSocketFrame.parse(reader.read_exact, mask=False)
    frame = None
    try:
        while True:
            next(parser)
    except StopIteration as done:
        frame = done.value
    assert (frame.fin, frame.opcode, bytes(frame.data)) == (True, 2, payload)


def captured() -> Iterator[tuple[Version, dict[str, Any]]]:
    """Yields what real servers sent: a few frames kept here, all of them beside the checkout."""
    for version, text in KEPT:
        yield version, {"dir": "in", "op": "text", "frame": text}
    for path in sorted(CAPTURES.glob("v[12]_*.jsonl")):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            cut = any(key.startswith("trunc") for key in record)
            if record["dir"] == "in" and record["op"] in ("text", "binary") and not cut:
                # a flow of one version may hold a socket of the other
                yield Version.V1 if record["frame"].startswith("{") else Version.V2, record


def test_every_captured_frame_of_a_server_is_what_this_module_would_send() -> None:
    """Decodes each captured server frame and encodes it again to the same JSON or bytes."""
    for version, record in captured():
        check_captured(version, record)


def check_captured(version: Version, record: dict[str, Any]) -> None:
    """Asserts that one captured frame survives the round trip through this module's types."""
    if record["op"] == "text":
        frame = decode(version, record["frame"])
        assert isinstance(frame, Frame), record
        again = encode(version, frame).data
        assert json.loads(again) == json.loads(record["frame"])
        return
    data = base64.b64decode(record["frame"])
    topic, event, meta = data[1], data[2], data[3]
    fields = data[5:]
    rebuilt = UserBroadcast(
        fields[:topic].decode(),
        fields[topic : topic + event].decode(),
        fields[topic + event + meta :],
        data[4] == 1,
        fields[topic + event : topic + event + meta],
    )
    assert sent(rebuilt, Version.V2) == data
