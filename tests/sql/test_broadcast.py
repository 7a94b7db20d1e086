"""What the triggers send: which events, to whom, how many, how big, and when nothing."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from conv_realtime.events import (
    ConversationData,
    DeletedData,
    MessageData,
    ProjectData,
)
from tests.sql.conftest import Recorder, Sent
from tests.sql.database import Database, Request
from tests.sql.rows import conversation, message, project

HISTORY = {"x-conv-realtime-history": "1"}
MORE = {"x-conv-realtime-more": "1"}


@pytest.fixture
def talk(db: Database, alice: str) -> dict[str, Any]:
    """A conversation of Alice's that the owner's topic has not heard of for long."""
    row = conversation(alice)
    with db.user(alice) as request:
        request.upsert("conversations", [row])
    rest(db, row)
    return row


CHANGED = [("changes", "changed"), ("owner", "changed")]


def rest(db: Database, talk: Mapping[str, Any]) -> None:
    """Lets the owner's topic be due again: as if a second had passed."""
    with db.postgres() as request:
        request.rows("alter table public.conversations disable trigger user")
        request.rows(
            "update public.conversations set change_told_at = change_told_at - interval '1 second'"
            " where id = %s",
            talk["id"],
        )
        request.rows("alter table public.conversations enable trigger user")


def told(sent: Sent) -> list[tuple[str, str]]:
    """Topic, without the ids, and event of each broadcast, sorted."""
    return sorted((one["topic"].split(":")[1], one["event"]) for one in sent)


def data_of(sent: Iterable[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    """The data of each broadcast of that event."""
    return [one["payload"]["data"] for one in sent if one["event"] == event]


def test_a_new_message_goes_to_its_conversation(
    db: Database, alice: str, talk: dict[str, Any], broadcasts: Recorder
) -> None:
    """With exactly the data of /ws; owner and service role hear that something changed."""
    line = message(talk, 0, usage={"input_tokens": 3}, model="claude")
    with broadcasts() as sent, db.user(alice) as request:
        request.upsert("messages", [line])
    assert told(sent) == [
        ("changes", "changed"),
        ("conversation", "new_message"),
        ("owner", "changed"),
    ]
    assert all(one["private"] for one in sent)
    assert {one["topic"] for one in sent} == {
        "conv_realtime:changes",
        f"conv_realtime:conversation:{talk['id']}",
        f"conv_realtime:owner:{alice}",
    }
    (data,) = data_of(sent, "new_message")
    assert data.keys() == MessageData.model_fields.keys()
    shown = {key: value for key, value in data.items() if key in line}
    assert shown | {"created_at": line["created_at"]} == {key: line[key] for key in shown}
    assert data["created_at"] == "2026-01-02T12:00:00+00:00"
    assert data["truncated"] is False
    assert data["conversation"]["title"] == "Fix the cart"


def test_messages_are_updated_deleted_and_revived(
    db: Database, alice: str, talk: dict[str, Any], broadcasts: Recorder
) -> None:
    """Each in its own event, by revision."""
    line = message(talk, 0)
    gone = {"revision": 200, "deleted_at": "2026-01-02T12:00:00Z"}
    with db.user(alice) as request:
        request.upsert("messages", [line])
    with broadcasts() as sent:
        for change in ({"text": "more", "revision": 150}, gone, {"revision": 201}):
            with db.user(alice) as request:
                request.upsert("messages", [line | change])
    events = [one["event"] for one in sent if ":conversation:" in one["topic"]]
    assert Counter(events) == {"message_update": 2, "message_deleted": 1}
    (data,) = data_of(sent, "message_deleted")
    assert data.keys() == DeletedData.model_fields.keys()
    assert (data["id"], data["revision"]) == (line["id"], 200)


def test_conversations_tell_their_channel_and_their_owner(
    db: Database, alice: str, broadcasts: Recorder
) -> None:
    """First new_conversation, then conversation_update, with exactly the data of /ws."""
    shop = project(alice)
    with db.user(alice) as request:
        request.upsert("projects", [shop])
    row = conversation(alice, project_id=shop["id"], message_count=4)
    with broadcasts() as first, db.user(alice) as request:
        request.upsert("conversations", [row])
    rest(db, row)
    with broadcasts() as second, db.user(alice) as request:
        request.upsert("conversations", [row | {"revision": 101}])
    for sent, event in ((first, "new_conversation"), (second, "conversation_update")):
        expected = [("conversation", event), ("owner", event), *CHANGED]
        assert sorted(told(sent)) == sorted(expected)
        for data in data_of(sent, event):
            assert data.keys() == ConversationData.model_fields.keys()
            assert (data["project_name"], data["message_count"]) == ("shop", 4)


def test_projects_tell_their_owner(db: Database, alice: str, broadcasts: Recorder) -> None:
    """New ones and changed ones, but not that they are newer."""
    shop = project(alice)
    with broadcasts() as first, db.user(alice) as request:
        request.upsert("projects", [shop])
    with broadcasts() as renamed, db.user(alice) as request:
        request.upsert("projects", [shop | {"name": "Shop"}])
    with broadcasts() as newer, db.user(alice) as request:
        request.upsert("projects", [shop | {"name": "Shop", "updated_at": "2026-01-05T00:00:00Z"}])
    for sent in (first, renamed):
        assert sorted(told(sent)) == sorted([("owner", "project_update"), *CHANGED])
        (data,) = data_of(sent, "project_update")
        assert data.keys() == ProjectData.model_fields.keys()
    assert told(newer) == [("changes", "changed"), ("owner", "changed")]


def test_the_owner_hears_of_a_conversation_once_a_second(
    db: Database, alice: str, talk: dict[str, Any], broadcasts: Recorder
) -> None:
    """`changed` comes with every write, so that who follows it alone does not stay behind."""
    began = time.monotonic()
    with broadcasts() as sent:
        for revision in range(101, 105):
            with db.user(alice) as request:
                request.upsert("conversations", [talk | {"revision": revision}])
    counted = Counter(told(sent))
    assert counted["conversation", "conversation_update"] == 4
    assert 1 <= counted["owner", "conversation_update"] <= 1 + (time.monotonic() - began)
    assert counted["owner", "changed"] == 4
    rest(db, talk)
    with broadcasts() as later, db.user(alice) as request:
        request.upsert("conversations", [talk | {"revision": 105}])
    assert ("owner", "conversation_update") in told(later)


def test_a_live_message_costs_at_most_four_units(
    db: Database, alice: str, talk: dict[str, Any], broadcasts: Recorder
) -> None:
    """Its message and its conversation's new totals, as ingest writes them; beside that the list
    is told of the conversation once a second."""
    lines = 10
    began = time.monotonic()
    with broadcasts() as sent:
        for position in range(lines):
            with db.user(alice, MORE) as request:
                request.upsert("messages", [message(talk, position)])
            with db.user(alice) as request:
                request.upsert("conversations", [talk | {"revision": 101 + position}])
    listed = Counter(told(sent))["owner", "conversation_update"]
    assert 1 <= listed <= 1 + (time.monotonic() - began)
    assert len(sent) - listed == 4 * lines


def test_one_row_of_any_writer_costs_at_most_four_units(
    db: Database, alice: str, broadcasts: Recorder
) -> None:
    """Also without the header."""
    shop = project(alice)
    row = conversation(alice, project_id=shop["id"])
    writes = [("projects", shop), ("conversations", row), ("messages", message(row, 0))]
    for table, written in writes:
        with broadcasts() as sent, db.user(alice) as request:
            request.upsert(table, [written])
        assert 0 < len(sent) <= 4, table


def test_history_sends_changed_alone(db: Database, alice: str, broadcasts: Recorder) -> None:
    """One a topic and request, however many rows."""
    shop = project(alice)
    row = conversation(alice, project_id=shop["id"])
    lines = [message(row, position) for position in range(20)]
    for table, written in (("projects", [shop]), ("conversations", [row]), ("messages", lines)):
        with broadcasts() as sent, db.user(alice, HISTORY) as request:
            request.upsert(table, written)
        assert told(sent) == [("changes", "changed"), ("owner", "changed")], table


def test_history_does_not_use_up_the_second(
    db: Database, alice: str, talk: dict[str, Any], broadcasts: Recorder
) -> None:
    """A live update after a historical one is told."""
    with db.user(alice, HISTORY) as request:
        request.upsert("conversations", [talk | {"revision": 101}])
    with broadcasts() as sent, db.user(alice) as request:
        request.upsert("conversations", [talk | {"revision": 102}])
    assert ("owner", "conversation_update") in told(sent)


def test_a_batch_tells_each_owner_once(
    db: Database, alice: str, mallory: str, broadcasts: Recorder
) -> None:
    """The service role writes for many; everybody hears of their own."""
    with broadcasts() as sent, db.service(HISTORY) as request:
        request.upsert("conversations", [conversation(alice), conversation(mallory)])
    assert Counter(one["topic"] for one in sent) == {
        "conv_realtime:changes": 1,
        f"conv_realtime:owner:{alice}": 1,
        f"conv_realtime:owner:{mallory}": 1,
    }


def test_a_rollback_to_a_savepoint_does_not_silence_the_rest(
    db: Database, alice: str, talk: dict[str, Any], broadcasts: Recorder
) -> None:
    """What was sent before and taken back does not count as sent."""
    with broadcasts() as sent, db.user(alice) as request:
        request.rows("savepoint before")
        request.upsert("messages", [message(talk, 0)])
        request.rows("rollback to before")
        request.upsert("messages", [message(talk, 1)])
    assert told(sent) == [
        ("changes", "changed"),
        ("conversation", "new_message"),
        ("owner", "changed"),
    ]


def test_an_announced_cursor_is_reached_by_reading(
    db: Database, alice: str, talk: dict[str, Any], broadcasts: Recorder
) -> None:
    """The target of `changed` lies behind each row that the transaction wrote."""
    with broadcasts() as sent, db.user(alice) as request:
        request.upsert("messages", [message(talk, 0)])
        request.upsert("messages", [message(talk, 1)])
    cursors = [one["payload"]["cursor"] for one in sent]
    assert len(set(cursors)) == 1
    with db.user(alice) as request:
        everything = request.changes("start")
        assert request.changes(cursors[0])["changes"] == []
        first = request.changes("start", 2)
    places = [
        [int(part) for part in cursor.partition(".")[2].split("-")]
        for cursor in (first["cursor"], cursors[0], everything["cursor"])
    ]
    assert places == sorted(places)
    for one in data_of(sent, "new_message"):
        assert one["cursor"].partition(".")[0] == cursors[0].partition(".")[0]
    assert first["cursor"] in {one["cursor"] for one in data_of(sent, "new_message")}


@pytest.mark.parametrize(
    "change",
    [
        {"text": "x" * 2_000_000},
        {"text": "\u0001" * 150_000},
        {"text": 'é"' * 200_000},
        {"content": [{"type": "text", "text": "x" * 2_000_000}]},
        {"text": "x" * 500_000, "model": "y" * 500_000, "usage": {"z" * 7_000: 1}},
    ],
    ids=["long", "escaped", "quoted", "content", "everything"],
)
def test_payloads_stay_under_200_kb(
    db: Database,
    alice: str,
    talk: dict[str, Any],
    broadcasts: Recorder,
    change: dict[str, Any],
) -> None:
    """What was cut is said; the row itself is whole."""
    line = message(talk, 0, **change)
    with broadcasts() as sent, db.user(alice) as request:
        request.upsert("messages", [line])
    assert all(
        len(json.dumps(one["payload"], ensure_ascii=False).encode()) < 200_000 for one in sent
    )
    (data,) = data_of(sent, "new_message")
    assert data["truncated"] is True
    assert data.keys() == MessageData.model_fields.keys()
    assert line["text"].startswith(data["text"])
    assert data["text"]
    with db.user(alice) as request:
        assert request.value("select text from public.messages") == line["text"]


def test_content_up_to_8_kb_is_sent(
    db: Database, alice: str, talk: dict[str, Any], broadcasts: Recorder
) -> None:
    """A usual message is whole."""
    small = [{"type": "text", "text": "x" * 8_000}]
    with broadcasts() as sent, db.user(alice) as request:
        request.upsert("messages", [message(talk, 0, content=small)])
        request.upsert("messages", [message(talk, 1, content=[*small, *small])])
    shown = {one["seq"]: (one["content"], one["truncated"]) for one in data_of(sent, "new_message")}
    assert shown == {0: (small, False), 1: (None, True)}


def test_long_titles_are_cut(db: Database, alice: str, broadcasts: Recorder) -> None:
    """Conversations are sent below the limit as well."""
    row = conversation(alice, title="t" * 900_000, cwd="/" + "d" * 900_000)
    with broadcasts() as sent, db.user(alice) as request:
        request.upsert("conversations", [row])
        request.upsert("messages", [message(row, 0)])
    assert len(sent) >= 3
    assert all(len(json.dumps(one["payload"])) < 200_000 for one in sent)


@contextmanager
def foreign_time_zone(db: Database, user: str) -> Iterator[Request]:
    """A writer whose session is not in UTC."""
    with db.user(user) as request:
        request.rows("set local timezone = 'Asia/Kathmandu'")
        yield request


def test_times_are_utc_whatever_the_session_says(
    db: Database, alice: str, talk: dict[str, Any], broadcasts: Recorder
) -> None:
    """In broadcasts as in changes."""
    context: AbstractContextManager[Request] = foreign_time_zone(db, alice)
    with broadcasts() as sent, context as request:
        request.upsert("messages", [message(talk, 0)])
    (data,) = data_of(sent, "new_message")
    assert data["created_at"] == "2026-01-02T12:00:00+00:00"
    with foreign_time_zone(db, alice) as request:
        changes = request.changes("start")["changes"]
    assert changes[-1]["row"]["created_at"] == "2026-01-02T12:00:00+00:00"
