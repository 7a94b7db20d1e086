"""A database with our schema, and two users who know nothing of each other."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from conv_realtime.local import LocalSupabase
from tests.sql.database import Database
from tests.sql.scratch import Scratch, scratch_databases

Sent = list[dict[str, Any]]


@pytest.fixture(scope="session")
def db(request: pytest.FixtureRequest) -> Database:
    """The local Supabase's, or any other Supabase's by CONV_REALTIME_TEST_DB_URL."""
    given = os.environ.get("CONV_REALTIME_TEST_DB_URL")
    return Database(given or request.getfixturevalue("local_supabase").db_url)


@pytest.fixture
def alice() -> str:
    """A user."""
    return str(uuid.uuid4())


@pytest.fixture
def mallory() -> str:
    """Another user, who wants what is Alice's."""
    return str(uuid.uuid4())


@pytest.fixture
def scratch(local_supabase: LocalSupabase) -> Iterator[Scratch]:
    """Databases that a test may spoil."""
    with scratch_databases(local_supabase) as made:
        yield made


Recorder = Callable[[], AbstractContextManager[Sent]]


@pytest.fixture
def broadcasts(db: Database) -> Recorder:
    """A block that fills its list with the broadcasts that were sent while it ran."""
    query = "select id, topic, event, payload, private from realtime.messages"

    @contextmanager
    def recorded() -> Iterator[Sent]:
        with db.postgres() as request:
            before = {row["id"] for row in request.rows(query)}
        sent: Sent = []
        yield sent
        with db.postgres() as request:
            sent += [row for row in request.rows(query) if row["id"] not in before]

    return recorded
