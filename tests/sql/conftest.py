"""A database with our schema, and two users who know nothing of each other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from typing import Any

import pytest

from conv_realtime.local import LocalSupabase
from tests.project import SupabaseProject
from tests.sql.database import Database
from tests.sql.scratch import Scratch, scratch_databases

Sent = list[dict[str, Any]]


GRANTS_VARIABLE = "CONV_REALTIME_TEST_DEFAULT_GRANTS"


@pytest.fixture(scope="session")
def default_grants() -> bool:
    """Whether new tables and functions are granted to the API's roles, as in older projects."""
    chosen = os.environ.get(GRANTS_VARIABLE, "all")
    assert chosen in ("all", "none"), f"{GRANTS_VARIABLE} is all or none"
    return chosen == "all"


@pytest.fixture(scope="session")
def db(
    request: pytest.FixtureRequest, supabase: SupabaseProject, default_grants: bool
) -> Iterator[Database]:
    """The database of the Supabase under test; without default grants, one made so beside it."""
    with ExitStack() as stack:
        dsn = supabase.db_url
        if supabase.local and not default_grants:
            local: LocalSupabase = request.getfixturevalue("local_supabase")
            made = stack.enter_context(scratch_databases(local, default_grants=False))
            dsn = made.postgres(made.migrated())
        yield stack.enter_context(closing(Database(dsn, idle=[])))


@pytest.fixture
def alice(supabase: SupabaseProject) -> str:
    """A user."""
    return supabase.owner()


@pytest.fixture
def mallory(supabase: SupabaseProject) -> str:
    """Another user, who wants what is Alice's."""
    return supabase.owner()


@pytest.fixture
def scratch(local_supabase: LocalSupabase, default_grants: bool) -> Iterator[Scratch]:
    """Databases that a test may spoil."""
    with scratch_databases(local_supabase, default_grants=default_grants) as made:
        yield made


Recorder = Callable[[], AbstractContextManager[Sent]]


@pytest.fixture
def broadcasts(db: Database) -> Recorder:
    """A block that fills its list with the broadcasts that were sent while it ran."""
    query = (
        "select id, topic, event, payload, private from realtime.messages"
        " where starts_with(topic, 'conv_realtime:')"
    )

    @contextmanager
    def recorded() -> Iterator[Sent]:
        with db.postgres() as request:
            before = {row["id"] for row in request.rows(query)}
        sent: Sent = []
        yield sent
        with db.postgres() as request:
            sent += [row for row in request.rows(query) if row["id"] not in before]

    return recorded
