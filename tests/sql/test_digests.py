"""`conversation_digests` says in few bytes what a client can compute from the rows."""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import uuid4

from tests.sql.database import Database
from tests.sql.rows import conversation, message


def sha256(text: str) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def digest(lines: list[dict[str, Any]]) -> str:
    """The digest of live messages, as the README of the schema defines it."""
    parts = [
        f"{line['id']}:{line['seq']}:{line['revision']}:{line['role']}:{sha256(line['text'])}"
        for line in sorted(lines, key=lambda line: str(line["id"]))
    ]
    return sha256("\n".join(parts))


def asked(db: Database, user: str, *ids: str) -> dict[str, Any]:
    """The answer of the database."""
    with db.user(user) as request:
        answer = request.value("select public.conversation_digests(%s::uuid[])", list(ids))
    assert isinstance(answer, dict)
    return answer


def test_the_digest_is_that_of_the_rows(db: Database, alice: str) -> None:
    """Deleted messages are counted apart and are not in it."""
    talk = conversation(alice, message_count=3, tool_usage_count=2)
    lines = [message(talk, position, text=f"é {position} 😀") for position in range(30)]
    gone = message(talk, 99, deleted_at="2026-01-02T12:00:00Z")
    with db.user(alice) as request:
        request.upsert("conversations", [talk])
        request.upsert("messages", [*lines, gone])
    assert asked(db, alice, talk["id"]) == {
        talk["id"]: {
            "messages": 30,
            "deleted": 1,
            "max_revision": 189,
            "digest": digest(lines),
            "revision": 100,
            "message_count": 3,
            "tool_usage_count": 2,
            "forgotten": False,
        }
    }


def test_any_difference_shows(db: Database, alice: str) -> None:
    """In text, place, revision and role."""
    talk = conversation(alice)
    line = message(talk, 0)
    digests = set()
    for change in ({}, {"text": "other"}, {"seq": 1}, {"revision": 95}, {"role": "system"}):
        with db.user(alice) as request:
            request.upsert("conversations", [talk])
            request.upsert("messages", [line | {"revision": 90} | change])
        digests.add(asked(db, alice, talk["id"])[talk["id"]]["digest"])
        with db.service() as request:
            request.rows("delete from public.messages where id = %s", line["id"])
    assert len(digests) == 5


def test_empty_and_unknown_conversations(db: Database, alice: str) -> None:
    """Without messages: the digest of nothing. Unknown: absent."""
    talk = conversation(alice)
    with db.user(alice) as request:
        request.upsert("conversations", [talk])
    answer = asked(db, alice, talk["id"], str(uuid4()))
    assert answer.keys() == {talk["id"]}
    assert answer[talk["id"]]["digest"] == digest([])
    assert asked(db, alice) == {}
