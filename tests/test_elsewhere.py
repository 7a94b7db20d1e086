"""The suite against a Supabase that it reaches by URL and keys alone, in another process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import respx

from tests.local.own_postgres import open_folder
from tests.project import PREFIX, Owner, SupabaseProject, remove_schema
from tests.report import PATH_VARIABLE

ROOT = Path(__file__).parents[1]
SUITE = ["tests/anywhere", "tests/sql/test_rights.py", "tests/sql/test_migrations.py"]

CATALOG = """
select 'relation ' || oid::regclass || coalesce(relacl::text, '') from pg_class
  where relnamespace not in ('pg_catalog'::regnamespace, 'pg_toast'::regnamespace)
union all select 'function ' || oid::regprocedure from pg_proc
  where pronamespace <> 'pg_catalog'::regnamespace
union all select 'policy ' || polname from pg_policy
union all select 'schema ' || nspname from pg_namespace
  where nspname !~ '^pg_(temp|toast)'
union all select 'trigger ' || tgname from pg_trigger
union all select 'published ' || pubname || tablename from pg_publication_tables
order by 1
"""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[dict[str, Any]]:
    """A Supabase without our schema, in another process; gives what it says of itself."""
    with open_folder() as folder:
        command = [sys.executable, "-m", "conv_realtime", "local", "--json", "--port", "0"]
        process = subprocess.Popen(
            [*command, "--state-dir", str(folder)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        try:
            assert process.stdout is not None
            told: dict[str, Any] = json.loads(process.stdout.readline())
            remove_schema(told["db_url"])
            yield told
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            process.stdout and process.stdout.close()


def run(
    told: dict[str, Any], report: Path, *arguments: str, **changes: str
) -> subprocess.CompletedProcess[str]:
    """Runs the tests there, as the README says."""
    names = {
        "URL": "supabase_url",
        "PUBLISHABLE_KEY": "publishable_key",
        "SECRET_KEY": "secret_key",
        "DB_URL": "db_url",
        "JWT_SECRET": "jwt_secret",
    }
    named = {name: told[key] for name, key in names.items()} | changes
    environment = {
        **{name: value for name, value in os.environ.items() if name != "CI"},
        **{PREFIX + name: value for name, value in named.items() if value},
        PATH_VARIABLE: str(report),
    }
    command = [sys.executable, "-m", "pytest", "-m", "supabase", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True,
        check=False, timeout=100,
    )  # fmt: skip


def catalog(db_url: str) -> list[str]:
    """Gives what there is in a database, beside PostgreSQL itself."""
    with psycopg.connect(db_url) as connection:
        return [str(row[0]) for row in connection.execute(CATALOG)]


def test_a_run_reports_and_leaves_nothing(elsewhere: dict[str, Any], tmp_path: Path) -> None:
    """It makes the schema, passes, says so, and takes everything back."""
    before = catalog(elsewhere["db_url"])
    done = run(elsewhere, tmp_path / "report.md", *SUITE)
    report = (tmp_path / "report.md").read_text()
    assert done.returncode == 0, done.stdout
    assert report in done.stdout
    assert "made for this run, and removed" in report
    assert "| tests/sql/test_rights.py |" in report
    assert "failed" not in report
    assert "PostgreSQL: " in report
    for secret in ("secret_key", "publishable_key", "jwt_secret", "db_url"):
        assert elsewhere[secret] not in done.stdout
    assert catalog(elsewhere["db_url"]) == before


def test_without_a_way_to_make_users_the_rest_runs(
    elsewhere: dict[str, Any], tmp_path: Path
) -> None:
    """The report says of what it could not ask, and why."""
    done = run(elsewhere, tmp_path / "report.md", *SUITE, JWT_SECRET="")
    report = (tmp_path / "report.md").read_text()
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\* \d+ not applicable: no auth admin API there", report, re.MULTILINE)
    assert re.search(r"tests/sql/test_rights.py \| \d+ \| 0 \|", report)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"SECRET_KEY": ""}, "without CONV_REALTIME_TEST_SUPABASE_SECRET_KEY"),
        ({"DB_URL": "postgresql://postgres@127.0.0.1:1/x"}, "CONV_REALTIME_TEST_SUPABASE_DB_URL:"),
    ],
)
def test_what_is_named_wrongly_is_said_once(
    elsewhere: dict[str, Any], tmp_path: Path, changes: dict[str, str], says: str
) -> None:
    """Before the first test, in one sentence."""
    done = run(elsewhere, tmp_path / "report.md", *SUITE, **changes)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout
    assert says in done.stdout + done.stderr


def test_another_version_of_the_schema_is_refused(
    elsewhere: dict[str, Any], tmp_path: Path
) -> None:
    """Somebody's older installation is neither used nor changed."""
    statements = [
        "create schema conv_realtime",
        "create table conv_realtime.versions (version text)",
        "insert into conv_realtime.versions values ('20200101000000')",
    ]
    with psycopg.connect(elsewhere["db_url"], autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())
        before = catalog(elsewhere["db_url"])
        done = run(elsewhere, tmp_path / "report.md", *SUITE)
        after = catalog(elsewhere["db_url"])
        connection.execute("drop schema conv_realtime cascade")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout
    assert "has version 20200101000000 of the schema" in done.stdout + done.stderr
    assert after == before


@respx.mock
def test_users_are_made_and_removed_through_the_auth_admin_api() -> None:
    """Where no JWT secret is known: signed in by password, again after a limit, gone at the end."""
    project = SupabaseProject("http://project.test", "publishable", "secret", "unused")
    admin = respx.post(f"{project.url}/auth/v1/admin/users").respond(200, json={"id": "u1"})
    tokens = [httpx.Response(200, json={"access_token": name}) for name in ("first", "second")]
    limited = httpx.Response(429, headers={"retry-after": "0"})
    signing = respx.post(f"{project.url}/auth/v1/token").mock(side_effect=[limited, *tokens])
    gone = respx.delete(f"{project.url}/auth/v1/admin/users/u1").respond(200)
    member = project.member()
    assert (member, project.renewed(member)) == (Owner("u1", "first"), Owner("u1", "second"))
    assert project.owners == {"u1"}
    project.remove_users()
    assert gone.call_count == 1
    made, asked = (json.loads(route.calls[0].request.content) for route in (admin, signing))
    assert asked == {"email": made["email"], "password": made["password"]}
    assert made["email_confirm"] is True
    keys = [route.calls[0].request.headers["apikey"] for route in (admin, signing, gone)]
    assert keys == ["secret", "publishable", "secret"]
