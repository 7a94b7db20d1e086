"""A conversation's id proves its owner, computed in SQL as it is in Python."""

from __future__ import annotations

import hashlib
import random
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conv_realtime.models import conversation_id
from tests.sql.database import Database
from tests.sql.rows import conversation

STATEMENT = "select conv_realtime.conversation_id(%s, %s, %s, %s, %s)"
# Neither NUL, which PostgreSQL cannot store, nor lone surrogates, which UTF-8 has not.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


@pytest.mark.parametrize("size", [0, 1, 54, 55, 56, 63, 64, 65, 119, 120, 128, 1000])
def test_sha1_is_sha1(db: Database, size: int) -> None:
    """Around every border of its blocks."""
    data = random.Random(size).randbytes(size)
    with db.postgres() as request:
        assert request.value("select conv_realtime.sha1(%s)", data) == hashlib.sha1(data).digest()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(source=texts, machine=texts, session=texts, agent=st.none() | texts)
def test_ids_are_those_of_python(
    db: Database, source: str, machine: str, session: str, agent: str | None
) -> None:
    """Whatever characters machines and sessions are called by."""
    owner = uuid4()
    with db.postgres() as request:
        computed = request.value(STATEMENT, owner, source, machine, session, agent)
    assert computed == conversation_id(owner, source, machine, session, agent)


@pytest.mark.parametrize("name", ["é", "\u2028", "😀", '"\\/\n\r\t\b\f\x01\x1f\x7f', "</"])
def test_escapes_are_those_of_python(db: Database, name: str) -> None:
    """Each way in which JSON writes a character."""
    owner = uuid4()
    with db.postgres() as request:
        computed = request.value(STATEMENT, owner, name, name, name, name)
    assert computed == conversation_id(owner, name, name, name, name)


@pytest.mark.parametrize(("size", "refused"), [(40_000, False), (5_000_000, True)])
def test_a_long_name_takes_no_long_time(db: Database, alice: str, size: int, refused: bool) -> None:
    """Nobody keeps a connection of the database busy with one row."""
    row = conversation(alice, "é" * size)
    with db.user(alice) as request:
        request.rows("set local statement_timeout = '6s'")
        try:
            request.upsert("conversations", [row])
        except psycopg.errors.CheckViolation:
            request.connection.rollback()
            assert refused
        else:
            assert not refused


def test_anothers_id_is_refused(db: Database, alice: str, mallory: str) -> None:
    """Before Alice has used it and after; she writes in either case."""
    hers = conversation(alice)
    stolen = hers | {"owner_id": mallory}
    for _ in range(2):
        with (
            pytest.raises(psycopg.errors.CheckViolation, match="is not one of owner"),
            db.user(mallory) as request,
        ):
            request.upsert("conversations", [stolen])
        with db.user(alice) as request:
            request.upsert("conversations", [hers])


def test_an_id_of_other_columns_is_refused(db: Database, alice: str) -> None:
    """A writer that computes its ids wrongly learns it at once."""
    row = conversation(alice) | {"session_id": "another"}
    with pytest.raises(psycopg.errors.CheckViolation) as caught, db.user(alice) as request:
        request.upsert("conversations", [row])
    assert caught.value.diag.message_hint


def test_subagents_prove_their_ids(db: Database, alice: str) -> None:
    """The agent is part of what is hashed."""
    session = str(uuid4())
    identity = conversation_id(alice, "claude-code", "laptop", session, "a1")
    row = conversation(alice, session) | {"id": str(identity), "agent_id": "a1"}
    with db.user(alice) as request:
        assert request.upsert("conversations", [row]) == 1


def test_random_ids_are_taken_as_they_come(db: Database, alice: str, mallory: str) -> None:
    """Writers other than this library may number as they like, also with the same number."""
    chosen = str(uuid4())
    for user in (alice, mallory):
        with db.user(user) as request:
            assert request.upsert("conversations", [conversation(user) | {"id": chosen}]) == 1


def test_the_service_role_writes_for_others(db: Database, alice: str) -> None:
    """It is trusted: no id of its is checked."""
    row = conversation(alice) | {"session_id": "another"}
    with db.service() as request:
        assert request.upsert("conversations", [row]) == 1
