"""A client's side of `/ws`, frame by frame."""

from __future__ import annotations

import json
from typing import Any

import pytest

from conv_realtime.core.envelope import conversation_data
from conv_realtime.core.following import Follower
from conv_realtime.core.rows import Rows
from conv_realtime.events import Event, SubscribeRequest
from tests.relay.rows import conversation


class Server:
    """Says frames to a follower, and reads what it says."""

    def __init__(self, **request: Any) -> None:
        self.follower = Follower(SubscribeRequest.model_validate(request))
        self.follower.connected()

    def says(self, name: str, **data: Any) -> None:
        """Say a frame."""
        self.follower.hear(json.dumps({"type": name, "data": data}))

    def welcomes(self, cursor: str = "s.5") -> None:
        """Say the first frame of a connection."""
        self.says(
            "connection_established",
            client_id="c",
            subscriptions=[],
            filter={},
            server_time="2026-01-02T03:04:05Z",
            cursor=cursor,
            heartbeat_seconds=20,
        )

    def subscribes(self) -> None:
        """Confirm a subscription."""
        self.says("subscribed", subscriptions=[], filter={})

    def tells(self, cursor: str) -> None:
        """Tell of a deleted message."""
        id = str(conversation().id)
        self.says("message_deleted", id=id, conversation_id=id, revision=1, cursor=cursor)

    def snapshot(self, cursor: str, *titles: str, more: bool = False) -> None:
        """Send a frame of a snapshot, with conversations of these titles."""
        talks = [conversation(title) for title in titles]
        rows = [conversation_data(row, cursor).model_dump(mode="json") for row in talks]
        self.says("snapshot", conversations=rows, messages=[], more=more, cursor=cursor)

    def lost(self) -> None:
        """Lose the connection, and have another one."""
        self.follower.connected()

    def heard(self) -> list[Any]:
        """What the follower said since the last time."""
        said = [json.loads(text) for text in self.follower.saying]
        self.follower.saying.clear()
        return said

    def told(self) -> list[str]:
        """The types of the events that it told since the last time."""
        events: list[Event] = list(self.follower.told)
        self.follower.told.clear()
        return [event.type for event in events]


def subscribe(**data: Any) -> dict[str, Any]:
    """The frame that asks."""
    return {"type": "subscribe", "data": data}


def test_it_begins_at_the_head_and_goes_on_from_the_last_event() -> None:
    """Events before the answer are of no filter that was asked for, and come again."""
    server = Server(types=["message_deleted"])
    server.welcomes()
    assert server.heard() == [subscribe(types=["message_deleted"], since="s.5")]
    server.tells("s.6")
    assert server.told() == []
    server.subscribes()
    server.tells("s.6")
    assert server.told() == ["message_deleted"]
    server.lost()
    server.welcomes("s.9")
    assert server.heard() == [subscribe(types=["message_deleted"], since="s.6")]


def test_a_ping_moves_the_cursor_only_where_nothing_is_missing() -> None:
    """Not before the answer, for then a replay is to come; nor before a snapshot is whole."""
    server = Server(since="s.1")
    server.welcomes()
    ping = {"timestamp": "2026-01-02T03:04:05Z"}
    server.says("ping", **ping, cursor="s.7")
    assert server.follower.cursor == "s.1"
    server.subscribes()
    server.says("ping", **ping, cursor="s.8")
    assert server.follower.cursor == "s.8"
    assert [frame["type"] for frame in server.heard()] == ["subscribe", "pong", "pong"]
    server = Server(snapshot=True)
    server.welcomes()
    server.subscribes()
    server.snapshot("s.5", more=True)
    server.says("ping", **ping, cursor="s.8")
    assert server.follower.cursor is None
    server.snapshot("s.5")
    assert server.follower.cursor == "s.5"


def test_half_a_snapshot_is_taken_back_and_asked_for_again() -> None:
    """The next connection begins with `resync`, and asks for everything."""
    server = Server(snapshot=3)
    server.welcomes()
    server.subscribes()
    server.snapshot("s.5", more=True)
    assert server.told() == ["snapshot"]
    server.lost()
    assert server.told() == ["resync"]
    server.heard()
    server.welcomes()
    assert server.heard() == [subscribe(snapshot=3)]


def test_half_a_snapshot_of_another_subscription_is_taken_back() -> None:
    """Else who keeps the rows would put those of both into one state."""
    server, rows = Server(snapshot=3), Rows()
    server.welcomes()
    server.subscribes()
    server.snapshot("s.5", "one", more=True)
    server.follower.change(SubscribeRequest(snapshot=4))
    server.subscribes()
    server.snapshot("s.6", "two")
    for event in server.follower.told:
        rows.apply(event)
    assert [row.title for row in rows.conversations.values()] == ["two"]
    assert server.told() == ["snapshot", "resync", "snapshot"]


def test_a_gap_is_followed_by_a_snapshot_where_one_was_asked_for() -> None:
    """And by nothing where none was; a gap before the answer is covered by it."""
    server = Server(snapshot=True)
    server.welcomes()
    server.says("resync", reason="too_slow", cursor="s.6")
    assert server.told() == [] and not server.follower.due
    server.subscribes()
    server.snapshot("s.6")
    server.says("resync", reason="too_slow", cursor="s.9")
    assert server.told() == ["snapshot", "resync"]
    assert server.follower.due and server.follower.cursor is None
    server = Server()
    server.welcomes()
    server.subscribes()
    server.says("resync", reason="too_slow", cursor="s.9")
    assert server.told() == ["resync"]
    assert not server.follower.due and server.follower.cursor == "s.9"


def test_a_snapshot_that_fails_is_asked_for_again() -> None:
    """`error` in its place, or in the middle of it, is no refusal of the subscription."""
    server = Server(snapshot=True)
    server.welcomes()
    server.subscribes()
    server.snapshot("s.5", more=True)
    server.says("error", code="unavailable", message="the source does not answer")
    assert server.told() == ["snapshot", "resync"]
    assert server.follower.due and server.follower.refusal is None


def test_a_snapshot_that_fails_is_no_refusal_of_what_was_asked_for_since() -> None:
    """The answers come in order: this one is of the subscription before."""
    server = Server(snapshot=True)
    server.welcomes()
    server.subscribes()
    server.follower.change(SubscribeRequest(snapshot=3))
    server.says("error", code="unavailable", message="the source does not answer")
    server.subscribes()
    assert server.follower.subscribed
    assert server.follower.refusal is None and not server.follower.due


def test_a_refusal_is_one_of_what_was_asked() -> None:
    """An error before the answer means that the filter was not taken."""
    server = Server()
    server.welcomes()
    server.says("error", code="invalid_data", message="no such type: x")
    assert server.follower.refusal == "invalid_data: no such type: x"


def test_what_a_newer_server_says_is_ignored_and_what_nobody_says_is_not() -> None:
    """An unknown type and unknown fields pass; a known type without its data does not."""
    server = Server()
    server.welcomes()
    server.subscribes()
    server.says("new_thing", anything=1)
    server.follower.hear('{"type": {"new": "thing"}}')
    server.says("pong", timestamp=1, anything=1)
    assert server.told() == []
    with pytest.raises(ValueError, match=r"cursor: Field required"):
        server.says("resync", reason="x")


def test_another_subscription_goes_on_or_begins_anew() -> None:
    """Without a snapshot from the present cursor; with one, and no cursor, from everything."""
    server = Server()
    server.welcomes()
    server.subscribes()
    server.tells("s.6")
    server.heard()
    server.follower.change(SubscribeRequest(types=["new_message"]))
    server.follower.change(SubscribeRequest(snapshot=0))
    assert server.heard() == [
        subscribe(types=["new_message"], since="s.6"),
        subscribe(snapshot=0),
    ]
    server.subscribes()
    assert not server.follower.subscribed
    server.snapshot("s.7")
    server.subscribes()
    assert server.follower.subscribed
    assert server.told() == ["message_deleted"]
