"""A Supabase project as its users know it: a URL, keys and a database URL, and nothing else.

Tests that ask for the fixture `supabase` get one: the local Supabase, or the reader's own, named
by CONV_REALTIME_TEST_SUPABASE_URL and its kin (tests/README.md). There a run makes what it needs,
touches nothing else and removes what it made.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from conv_realtime.errors import MigrationError
from conv_realtime.local import LocalSupabase, provision
from conv_realtime.local.keys import mint
from conv_realtime.sql import migrations
from tests.waking import wake_realtime

PREFIX = "CONV_REALTIME_TEST_SUPABASE_"
_NEEDED = ("URL", "PUBLISHABLE_KEY", "SECRET_KEY", "DB_URL")
_PATIENCE = 60.0
_TABLES = ("messages", "conversations", "projects")

# Everything of ours carries a comment that says so; what does not is somebody else's.
_OURS = """
select format('drop policy %I on realtime.messages', polname) from pg_policy
  where polrelid = to_regclass('realtime.messages') and starts_with(polname, 'conv_realtime: ')
union all
select format('drop table %s cascade', oid::regclass) from pg_class
  where relnamespace = 'public'::regnamespace and relkind = 'r'
  and obj_description(oid, 'pg_class') like 'conv\\_realtime:%'
union all
select format('drop function %s', oid::regprocedure) from pg_proc
  where pronamespace = 'public'::regnamespace
  and obj_description(oid, 'pg_proc') like 'conv\\_realtime:%'
"""


@dataclass(frozen=True)
class Owner:
    """A user that no other test knows: isolation by owner."""

    id: str
    token: str


def not_applicable(reason: str) -> Any:
    """Ends a test that this Supabase cannot answer; the report says why."""
    pytest.skip(f"not applicable: {reason}")


@dataclass
class SupabaseProject:
    """A project under test.

    Attributes:
        jwt_secret: signs users' tokens (HS256); None where it is not known: users are then made
            through the project's auth admin API.
        schema: how our schema came there, for the report.
        owners: whose rows a run may have written.
    """

    url: str
    publishable_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    db_url: str = field(repr=False)
    jwt_secret: str | None = field(default=None, repr=False)
    local: bool = False
    schema: str = "was there"
    owners: set[str] = field(default_factory=set)
    _passwords: dict[str, tuple[str, str]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, local: LocalSupabase) -> Self:
        """Gives a local Supabase as its users know it."""
        keys = local.publishable_key, local.secret_key
        return cls(local.url, *keys, local.db_url, local.jwt_secret, local=True)

    @classmethod
    def named(cls, environment: Mapping[str, str]) -> Self | None:
        """Gives the project that the environment names, None if it names none.

        Raises:
            pytest.UsageError: it names one in part.
        """
        given = {
            name: environment[PREFIX + name]
            for name in (*_NEEDED, "JWT_SECRET")
            if environment.get(PREFIX + name)
        }
        if not given:
            return None
        missing = [PREFIX + name for name in _NEEDED if name not in given]
        if missing:
            raise pytest.UsageError(f"a Supabase to test is named without {', '.join(missing)}")
        url = given["URL"].rstrip("/")
        keys = given["PUBLISHABLE_KEY"], given["SECRET_KEY"]
        return cls(url, *keys, given["DB_URL"], given.get("JWT_SECRET"))

    @property
    def host(self) -> str:
        """Where it is, without anything secret."""
        return urlsplit(self.url).netloc

    def owner(self) -> str:
        """Gives a fresh user's id, for writers that need no token."""
        made = str(uuid4())
        self.owners.add(made)
        return made

    def member(self) -> Owner:
        """Gives a fresh user with a token that is good for the test."""
        if self.jwt_secret is not None:
            made = self.owner()
            return Owner(made, self.token(made))
        return self._signed_up()

    def renewed(self, owner: Owner) -> Owner:
        """Gives the same user with another token."""
        if self.jwt_secret is not None:
            return Owner(owner.id, self.token(owner.id, 9000))
        return self._signed_in(owner.id)

    def token(self, sub: UUID | str, expires_in: float = 3600.0) -> str:
        """Gives a token of a user of any lifetime; needs the JWT secret."""
        if self.jwt_secret is None:
            not_applicable(f"needs {PREFIX}JWT_SECRET to make tokens of its own")
        return mint(str(self.jwt_secret), "authenticated", expires_in, sub=str(sub))

    def _signed_up(self) -> Owner:
        """Makes a user through the auth admin API and signs it in by password."""
        email, password = f"conv-realtime-{uuid4().hex}@example.com", secrets.token_urlsafe(24)
        wanted = {"email": email, "password": password, "email_confirm": True}
        with self.http(self.secret_key) as http:
            answer = _patiently(http, "/auth/v1/admin/users", wanted)
        if answer.status_code in (404, 405, 501):
            not_applicable(f"no auth admin API there; {PREFIX}JWT_SECRET would do as well")
        answer.raise_for_status()
        made = str(answer.json()["id"])
        self._passwords[made] = (email, password)
        self.owners.add(made)
        return self._signed_in(made)

    def _signed_in(self, user: str) -> Owner:
        email, password = self._passwords[user]
        wanted = {"email": email, "password": password}
        with self.http(self.publishable_key) as http:
            answer = _patiently(http, "/auth/v1/token?grant_type=password", wanted)
        answer.raise_for_status()
        return Owner(user, str(answer.json()["access_token"]))

    def http(self, key: str, token: str | None = None) -> httpx.Client:
        """Gives a client with a key, and the token of a user if there is one."""
        headers = {"apikey": key, "authorization": f"Bearer {token or key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30)

    def versions(self) -> dict[str, str]:
        """Gives what each part says of its version."""
        with psycopg.connect(self.db_url) as connection:
            version = connection.info.server_version
        found = {"PostgreSQL": f"{version // 10000}.{version % 10000}"}
        with self.http(self.secret_key) as http, suppress(httpx.HTTPError):
            found["Data API"] = http.head("/rest/v1/").headers.get("server", "does not say")
            health = http.get("/auth/v1/health")
            if health.is_success:
                found["Auth"] = str(health.json().get("version", "does not say"))
        return found

    def remove_rows(self) -> None:
        """Deletes the rows of this run's users."""
        with psycopg.connect(self.db_url) as connection:
            for table in _TABLES:
                query = f"delete from public.{table} where owner_id = any (%s)"
                connection.execute(query.encode(), (list(self.owners),))

    def remove_users(self) -> None:
        """Deletes the users that were signed up."""
        with self.http(self.secret_key) as http:
            for user in self._passwords:
                http.delete(f"/auth/v1/admin/users/{user}").raise_for_status()
        self._passwords.clear()


def _patiently(http: httpx.Client, path: str, body: Any) -> httpx.Response:
    """Posts; hosted projects limit how often users sign in, and say how long to wait."""
    until = time.monotonic() + _PATIENCE
    while (answer := http.post(path, json=body)).status_code == 429 and time.monotonic() < until:
        told = answer.headers.get("retry-after", "")
        time.sleep(float(told) if told.isdigit() else 2.0)
    return answer


@contextmanager
def borrowed(project: SupabaseProject) -> Iterator[SupabaseProject]:
    """Somebody's own Supabase, ready for the tests; afterwards it is as it was.

    What cannot be taken back are the broadcasts: Realtime drops them after three days.

    Raises:
        pytest.UsageError: it cannot be reached, or has another version of our schema.
    """
    with _reachable(), schema_lent(project):
        wake_realtime(project.url, project.publishable_key, project.db_url)
        try:
            yield project
        finally:
            project.remove_rows()
            project.remove_users()


@contextmanager
def _reachable() -> Iterator[None]:
    """Says of a database that cannot be reached which variable names it."""
    try:
        yield
    except psycopg.OperationalError as error:
        raise pytest.UsageError(f"{PREFIX}DB_URL: {str(error).splitlines()[0]}") from error


@contextmanager
def schema_lent(project: SupabaseProject) -> Iterator[None]:
    """Our schema in that database, made for the run unless it is there."""
    have = schema_versions(project.db_url)
    want = [one.version for one in migrations()]
    if have == want:
        yield
        return
    if have:
        raise pytest.UsageError(
            f"{project.host} has version {have[-1]} of the schema and this checkout is"
            f" {want[-1]}: apply its migrations there, or name another Supabase"
        )
    kept_history = _exists(project.db_url, "supabase_migrations.schema_migrations")
    project.schema = "made for this run, and removed"
    try:
        asyncio.run(provision.migrate(project.db_url))
        _served(project)
        yield
    except MigrationError as error:
        raise pytest.UsageError(f"the schema cannot be made at {project.host}: {error}") from error
    finally:
        remove_schema(project.db_url, history=kept_history)


def schema_versions(db_url: str) -> list[str]:
    """Gives the migrations that a database has, oldest first; none without our schema."""
    if not _exists(db_url, "conv_realtime.versions"):
        return []
    with psycopg.connect(db_url) as connection:
        rows = connection.execute("select version from conv_realtime.versions order by 1")
        return [str(row[0]) for row in rows]


def remove_schema(db_url: str, *, history: bool = True) -> None:
    """Removes all that our migrations made; with `history`, only our lines of the history."""
    with psycopg.connect(db_url) as connection:
        drops = [str(row[0]) for row in connection.execute(_OURS)]
        for statement in [*drops, "drop schema if exists conv_realtime cascade"]:
            connection.execute(statement.encode())
        if not history:
            connection.execute("drop schema if exists supabase_migrations cascade")
        else:
            connection.execute(
                "delete from supabase_migrations.schema_migrations where version = any (%s)",
                ([one.version for one in migrations()],),
            )
        connection.execute("notify pgrst, 'reload schema'")


def _exists(db_url: str, relation: str) -> bool:
    with psycopg.connect(db_url) as connection:
        row = connection.execute("select to_regclass(%s) is not null", (relation,)).fetchone()
        return bool(row and row[0])


def _served(project: SupabaseProject) -> None:
    """Waits until the Data API knows the new schema."""
    with psycopg.connect(project.db_url) as connection:
        connection.execute("notify pgrst, 'reload schema'")
    until = time.monotonic() + _PATIENCE
    with project.http(project.secret_key) as http:
        while not (answer := http.post("/rest/v1/rpc/schema_version", json={})).is_success:
            if time.monotonic() > until:
                raise pytest.UsageError(f"{project.host} does not serve the schema: {answer.text}")
            time.sleep(0.2)


def from_environment() -> SupabaseProject | None:
    """Gives the reader's own project, None if the local Supabase is to be used."""
    return SupabaseProject.named(os.environ)
