"""Frames: exactly what `to_json` says, up to half a megabyte."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conv_realtime.core.envelope import MAX_FRAME_BYTES, encode, event_of, with_timestamp
from conv_realtime.events import NewMessage
from tests.relay.rows import changed, conversation, created, message, project


def test_a_small_event_is_encoded_as_to_json_says() -> None:
    """What handlers see and what goes over the wire is the same text."""
    rows: list[Any] = [project(), conversation(), message(content=[{"text": "é"}])]
    for change in (*created(*rows), *changed(*rows), *changed(message(deleted_at=1))):
        event = event_of(change, "s.1")
        assert encode(event).decode() == event.to_json()


def test_the_older_form_only_adds_a_timestamp() -> None:
    """Type and data stay as they are."""
    payload = encode(event_of(created(conversation())[0], "s.1"))
    assert json.loads(with_timestamp(payload, 17)) == {**json.loads(payload), "timestamp": 17}


@settings(deadline=None)
@given(st.text(min_size=1, max_size=3), st.integers(1, 3000), st.integers(1500, 4000))
def test_a_long_message_is_cut_to_the_limit_and_not_much_shorter(
    piece: str, times: int, limit: int
) -> None:
    """A cut frame fits, keeps a prefix of the text, and says truncated."""
    event = event_of(created(message(piece * times, content=["x" * 100]))[0], "s.1")
    payload = encode(event, limit)
    assert len(payload) <= limit
    data = json.loads(payload)["data"]
    assert isinstance(event, NewMessage)
    assert event.data.text.startswith(data["text"])
    assert data["truncated"] == (data["content"] is None)
    if len(data["text"]) < len(piece * times):
        # Characters take up to six bytes, and the guess may overshoot by as much again.
        assert len(payload) > limit * 0.5


@pytest.mark.parametrize("row", [conversation, project, message])
def test_names_that_are_too_long_are_cut(row: Callable[..., Any]) -> None:
    """Whoever writes rows by hand makes no frame that a client refuses to take."""
    long = "\u0001" * 1_000_000
    names: dict[Any, dict[str, Any]] = {
        conversation: {name: long for name in ("title", "cwd", "git_branch", "model")},
        project: {"path": long, "name": long},
        message: {"of": conversation(title=long), "model": long},
    }
    event = event_of(created(row(**names[row]))[0], "s.1")
    payload = encode(event)
    assert len(payload) <= MAX_FRAME_BYTES
    said, whole = json.loads(payload)["data"], json.loads(event.to_json())["data"]
    assert said.keys() == whole.keys()
    assert said["id"] == whole["id"]


def test_half_a_surrogate_pair_is_no_reason_to_fail() -> None:
    """Text that UTF-8 cannot hold goes out escaped, and everything else with it."""
    (change,) = created(message("a\ud83d", content={"x": ["\udc00"]}))
    data = json.loads(encode(event_of(change, "s.1")))["data"]
    assert data["text"] == "a\ud83d"
    assert data["content"] == {"x": ["\udc00"]}
    (change,) = created(message("\ud83d" * 1000))
    assert len(encode(event_of(change, "s.1"), 3000)) <= 3000
