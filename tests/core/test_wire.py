"""Server frames, against the parser of a client library."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import CloseCode, Frame, Opcode
from websockets.streams import StreamReader

from conv_realtime.core.wire import close_frame, ping_frame, text_frames


def received(data: bytes) -> list[tuple[Opcode, bytes]]:
    """Return what a client reads."""
    reader = StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    frames: list[tuple[Opcode, bytes]] = []
    while True:
        parsing = Frame.parse(reader.read_exact, mask=False)
        try:
            next(parsing)
        except StopIteration as parsed:
            frame = parsed.value
            frame.check()
            frames.append((frame.opcode, bytes(frame.data)))
        except EOFError:
            return frames


@settings(deadline=None)
@given(st.lists(st.sampled_from([0, 1, 125, 126, 127, 65535, 65536, 70000]), max_size=5))
def test_joined_text_frames_are_read_one_by_one(sizes: list[int]) -> None:
    """Every length takes the header that it needs."""
    payloads = [b"x" * size for size in sizes]
    assert received(text_frames(payloads)) == [(Opcode.TEXT, payload) for payload in payloads]


@settings(deadline=None)
@given(st.text(max_size=200))
def test_a_close_reason_is_cut_between_characters(reason: str) -> None:
    """However long the reason, the frame is a legal control frame."""
    ((opcode, payload),) = received(close_frame(CloseCode.TRY_AGAIN_LATER, reason))
    assert opcode is Opcode.CLOSE
    assert int.from_bytes(payload[:2]) == 1013
    assert reason.startswith(payload[2:].decode())
    assert len(payload) >= min(125, 2 + len(reason.encode())) - 3


def test_a_ping_is_a_ping() -> None:
    """A client answers it by itself."""
    assert received(ping_frame()) == [(Opcode.PING, b"")]
