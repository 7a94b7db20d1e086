"""What is forgotten is gone from the database and does not come back from a transcript."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sql.conftest import Recorder
from tests.sql.database import Database
from tests.sql.rows import conversation, message, project

FORGET = "update public.conversations set metadata = '{\"forgotten\": true}' where id = %s"


@pytest.fixture
def talk(db: Database, alice: str) -> dict[str, Any]:
    """A conversation with three messages in a project."""
    shop = project(alice)
    row = conversation(
        alice, project_id=shop["id"], cwd="/secret", git_branch="secret", model="m", message_count=3
    )
    with db.user(alice) as request:
        request.upsert("projects", [shop])
        request.upsert("conversations", [row])
        request.upsert("messages", [message(row, position) for position in range(3)])
    return row


def test_a_forgotten_conversation_is_blank(
    db: Database, alice: str, talk: dict[str, Any], broadcasts: Recorder
) -> None:
    """With all its messages; whoever listens hears that they are gone."""
    with broadcasts() as sent, db.user(alice) as request:
        request.rows(FORGET, talk["id"])
    with db.user(alice) as request:
        (row,) = request.rows("select * from public.conversations")
        lines = request.rows("select * from public.messages")
    blank = ("title", "cwd", "git_branch", "model", "project_id")
    assert [row[name] for name in blank] == [None] * 5
    assert row["message_count"] == 0
    assert row["deleted_at"] is not None
    assert len(lines) == 3
    for line in lines:
        assert (line["text"], line["content"], line["usage"]) == ("", None, None)
        assert line["deleted_at"] is not None
    assert [one["event"] for one in sent].count("message_deleted") == 3
    assert "secret" not in str(sent)


def test_a_re_read_brings_nothing_back(db: Database, alice: str, talk: dict[str, Any]) -> None:
    """Neither known rows nor new ones, at any revision, and without an error."""
    with db.user(alice) as request:
        request.rows(FORGET, talk["id"])
    with db.user(alice) as request:
        before = request.rows("select * from public.messages order by id")
        lines = [message(talk, position, revision=10**6) for position in range(5)]
        assert request.upsert("messages", lines) == 0
        assert request.upsert("conversations", [talk | {"revision": 10**6}]) == 0
        assert request.rows("select * from public.messages order by id") == before
        assert request.value("select title from public.conversations") is None


def test_readers_of_changes_learn_of_it(db: Database, alice: str, talk: dict[str, Any]) -> None:
    """As rows that are deleted and empty."""
    with db.user(alice) as request:
        cursor = request.changes(None)["cursor"]
    with db.user(alice) as request:
        request.rows(FORGET, talk["id"])
    with db.user(alice) as request:
        rows = [change["row"] for change in request.changes(cursor)["changes"]]
    assert len(rows) == 4
    assert all(row["deleted_at"] for row in rows)
    assert "secret" not in str(rows)


def test_one_message_can_be_forgotten(db: Database, alice: str, talk: dict[str, Any]) -> None:
    """The others stay."""
    line = message(talk, 1)
    with db.user(alice) as request:
        request.upsert("messages", [line | {"metadata": {"forgotten": True}}])
    with db.user(alice) as request:
        request.upsert("messages", [line | {"revision": 10**6}])
        texts = request.rows("select text from public.messages order by seq")
    assert [row["text"] for row in texts] == ["line at 0", "", "line at 2"]


def test_forgetting_cannot_be_taken_back(db: Database, alice: str, talk: dict[str, Any]) -> None:
    """Its mark is not the metadata alone."""
    with db.user(alice) as request:
        request.rows(FORGET, talk["id"])
        request.rows(
            "update public.conversations set change_forgotten = false, metadata = '{}', title = 'x'"
        )
        assert request.value("select title from public.conversations") is None
        assert request.upsert("messages", [message(talk, 9)]) == 0


def test_nobody_forgets_for_another(
    db: Database, alice: str, mallory: str, talk: dict[str, Any]
) -> None:
    """A stranger's update finds no row."""
    with db.user(mallory) as request:
        request.rows(FORGET, talk["id"])
    with db.user(alice) as request:
        assert request.value("select title from public.conversations") == talk["title"]
