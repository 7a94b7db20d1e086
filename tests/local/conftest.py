"""What several tests of the local Supabase ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg
import pytest

from conv_realtime.local import LocalSupabase
from tests.local.changes import OWNED, PLAIN, Table, table
from tests.local.realtime_client import with_policies
from tests.local.rooms import POLICIES


@pytest.fixture
async def db(local_supabase: LocalSupabase) -> AsyncIterator[psycopg.AsyncConnection[object]]:
    """A connection as `postgres`, with the policies of rooms in place."""
    async with with_policies(local_supabase, POLICIES) as connection:
        yield connection


@pytest.fixture
async def todos(local_supabase: LocalSupabase) -> AsyncIterator[Table]:
    """Rows that everybody sees if they are public, and else their owner alone."""
    async with table(local_supabase.db_url, OWNED) as made:
        yield made


@pytest.fixture
async def plain(local_supabase: LocalSupabase) -> AsyncIterator[Table]:
    """A table without row level security."""
    async with table(local_supabase.db_url, PLAIN) as made:
        yield made
