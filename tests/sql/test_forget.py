"""What is forgotten is gone from the database and does not come back from a transcript."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from conv_realtime.events import DeletedConversationData
from conv_realtime.models import conversation_id
from tests.sql.conftest import Recorder
from tests.sql.database import Database, Request
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
    """With all its messages; whoever listens hears that it is gone, the owner's list too."""
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
    gone = [one for one in sent if one["event"].startswith("conversation_")]
    assert {(one["topic"], one["event"]) for one in gone} == {
        (f"conv_realtime:conversation:{talk['id']}", "conversation_deleted"),
        (f"conv_realtime:owner:{alice}", "conversation_deleted"),
    }
    for one in gone:
        data = one["payload"]["data"]
        assert data.keys() == DeletedConversationData.model_fields.keys()
        assert (data["id"], data["revision"]) == (talk["id"], row["revision"])
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


# Below -------------------------------------------------------------------------------------


def subagent(parent: dict[str, Any], agent: str) -> dict[str, Any]:
    """A subagent's conversation, or one of those that a file goes on with."""
    id = conversation_id(
        parent["owner_id"], parent["source"], parent["machine"], parent["session_id"], agent
    )
    same = {name: parent[name] for name in ("session_id", "source", "machine")}
    return conversation(
        parent["owner_id"], id=str(id), agent_id=agent, parent_id=parent["id"], **same
    )


def titles(db: Database, owner: str) -> dict[str, str | None]:
    """The titles that are left, by agent."""
    with db.user(owner) as request:
        rows = request.rows("select agent_id, title from public.conversations")
    return {row["agent_id"] or "": row["title"] for row in rows}


def test_subagents_go_with_their_conversation(
    db: Database, alice: str, talk: dict[str, Any], broadcasts: Recorder
) -> None:
    """At any depth, with their messages. A fork, and what a rewritten file says instead, stay."""
    child = subagent(talk, "a")
    below = subagent(talk, "b") | {"parent_id": child["id"]}
    later = subagent(talk, "@1")
    fork = subagent(talk, "f") | {"metadata": {"forked_from": talk["session_id"]}}
    with db.user(alice) as request:
        request.upsert("conversations", [child, below, later, fork])
        request.upsert("messages", [message(below, 1, text="secret")])
    with broadcasts() as sent, db.user(alice) as request:
        request.rows(FORGET, talk["id"])
    stays = {"@1": later["title"], "f": fork["title"]}
    assert titles(db, alice) == {"": None, "a": None, "b": None, **stays}
    with db.user(alice) as request:
        assert request.value("select count(*) from public.messages where text <> ''") == 0
    assert [one["event"] for one in sent].count("message_deleted") == 4
    assert "secret" not in str(sent)


def test_a_subagent_that_comes_later_is_forgotten_as_well(
    db: Database, alice: str, talk: dict[str, Any]
) -> None:
    """Its transcript may have been on a machine that was away."""
    with db.user(alice) as request:
        request.rows(FORGET, talk["id"])
        child = subagent(talk, "late")
        request.upsert("conversations", [child, subagent(talk, "@1")])
        request.upsert("messages", [message(child, 1, text="secret")])
    assert titles(db, alice) == {"": None, "late": None, "@1": "Fix the cart"}
    with db.user(alice) as request:
        assert request.rows("select from public.messages where text = 'secret'") == []


def copied(talk: dict[str, Any], agent: str | None = None) -> dict[str, Any]:
    """The same conversation, or a subagent of it, as another machine names it."""
    who = talk["owner_id"], talk["source"], "desktop", talk["session_id"]
    parent = conversation_id(*who)
    return talk | {
        "id": str(conversation_id(*who, agent)),
        "machine": "desktop",
        "agent_id": agent,
        "parent_id": str(parent) if agent else None,
        "project_id": None,
    }


def test_a_copy_on_another_machine_goes_as_well(
    db: Database, alice: str, talk: dict[str, Any]
) -> None:
    """It is the same session; what it says elsewhere is no less forgotten."""
    copy = copied(talk)
    other = conversation(alice)
    with db.user(alice) as request:
        request.upsert("conversations", [copy, copied(talk, "a"), other])
        request.upsert("messages", [message(copy, 1, text="secret")])
        request.rows(FORGET, talk["id"])
    with db.user(alice) as request:
        rows = request.rows("select id::text, title from public.conversations")
        assert {row["id"] for row in rows if row["title"]} == {other["id"]}
        assert request.rows("select from public.messages where text = 'secret'") == []


def test_a_machine_that_reads_a_copy_later_brings_nothing_back(
    db: Database, alice: str, mallory: str, talk: dict[str, Any]
) -> None:
    """In whatever order its files come. Another user's session of that name is theirs."""
    with db.user(alice) as request:
        request.rows(FORGET, talk["id"])
    copy, child = copied(talk), copied(talk, "a")
    with db.user(alice) as request:
        request.upsert("conversations", [child])
        request.upsert("messages", [message(child, 1, text="secret")])
        request.upsert("conversations", [copy])
        request.upsert("messages", [message(copy, 1, text="secret")])
        assert request.rows("select from public.conversations where title is not null") == []
        assert request.rows("select from public.messages where text <> ''") == []
    theirs = conversation(mallory, talk["session_id"])
    with db.user(mallory) as request:
        request.upsert("conversations", [theirs])
        assert request.value("select title from public.conversations") == theirs["title"]


def test_what_is_forgotten_is_newer_than_what_was(
    db: Database, alice: str, talk: dict[str, Any]
) -> None:
    """Readers keep the higher revision; one that comes late must not win."""
    with db.user(alice) as request:
        before = request.rows("select id, revision from public.messages order by id")
        request.rows(FORGET, talk["id"])
    with db.user(alice) as request:
        after = request.rows("select id, revision from public.messages order by id")
        assert request.value("select revision from public.conversations") == talk["revision"] + 1
    assert after == [row | {"revision": row["revision"] + 1} for row in before]


def test_forgetting_twice_changes_nothing(
    db: Database, alice: str, talk: dict[str, Any], broadcasts: Recorder
) -> None:
    """And tells nobody."""
    with db.user(alice) as request:
        request.rows(FORGET, talk["id"])
    with broadcasts() as sent, db.user(alice) as request:
        request.rows(FORGET, talk["id"])
    assert sent == []


def test_a_digest_says_that_it_is_forgotten(db: Database, alice: str, talk: dict[str, Any]) -> None:
    """So that comparing it with its transcript is not taken for a difference."""
    with db.user(alice) as request:
        request.rows(FORGET, talk["id"])
        ids = [talk["id"]]
        answer = request.value("select public.conversation_digests(%s::uuid[])", ids)
    assert answer[talk["id"]]["forgotten"] is True
    assert (answer[talk["id"]]["messages"], answer[talk["id"]]["deleted"]) == (0, 3)


@pytest.mark.parametrize("forgets_first", [False, True])
def test_what_is_written_at_the_same_moment_is_forgotten_too(
    db: Database, alice: str, talk: dict[str, Any], forgets_first: bool
) -> None:
    """Neither transaction sees what the other does, so each waits for the other to end."""

    def forget(request: Request) -> None:
        request.rows(FORGET, talk["id"])

    def write(request: Request) -> None:
        request.upsert("messages", [message(talk, 7)])

    first, second = (forget, write) if forgets_first else (write, forget)
    with db.user(alice) as request:
        first(request)
        with beside(db, alice, second) as waits:
            assert waits(), "it does not wait for the other"
            request.connection.commit()
    with db.user(alice) as request:
        assert not request.rows("select id from public.messages where deleted_at is null")


@contextmanager
def beside(db: Database, user: str, act: Callable[[Request], None]) -> Iterator[Callable[[], bool]]:
    """Does something in a transaction of its own; gives what tells whether that has to wait."""
    pid: list[int] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            with db.user(user) as request:
                pid.append(request.connection.info.backend_pid)
                act(request)
        except BaseException as error:
            failed.append(error)

    def waits() -> bool:
        while working.is_alive():
            with db.postgres() as request:
                blocked = pid and request.value("select pg_blocking_pids(%s) <> '{}'", pid[0])
            if blocked:
                return True
        return False

    working = threading.Thread(target=work)
    working.start()
    yield waits
    working.join()
    assert not failed, failed
