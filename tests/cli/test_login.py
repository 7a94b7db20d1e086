"""`login`, and the commands that then run as the user, at a project with an auth server."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from conv_realtime.cli import main
from conv_realtime.edges.session import read_session
from conv_realtime.testing import SupabaseLocal, claude_line
from tests.auth_server import CODE, AuthServer, auth_server
from tests.cli.conftest import Runner
from tests.commands import eventually

EMAIL, PASSWORD = "ada@example.com", "correct horse"


@pytest.fixture
def auth(supabase_local: SupabaseLocal) -> Iterator[AuthServer]:
    """The project's auth server; it knows one user."""
    with auth_server(supabase_local) as server:
        server.add_user(EMAIL, PASSWORD, supabase_local.owner_id)
        yield server


@pytest.fixture
def variables(supabase_local: SupabaseLocal, home: Path) -> dict[str, str]:
    """What a laptop has set: no secret."""
    return {
        "SUPABASE_URL": supabase_local.url,
        "SUPABASE_PUBLISHABLE_KEY": supabase_local.publishable_key,
        "CONV_REALTIME_STATE_DIR": str(home / "state"),
    }


def _run(variables: dict[str, str], *arguments: str | Path, said: str = "") -> Result:
    words = [str(argument) for argument in arguments]
    return CliRunner(env=variables).invoke(main, words, input=said)


def _login(variables: dict[str, str], **more: str) -> Result:
    given = {"CONV_REALTIME_PASSWORD": PASSWORD, **more}
    return _run(variables | given, "login", "--email", EMAIL, "--json")


def _messages(supabase: SupabaseLocal, token: str) -> list[str]:
    headers = {"apikey": supabase.publishable_key, "authorization": f"Bearer {token}"}
    answer = httpx.get(f"{supabase.url}/rest/v1/messages?order=seq", headers=headers)
    return [row["text"] for row in answer.raise_for_status().json()]


def test_a_user_signs_in_by_password(
    auth: AuthServer, variables: dict[str, str], supabase_local: SupabaseLocal, home: Path
) -> None:
    """The session is this account's alone to read, and nothing of it is printed."""
    done = _login(variables)
    assert json.loads(done.stdout) == {"owner_id": supabase_local.owner_id}
    kept = read_session(home / "state")
    assert kept is not None and kept.email == EMAIL
    assert stat.S_IMODE((home / "state" / "session.json").stat().st_mode) == 0o600
    for secret in (PASSWORD, kept.access_token, kept.refresh_token):
        assert secret not in done.output
        assert secret not in repr(kept)


def test_a_user_signs_in_by_a_code(
    auth: AuthServer, variables: dict[str, str], supabase_local: SupabaseLocal
) -> None:
    """It is sent to the address, and typed."""
    done = _run(variables, "login", "--code", said=f"{EMAIL}\n {CODE} \n")
    assert done.exit_code == 0, done.output
    assert auth.sent == [EMAIL]
    assert f"signed in as {EMAIL} ({supabase_local.owner_id})" in done.stdout


def test_what_is_piped_in_is_read(auth: AuthServer, variables: dict[str, str]) -> None:
    """For scripts: an address and a password, a line each."""
    assert _run(variables, "login", said=f"{EMAIL}\n{PASSWORD}\n").exit_code == 0
    nobody = _run(variables, "login")
    assert nobody.exit_code == 2
    assert "nobody to ask" in nobody.stderr


@pytest.mark.parametrize(
    ("more", "arguments", "code", "says"),
    [
        ({"CONV_REALTIME_PASSWORD": "wrong"}, (), 1, "the password is wrong"),
        ({}, ("--email", "eve@example.com", "--code"), 1, "no user of this address"),
        ({"SUPABASE_SECRET_KEY": "sb_secret_x"}, (), 2, "nobody needs to sign in"),
        ({"SUPABASE_PUBLISHABLE_KEY": ""}, (), 2, "SUPABASE_PUBLISHABLE_KEY"),
        ({"SUPABASE_URL": ""}, (), 2, "SUPABASE_URL"),
        ({"SUPABASE_URL": "http://127.0.0.1:1"}, (), 1, "does not answer"),
        ({"SUPABASE_URL": "http://[::1:80"}, (), 1, "see SUPABASE_URL"),
    ],
)
def test_what_is_refused_says_why(
    auth: AuthServer,
    variables: dict[str, str],
    home: Path,
    more: dict[str, str],
    arguments: tuple[str, ...],
    code: int,
    says: str,
) -> None:
    """In one line, with what to do; nothing is kept."""
    given = variables | {"CONV_REALTIME_PASSWORD": PASSWORD} | more
    done = _run(given, "login", "--email", EMAIL, *arguments)
    assert done.exit_code == code, done.output
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert read_session(home / "state") is None


def test_a_wrong_code_is_refused(auth: AuthServer, variables: dict[str, str]) -> None:
    """And says what to do."""
    done = _run(variables, "login", "--email", EMAIL, "--code", said="000000\n")
    assert done.exit_code == 1
    assert "ask for another one" in done.stderr


def test_a_page_of_html_is_no_auth_server(
    supabase_local: SupabaseLocal, variables: dict[str, str]
) -> None:
    """The network of a hotel; a project without sign-in, such as the local one."""
    with supabase_local.faults.captive_portal():
        assert "no auth server" in _login(variables).stderr
    assert _login(variables).exit_code == 1


@pytest.mark.parametrize("body", ['{"message": ""}', '{"message": null}', '""'])
def test_a_refusal_without_words_is_told(
    supabase_local: SupabaseLocal, variables: dict[str, str], body: str
) -> None:
    """As of a gateway that keeps its reasons to itself; it ended in a traceback."""
    with supabase_local.faults.answer(403, body=body):
        assert "session: 403: no message; sign in again" in _login(variables).stderr


def test_the_others_run_as_the_user(
    auth: AuthServer, variables: dict[str, str], supabase_local: SupabaseLocal, home: Path
) -> None:
    """Rows are theirs without an owner being set, through row level security both ways."""
    transcripts = home / "projects"
    transcripts.mkdir()
    (transcripts / "s.jsonl").write_bytes(claude_line("mine"))
    before = _run(variables, "backfill", transcripts)
    assert before.exit_code == 2
    assert "conv-realtime login" in before.stderr
    assert _login(variables).exit_code == 0
    done = _run(variables, "backfill", transcripts, "--json")
    assert json.loads(done.stdout)["changed"] == 3, done.output
    assert _messages(supabase_local, supabase_local.token()) == ["mine"]
    assert _messages(supabase_local, supabase_local.token(sub=_stranger())) == []
    assert _run(variables, "verify", transcripts).exit_code == 0
    examined = _run(variables, "doctor", transcripts, "--json", "--no-forecast")
    assert examined.exit_code == 0, examined.output
    (row,) = _conversations(supabase_local)
    assert _run(variables, "forget", row["id"], "--yes").exit_code == 0
    assert _messages(supabase_local, supabase_local.token()) == [""]


def test_signing_out_ends_the_session_there_too(
    auth: AuthServer, variables: dict[str, str], home: Path
) -> None:
    """What was kept is gone, and would be of no use."""
    _login(variables)
    done = _run(variables, "login", "--sign-out")
    assert (done.exit_code, done.stdout[:14]) == (0, "signed out ada")
    assert auth.sessions[0].ended
    assert not (home / "state" / "session.json").exists()
    assert "nobody was" in _run(variables, "login", "--sign-out").stdout


def test_a_session_that_has_ended_is_told(
    auth: AuthServer, variables: dict[str, str], supabase_local: SupabaseLocal, home: Path
) -> None:
    """By whatever needs it, and by `doctor`."""
    (home / "projects").mkdir()
    auth.lifetime = 0
    _login(variables)
    auth.sessions[0].ended = True
    for command in ("backfill", "serve"):
        done = _run(variables, command, *((home / "projects",) if command == "backfill" else ()))
        assert done.exit_code == 2
        assert "conv-realtime login" in done.stderr
    examined = _run(variables, "doctor", home / "projects", "--json")
    checks = {line["check"]: line for line in map(json.loads, examined.stdout.splitlines())}
    assert checks["session"]["state"] == "failed"
    assert checks["session"]["remedy"] == "run: conv-realtime login"
    with supabase_local.faults.answer(503, path="/auth/v1/token"):
        examined = _run(variables, "doctor", home / "projects", "--json")
    checks = {line["check"]: line for line in map(json.loads, examined.stdout.splitlines())}
    assert "the network" in checks["session"]["remedy"], "signing in would be of no use"


def test_a_session_of_another_project_is_not_used(
    auth: AuthServer, variables: dict[str, str], home: Path
) -> None:
    """A token must not be shown to a stranger."""
    (home / "projects").mkdir()
    _login(variables)
    done = _run(variables | {"SUPABASE_URL": "http://127.0.0.1:1"}, "backfill", home / "projects")
    assert done.exit_code == 2
    assert "is not the project that" in done.stderr


def test_serve_runs_as_the_user(
    auth: AuthServer, variables: dict[str, str], supabase_local: SupabaseLocal,
    conv_realtime: Runner,
) -> None:  # fmt: skip
    """On their own topic; when the session ends, /healthz and `status` say what to do."""
    _login(variables)
    often = {"CONV_REALTIME_RECONCILE_INTERVAL": "0.5"}
    command = conv_realtime("serve", "--json", "--port", "0", **variables, **often)
    ready = command.json()
    assert ready["owner_id"] == supabase_local.owner_id
    health = f"{ready['viewer']}healthz"
    eventually(lambda: httpx.get(health).json()["feed"]["state"] == "live")
    auth.sessions[0].ended = True
    supabase_local.faults.expire_tokens()
    told = eventually(lambda: httpx.get(health).json()["feed"].get("last_error"))
    assert "conv-realtime login" in told
    (status,) = map(json.loads, _run(variables, "status", "--json").stdout.splitlines())
    assert status["last_error"] == told
    _login(variables)
    eventually(lambda: httpx.get(health).json()["feed"]["state"] == "live")
    assert command.end() == 130


def _stranger() -> str:
    return "5e551011-0000-4000-8000-0000000000ff"


def _conversations(supabase: SupabaseLocal) -> list[dict[str, Any]]:
    headers = {"apikey": supabase.secret_key}
    rows: list[dict[str, Any]] = httpx.get(
        f"{supabase.url}/rest/v1/conversations", headers=headers
    ).json()
    return rows
