"""Our topics are heard by their owner and written by the database, whatever else is allowed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.sql.conftest import Recorder
from tests.sql.database import Database, Request
from tests.sql.rows import conversation, message

# A project whose own policies let everybody do everything.
OPEN = [
    'create policy "all may listen" on realtime.messages for select to anon, authenticated'
    " using (true)",
    'create policy "all may send" on realtime.messages for insert to anon, authenticated'
    " with check (true)",
]


@pytest.fixture
def talk(db: Database, alice: str) -> dict[str, Any]:
    """A conversation of Alice's."""
    row = conversation(alice)
    with db.user(alice) as request:
        request.upsert("conversations", [row])
    return row


@contextmanager
def joining(
    db: Database, role: str, user: str | None, topic: str, policies: Sequence[str] = ()
) -> Iterator[Request]:
    """A join as Realtime checks it: a probe row, then the caller's role and topic.

    The project has `policies` beside ours, as long as nobody else can see them.
    """
    claims = {"role": role} | ({"sub": user} if user else {})
    with psycopg.connect(db.dsn, row_factory=dict_row) as connection:
        request = Request(connection)
        for policy in policies:
            request.rows(policy)
        request.rows(
            "insert into realtime.messages (topic, extension, event, payload, private)"
            " values (%s, 'broadcast', 'probe', '{}', true)",
            topic,
        )
        request.rows("select set_config('realtime.topic', %s, true)", topic)
        request.rows("select set_config('request.jwt.claims', %s, true)", json.dumps(claims))
        request.rows(f"set local role {role}")
        try:
            yield request
        finally:
            connection.rollback()


def may_read(
    db: Database, role: str, user: str | None, topic: str, policies: Sequence[str] = ()
) -> bool:
    """Whether that join is let in to listen."""
    with joining(db, role, user, topic, policies) as request:
        return bool(request.rows("select 1 from realtime.messages where topic = %s", topic))


def may_send(
    db: Database, role: str, user: str | None, topic: str, policies: Sequence[str] = ()
) -> bool:
    """Whether that join is let in to send."""
    try:
        with joining(db, role, user, topic, policies) as request:
            request.rows(
                "insert into realtime.messages (topic, extension, event, payload, private)"
                " values (%s, 'broadcast', 'new_message', '{}', true)",
                topic,
            )
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


def ours(user: str, talk: dict[str, Any]) -> list[str]:
    """The topics of a user with one conversation."""
    return [f"conv_realtime:conversation:{talk['id']}", f"conv_realtime:owner:{user}"]


def test_the_owner_listens(db: Database, alice: str, talk: dict[str, Any]) -> None:
    """On their conversations and on their own topic, without a policy of the project's."""
    for topic in ours(alice, talk):
        assert may_read(db, "authenticated", alice, topic), topic
        assert may_read(db, "service_role", None, topic), topic
    assert may_read(db, "service_role", None, "conv_realtime:changes")


def test_a_closed_project_stays_closed(db: Database, alice: str) -> None:
    """We open nothing but our topics."""
    assert not may_read(db, "authenticated", alice, "room:open")
    assert not may_send(db, "authenticated", alice, "room:open")


def test_nobody_else_listens(db: Database, alice: str, mallory: str, talk: dict[str, Any]) -> None:
    """Beside a policy that lets everybody: it goes on to hold for the project's own topics."""
    for topic in [*ours(alice, talk), "conv_realtime:changes", "conv_realtime:", "conv_realtime:x"]:
        assert not may_read(db, "authenticated", mallory, topic, OPEN), topic
        assert not may_read(db, "anon", None, topic, OPEN), topic
    assert not may_read(db, "authenticated", alice, "conv_realtime:changes", OPEN)
    for role, user in (("authenticated", mallory), ("anon", None)):
        assert may_read(db, role, user, "room:open", OPEN)
        assert may_send(db, role, user, "room:open", OPEN)


def test_nobody_forges(db: Database, alice: str, mallory: str, talk: dict[str, Any]) -> None:
    """Not even the owner sends on a topic that the database speaks on."""
    for topic in [*ours(alice, talk), "conv_realtime:changes"]:
        for role, user in (("authenticated", mallory), ("authenticated", alice), ("anon", None)):
            assert not may_send(db, role, user, topic, OPEN), (role, topic)


@pytest.mark.parametrize(
    "topic",
    [
        None,
        "",
        "room:1",
        "conv_realtime:conversation:",
        "conv_realtime:conversation:not-a-uuid",
        "conv_realtime:conversation:{id}x",
        "conv_realtime:conversation:{id}\n",
        "xconv_realtime:conversation:{id}",
        "conv_realtime:conversation:%",
        "conv_realtime:owner:' or true",
        "conv_realtime:owner:{owner}:x",
    ],
)
def test_topics_of_any_shape_are_answered(
    db: Database, alice: str, talk: dict[str, Any], topic: str | None
) -> None:
    """The check runs for every topic of a project: none makes it fail."""
    asked = topic and topic.format(id=talk["id"], owner=alice)
    with db.user(alice) as request:
        assert request.value("select conv_realtime.can_read(%s)", asked) is False


def test_whoever_was_first_has_the_topic_of_a_random_id(
    db: Database, alice: str, mallory: str, broadcasts: Recorder
) -> None:
    """Two rows of one id: one channel, which carries its owner's rows alone."""
    chosen = str(uuid4())
    topic = f"conv_realtime:conversation:{chosen}"
    hers, his = (conversation(user) | {"id": chosen} for user in (alice, mallory))
    with db.user(alice) as request:
        request.upsert("conversations", [hers])
    with broadcasts() as sent, db.user(mallory) as request:
        request.upsert("conversations", [his])
        request.upsert("messages", [message(his, 0)])
    assert [one for one in sent if one["topic"] == topic] == []
    assert may_read(db, "authenticated", alice, topic)
    assert not may_read(db, "authenticated", mallory, topic)
    with broadcasts() as sent, db.user(alice) as request:
        request.upsert("messages", [message(hers, 0)])
    assert [one["event"] for one in sent if one["topic"] == topic] == ["new_message"]
