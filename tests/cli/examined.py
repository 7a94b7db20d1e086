"""`doctor`, run on a set-up in which nothing is wrong until a test spoils it."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from click.testing import CliRunner

from conv_realtime.cli import main
from conv_realtime.testing import SupabaseLocal, claude_line


class Doctor:
    """Runs `doctor` in this process; whatever it prints must hold no key."""

    def __init__(self, home: Path, supabase: SupabaseLocal) -> None:
        self.paths = home / "projects"
        self.paths.mkdir()
        self.state = home / "state"
        self.variables = {
            "SUPABASE_URL": supabase.url,
            "SUPABASE_SECRET_KEY": supabase.secret_key,
            "CONV_REALTIME_OWNER_ID": supabase.owner_id,
            "CONV_REALTIME_STATE_DIR": str(self.state),
        }
        self._secrets = [supabase.secret_key, supabase.publishable_key, supabase.jwt_secret]
        self.code = 0
        self.output = ""

    def __call__(self, *arguments: str, **variables: str | None) -> dict[str, dict[str, Any]]:
        """Return what it says of each check, in the order in which it says so."""
        command = ["doctor", str(self.paths), "--json", *arguments]
        environment = {**self.variables, **variables}
        done = CliRunner(env=environment).invoke(main, command, catch_exceptions=False)
        self.code, self.output = done.exit_code, done.output
        keys = [value for name, value in environment.items() if name.endswith("KEY")]
        for secret in [*self._secrets, *keys]:
            assert not secret or secret not in done.output + done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return {line.pop("check"): line for line in lines}

    def failing(self, *arguments: str, **variables: str | None) -> dict[str, dict[str, Any]]:
        """Return the checks that fail; the exit code says so, and each has a remedy."""
        found = self(*arguments, **variables)
        failed = {name: one for name, one in found.items() if one["state"] == "failed"}
        assert self.code == int(bool(failed))
        assert all(one["remedy"] for one in failed.values())
        return failed


def write(folder: Path, *said: str, at: datetime | None = None) -> None:
    """Writes a transcript that says this."""
    times = {} if at is None else {"timestamp": at.isoformat()}
    (folder / "s.jsonl").write_bytes(
        b"".join(claude_line(text, uuid=text, **times) for text in said)
    )


def rows(supabase: SupabaseLocal) -> tuple[Any, ...]:
    """Gives how many projects, conversations and messages there are."""
    with psycopg.connect(supabase.db_url) as connection:
        row = connection.execute(
            "select (select count(*) from public.projects),"
            " (select count(*) from public.conversations), (select count(*) from public.messages)"
        ).fetchone()
    assert row is not None
    return row


def run(supabase: SupabaseLocal, statement: str) -> None:
    """Runs a statement, as `postgres`."""
    with psycopg.connect(supabase.db_url, autocommit=True) as connection:
        connection.execute(statement.encode())
