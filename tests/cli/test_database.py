"""`token` and `migrations`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from uuid import UUID

import jwt
import psycopg
import pytest
from click.testing import CliRunner, Result

from conv_realtime.cli import main
from conv_realtime.cli.schema import difference
from conv_realtime.local import LocalSupabase
from conv_realtime.local.keys import load_keys
from conv_realtime.sql import migrations
from conv_realtime.testing import SupabaseLocal

USER = UUID("5e551011-0000-4000-8000-000000000001")


def _run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_token_is_the_owners_and_signed_for_this_state_directory(tmp_path: Path) -> None:
    """Without --sub the token speaks for the owner of the local Supabase."""
    minted = json.loads(_run("token", "--json", "--state-dir", tmp_path).stdout)["token"]
    keys = load_keys(tmp_path / "supabase" / "keys.json")
    claims = keys.verify(minted)
    assert claims["sub"] == keys.owner_id
    assert claims["role"] == "authenticated"


def test_a_token_can_be_another_users(tmp_path: Path) -> None:
    """--sub and --expires-in are in the claims; plain output is the token alone."""
    given = ("--sub", str(USER), "--expires-in", "60")
    minted = _run("token", "--state-dir", tmp_path, *given).stdout.strip()
    claims = jwt.decode(minted, options={"verify_signature": False})
    assert claims["sub"] == str(USER)
    assert claims["exp"] - claims["iat"] == 60


def test_a_network_is_not_opened_by_a_slip(tmp_path: Path) -> None:
    """Another address than loopback needs a second word, which the refusal names."""
    done = _run("local", "--state-dir", tmp_path, "--host", "0.0.0.0", "--port", "0")
    assert done.exit_code == 2
    assert "--allow-remote" in done.stderr
    assert not (tmp_path / "supabase").exists()


def test_migrations_are_written_once_and_again_without_a_change(tmp_path: Path) -> None:
    """The files hold the released SQL; writing them again is no error."""
    folder = tmp_path / "supabase" / "migrations"
    first = json.loads(_run("migrations", folder, "--json").stdout)
    for file in folder.iterdir():
        os.utime(file, (1, 1))
    second = json.loads(_run("migrations", folder, "--json").stdout)
    assert {file.stat().st_mtime for file in folder.iterdir()} == {1}
    assert first == second
    assert [Path(path).name for path in first["written"]] == [m.filename for m in migrations()]
    assert [Path(path).read_text() for path in first["written"]] == [m.sql for m in migrations()]


def test_a_migration_that_was_edited_is_not_overwritten(tmp_path: Path) -> None:
    """Somebody's work is named and stays."""
    edited = tmp_path / migrations()[0].filename
    edited.write_text("-- mine\n")
    done = _run("migrations", tmp_path)
    assert done.exit_code == 1
    assert edited.name in done.stderr
    assert edited.read_text() == "-- mine\n"


def test_check_finds_the_local_supabase_current(local_supabase: LocalSupabase) -> None:
    """A database that has every migration passes, with exit code 0."""
    done = _run("migrations", "--check", "--db-url", local_supabase.db_url, "--json")
    assert json.loads(done.stdout)["current"] is True, done.output
    assert done.exit_code == 0


def test_check_finds_an_empty_database_behind(local_supabase: LocalSupabase) -> None:
    """A database without our migrations fails, and every one of them is named."""
    name = "conv_rt_check_empty"
    with psycopg.connect(local_supabase.db_url, autocommit=True) as connection:
        connection.execute(f"create database {name}")
    try:
        db_url = local_supabase.db_url.rpartition("/")[0] + f"/{name}"
        done = _run("migrations", "--check", "--db-url", db_url, "--json")
        assert done.exit_code == 1
        assert json.loads(done.stdout)["missing"] == [m.filename for m in migrations()]
    finally:
        with psycopg.connect(local_supabase.db_url, autocommit=True) as connection:
            connection.execute(f"drop database {name}")


def test_check_knows_files_that_were_pasted(supabase_local: SupabaseLocal) -> None:
    """In the SQL Editor: the Supabase CLI has no record of them, the database has."""
    with psycopg.connect(supabase_local.db_url) as connection:
        connection.execute("delete from supabase_migrations.schema_migrations")
        connection.execute("delete from conv_realtime.versions where version = '20260101000500'")
    done = _run("migrations", "--check", "--db-url", supabase_local.db_url, "--json")
    assert json.loads(done.stdout)["missing"] == ["20260101000500_conv_realtime_topics.sql"]


def test_check_without_a_database_says_what_is_missing() -> None:
    """Usage errors name the option, and a database that does not answer is no traceback."""
    assert "--db-url" in _run("migrations", "--check").stderr
    for url in ("postgresql://127.0.0.1:1/none", "https://project.supabase.co"):
        done = _run("migrations", "--check", "--db-url", url)
        assert done.exit_code == 2
        assert done.stderr.startswith("Error: --db-url: ")
        assert len(done.stderr.splitlines()) == 1


def test_check_without_a_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """And of no URL that would do as well."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    done = _run("migrations", "--check", "--db-url", "postgresql://127.0.0.1:1/none")
    assert done.exit_code == 2
    assert "comparing a database needs: pip install 'conv_realtime[local]'" in done.stderr
    assert "SUPABASE_URL" not in done.stderr


def test_a_migration_with_another_text_is_called_changed() -> None:
    """How a file was split into statements does not matter, what it says does."""
    texts: dict[str, str | None] = {m.version: m.sql.replace(";", ";\n\n;") for m in migrations()}
    assert difference(texts).current
    first = migrations()[0]
    texts[first.version] = "select 1"
    assert difference(texts).changed == [first.filename]
