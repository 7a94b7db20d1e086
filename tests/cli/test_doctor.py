"""`doctor` finds each wrong set-up by trying it: every check is made to fail for real here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from click.testing import CliRunner

from conv_realtime.cli import main
from conv_realtime.cli.checkup import channel, forecast
from conv_realtime.local import LocalSupabase
from conv_realtime.local.keys import mint
from conv_realtime.testing import SupabaseLocal, SupabaseServer, claude_line
from tests.cli.conftest import Runner

ORDER = (
    "state directory", "transcripts", "watching", "url", "clock", "key", "owner", "schema",
    "rights", "realtime", "round trip", "forecast",
)  # fmt: skip


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


@pytest.fixture
def doctor(home: Path, supabase_local: SupabaseLocal) -> Doctor:
    """A set-up in which nothing is wrong but that there is no transcript."""
    return Doctor(home, supabase_local)


def _write(folder: Path, *said: str, at: datetime | None = None) -> None:
    times = {} if at is None else {"timestamp": at.isoformat()}
    (folder / "s.jsonl").write_bytes(
        b"".join(claude_line(text, uuid=text, **times) for text in said)
    )


def _rows(supabase: SupabaseLocal) -> tuple[Any, ...]:
    with psycopg.connect(supabase.db_url) as connection:
        row = connection.execute(
            "select (select count(*) from public.projects),"
            " (select count(*) from public.conversations), (select count(*) from public.messages)"
        ).fetchone()
    assert row is not None
    return row


def _run(supabase: SupabaseLocal, statement: str) -> None:
    with psycopg.connect(supabase.db_url, autocommit=True) as connection:
        connection.execute(statement.encode())


def test_where_nothing_is_wrong_all_is_ok_and_nothing_is_left(
    doctor: Doctor, supabase_local: SupabaseLocal
) -> None:
    """Every check, in the order in which one builds on another; the tables stay empty."""
    _write(doctor.paths, "one")
    found = doctor()
    assert tuple(found) == ORDER
    assert {one["state"] for one in found.values()} == {"ok"}
    assert doctor.code == 0
    assert "comes back in" in found["round trip"]["says"]
    assert _rows(supabase_local) == (0, 0, 0)


def test_with_write_the_database_itself_is_heard_and_nothing_is_left(
    doctor: Doctor, supabase_local: SupabaseLocal
) -> None:
    """A row of nobody's is written, heard of, and erased."""
    found = doctor("--write")
    assert found["round trip"]["state"] == "ok"
    assert found["round trip"]["facts"]["written_ms"] > 0
    assert _rows(supabase_local) == (0, 0, 0)


def test_a_user_is_examined_as_themselves(doctor: Doctor, supabase_local: SupabaseLocal) -> None:
    """With a user's token everything goes through row level security, and needs no owner."""
    token = supabase_local.token()
    found = doctor(SUPABASE_SECRET_KEY=token, CONV_REALTIME_OWNER_ID=None)
    states = {name: one["state"] for name, one in found.items()}
    assert states.pop("transcripts") == "warning"
    assert set(states.values()) == {"ok"}
    assert found["realtime"]["facts"]["topic"].endswith(supabase_local.owner_id)
    assert _rows(supabase_local) == (0, 0, 0)


def test_without_a_url_it_examines_the_local_supabase(conv_realtime: Runner, home: Path) -> None:
    """Which is started for it, as for any command; what a person reads is one line a check."""
    (home / ".claude" / "projects").mkdir(parents=True)
    command = conv_realtime("doctor", "--local-port", "0")
    said = command.rest()
    assert (command.process.returncode, said[-1]) == (0, "Nothing is wrong.")
    assert any(line.startswith("ok       round trip") for line in said)


# The machine ---------------------------------------------------------------------------------


def test_a_state_directory_that_cannot_be_written(doctor: Doctor, home: Path) -> None:
    """Here it would have to be a folder in a file."""
    (home / "file").touch()
    failed = doctor.failing(CONV_REALTIME_STATE_DIR=str(home / "file" / "state"))
    assert "cannot be written" in failed["state directory"]["says"]


def test_secrets_that_others_may_read(doctor: Doctor) -> None:
    """The remedy is the command that closes them."""
    kept = doctor.state / "instance.json"
    kept.parent.mkdir()
    kept.touch(0o644)
    failed = doctor.failing()
    assert failed["state directory"]["remedy"] == f"run: chmod 600 {kept}"
    kept.chmod(0o600)
    assert not doctor.failing()


def test_no_transcripts_are_worth_a_word_and_no_failure(doctor: Doctor) -> None:
    """A server that only serves has none."""
    found = doctor()
    assert (found["transcripts"]["state"], doctor.code) == ("warning", 0)
    assert "forecast" not in found


@pytest.mark.skipif(sys.platform != "linux", reason="is about inotify")
def test_more_folders_than_the_system_watches(doctor: Doctor) -> None:
    """The limit is set below the number of folders, in a user namespace of its own."""
    for number in range(12):
        (doctor.paths / str(number)).mkdir()
    limit = 'echo 5 > /proc/sys/user/max_inotify_watches && exec "$@"'
    program = [sys.executable, "-m", "conv_realtime", "doctor", str(doctor.paths), "--json"]
    unshare = shutil.which("unshare")
    assert unshare is not None
    done = subprocess.run(
        [unshare, "-Ur", "sh", "-c", limit, "sh", *program],
        env={**doctor.variables, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    (watching,) = (line for line in lines if line["check"] == "watching")
    assert (watching["state"], done.returncode) == ("failed", 1), done.stderr
    assert watching["facts"]["folders"] == 13
    assert "max_user_watches" in watching["remedy"]


# The project ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1:1", "cannot be reached"),
        ("http://no-such-host.invalid", "cannot be reached"),
        ("postgresql://postgres:secret@db/postgres", "the address of a database"),
        ("my-project", "no URL"),
        ("https://supabase.com/dashboard/project/abcdefghijklmnopqrst/api", "the dashboard's"),
        ("https://abcdefghijklmnopqrst.supabase.co/rest/v1/", "has a path"),
    ],
)
def test_a_url_that_leads_nowhere(doctor: Doctor, url: str, says: str) -> None:
    """It is told what is wrong, and what builds on it is not tried."""
    found = doctor(SUPABASE_URL=url)
    assert says in found["url"]["says"]
    assert (found["url"]["state"], found["rights"]["state"], doctor.code) == (
        "failed", "skipped", 1
    )  # fmt: skip
    assert found["realtime"]["state"] == "skipped"
    assert "secret@" not in doctor.output


def test_the_dashboards_address_is_answered_with_the_right_one(doctor: Doctor) -> None:
    """It holds the project's name."""
    failed = doctor.failing(SUPABASE_URL="https://supabase.com/dashboard/project/abcd")
    assert failed["url"]["remedy"] == "set it to https://abcd.supabase.co"


def test_what_answers_is_no_supabase(doctor: Doctor, supabase_local: SupabaseLocal) -> None:
    """The page of a hotel, a redirection, a paused project, one that is unwell."""
    with supabase_local.faults.captive_portal():
        assert "no Supabase" in doctor.failing()["url"]["says"]
    with supabase_local.faults.answer(301, headers={"location": "https://elsewhere.example"}):
        assert "elsewhere.example" in doctor.failing()["url"]["says"]
    with supabase_local.faults.answer(540, body="Project paused"):
        assert "paused" in doctor.failing()["url"]["says"]
    with supabase_local.faults.answer(503):
        assert "503" in doctor.failing()["url"]["says"]
    with supabase_local.faults.answer(404):
        assert "no Supabase" in doctor.failing()["url"]["says"]
    with supabase_local.faults.disconnect():
        assert "cannot be reached" in doctor.failing()["url"]["says"]


@contextmanager
def _clock_of(offset: timedelta) -> Iterator[str]:
    """A server that answers the first question, and tells another time."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(b'"20000101000000"')

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string((datetime.now(UTC) + offset).timestamp())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="another clock")
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("hours", "state"), [(1, "failed"), (-1, "failed"), (0, "ok")], ids=["behind", "ahead", "right"]
)
def test_a_clock_that_is_wrong(doctor: Doctor, hours: int, state: str) -> None:
    """Told by the server's own, to within what tokens forgive."""
    with _clock_of(timedelta(hours=hours)) as url:
        clock = doctor(SUPABASE_URL=url)["clock"]
    assert clock["state"] == state
    assert abs(clock["facts"]["ahead_seconds"] + hours * 3600) < 30


def test_keys_that_do_not_do(
    doctor: Doctor, supabase_local: SupabaseLocal, local_supabase: LocalSupabase
) -> None:
    """The publishable one, another project's, an expired one, and what is no key at all."""
    expired = mint(supabase_local.jwt_secret, "service_role", -3600)
    for key, says in (
        (supabase_local.publishable_key, "may read and write nothing"),
        ("sb_publishable_abc", "the project refuses"),
        (local_supabase.secret_key, "PGRST301"),
        ("sb_secret_abc", "the project refuses"),
        (expired, "expired on"),
        ("sbp_0123456789abcdef", "personal access token"),
        ("hunter2", "no key of Supabase"),
    ):
        found = doctor(SUPABASE_SECRET_KEY=key)
        assert says in found["key"]["says"], key[:8]
        assert (found["key"]["state"], found["rights"]["state"]) == ("failed", "skipped")
        assert doctor.code == 1
    body = {"message": "Invalid API key", "hint": "Double check your API key."}
    with supabase_local.faults.answer(401, body=body):  # as the hosted gateway says it
        assert "(Invalid API key)" in doctor.failing()["key"]["says"]
    assert (
        "conv-realtime login"
        in doctor.failing(SUPABASE_SECRET_KEY=supabase_local.publishable_key)["key"]["remedy"]
    )


def test_the_key_of_another_hosted_project_is_known_by_its_form(doctor: Doctor) -> None:
    """Also without a network: older keys name their project."""
    key = mint("a" * 32, "service_role", 3600, ref="b" * 20)
    failed = doctor.failing(SUPABASE_URL=f"https://{'a' * 20}.supabase.co", SUPABASE_SECRET_KEY=key)
    assert "b" * 20 in failed["key"]["says"]


def test_no_key_at_all(doctor: Doctor) -> None:
    """It says which variable to set."""
    failed = doctor.failing(SUPABASE_SECRET_KEY=None)
    assert "SUPABASE_SECRET_KEY" in failed["key"]["remedy"]


def test_owners_that_do_not_do(doctor: Doctor, supabase_local: SupabaseLocal) -> None:
    """None, one that the project does not have, and another than the one who is signed in."""
    assert "not set" in doctor.failing(CONV_REALTIME_OWNER_ID=None)["owner"]["says"]
    body = {"code": 404, "error_code": "user_not_found", "msg": "User not found"}
    with supabase_local.faults.answer(404, path="/auth/v1/admin/users/*", body=body):
        assert "has no user" in doctor.failing()["owner"]["says"]
    failed = doctor.failing(
        SUPABASE_SECRET_KEY=supabase_local.token(), CONV_REALTIME_OWNER_ID=str(uuid4())
    )
    assert "rows of their own" in failed["owner"]["says"]


def test_a_project_without_the_schema(
    doctor: Doctor, supabase_local_server: SupabaseServer
) -> None:
    """The remedy is the command that brings it."""
    with supabase_local_server.project(schema=False) as bare:
        failed = doctor.failing(SUPABASE_URL=bare.url, SUPABASE_SECRET_KEY=bare.secret_key)
    assert "supabase db push" in failed["schema"]["remedy"]


def test_a_schema_of_another_version(doctor: Doctor, supabase_local: SupabaseLocal) -> None:
    """An older one fails; one that is newer than this program is worth a word."""
    _run(supabase_local, "delete from conv_realtime.versions where version = '20260101000500'")
    assert "older than" in doctor.failing()["schema"]["says"]
    _run(supabase_local, "insert into conv_realtime.versions values ('29990101000000')")
    assert (doctor()["schema"]["state"], doctor.code) == ("warning", 0)


def test_rights_that_were_taken(doctor: Doctor, supabase_local: SupabaseLocal) -> None:
    """A grant of the server's, a policy of the users', and a policy that was added."""
    _run(supabase_local, "revoke insert on public.messages from service_role")
    _run(supabase_local, "revoke execute on function public.changes_since from service_role")
    (failed, *others) = doctor.failing().items()
    assert failed[0] == "rights"
    assert "write messages: 42501" in failed[1]["says"]
    assert "call changes_since: 42501" in failed[1]["says"]
    assert [name for name, _ in others] == ["round trip"]
    token = supabase_local.token()
    _run(supabase_local, 'drop policy "owners add their projects" on public.projects')
    _run(
        supabase_local,
        'create policy "nobody" on public.messages as restrictive for insert with check (false)',
    )
    says = doctor.failing(SUPABASE_SECRET_KEY=token)["rights"]["says"]
    assert "write projects: 42501" in says
    assert "write messages: 42501" in says
    assert "conversations" not in says
    assert _rows(supabase_local) == (0, 0, 0)


def test_a_probe_that_is_taken_is_erased(doctor: Doctor, supabase_local: SupabaseLocal) -> None:
    """Somebody dropped the checks of a table: the row that was let in goes again."""
    _run(
        supabase_local,
        "do $$ declare name text; begin for name in select conname from pg_constraint"
        " where conrelid = 'public.projects'::regclass and contype = 'c' loop"
        " execute format('alter table public.projects drop constraint %I', name);"
        " end loop; end $$",
    )
    assert "checks are gone" in doctor.failing()["rights"]["says"]
    assert _rows(supabase_local) == (0, 0, 0)


# Realtime ------------------------------------------------------------------------------------


def test_the_file_of_policies_was_never_applied(
    doctor: Doctor, supabase_local: SupabaseLocal
) -> None:
    """Then owners are refused; the remedy names the file."""
    _run(
        supabase_local,
        'drop policy "conv_realtime: owners listen" on realtime.messages;'
        ' drop policy "conv_realtime: nobody else listens" on realtime.messages',
    )
    failed = doctor.failing(SUPABASE_SECRET_KEY=supabase_local.token())
    assert "permissions to read" in failed["realtime"]["says"]
    assert "conv_realtime_topics.sql" in failed["realtime"]["remedy"]


def test_realtime_that_cannot_be_joined(
    doctor: Doctor, supabase_local: SupabaseLocal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused for the whole project, and a proxy that passes no WebSockets."""
    code, message = "RealtimeDisabledForTenant", "Realtime disabled for this tenant"
    with supabase_local.faults.refuse_joins(code=code, message=message):
        assert "enable it" in doctor.failing()["realtime"]["remedy"]
    monkeypatch.setattr(channel, "_JOIN_SECONDS", 1.0)
    with supabase_local.faults.answer(403, method="WEBSOCKET"):
        found = doctor()
    assert "403" in found["realtime"]["says"]
    assert (found["realtime"]["state"], found["round trip"]["state"]) == ("failed", "skipped")


@pytest.mark.parametrize("option", [(), ("--write",)], ids=["a broadcast", "a row"])
def test_messages_that_never_come(
    doctor: Doctor,
    supabase_local: SupabaseLocal,
    monkeypatch: pytest.MonkeyPatch,
    option: tuple[str, ...],
) -> None:
    """Nothing is lost by that, so it is a warning; what was written is erased all the same."""
    monkeypatch.setattr(channel, "_ECHO_SECONDS", 0.3)
    with supabase_local.faults.lose_messages():
        found = doctor(*option)
    assert (found["round trip"]["state"], doctor.code) == ("warning", 0)
    assert _rows(supabase_local) == (0, 0, 0)


def test_a_broadcast_that_is_refused(doctor: Doctor, supabase_local: SupabaseLocal) -> None:
    """As above the rate of the plan."""
    with supabase_local.faults.answer(429, path="/realtime/v1/api/broadcast"):
        assert "429" in doctor.failing()["round trip"]["says"]


def test_changes_that_cannot_be_read(doctor: Doctor, supabase_local: SupabaseLocal) -> None:
    """The database went between two questions."""
    with supabase_local.faults.answer(503, path="/rest/v1/rpc/changes_since"):
        assert set(doctor.failing()) == {"rights", "round trip"}


# The forecast --------------------------------------------------------------------------------


def test_the_forecast_counts_the_last_thirty_days(doctor: Doctor) -> None:
    """Four Realtime messages a message, and nothing of what is older."""
    now = datetime.now(UTC)
    _write(doctor.paths, "old", at=now - timedelta(days=40))
    with (doctor.paths / "s.jsonl").open("ab") as file:
        for number in range(60):
            text = f"new {number}"
            file.write(claude_line(text, uuid=text, timestamp=now.isoformat()))
    found = doctor()["forecast"]
    assert (found["state"], found["facts"]["messages_a_day"]) == ("ok", 2.0)
    assert found["facts"]["realtime_messages_a_month"] == [240, 240]
    assert "Free plan" in found["says"]
    assert "forecast" not in doctor("--no-forecast")


def test_a_forecast_above_every_plan_is_a_warning(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what more costs; it is no failure."""
    monkeypatch.setattr(forecast, "PLANS", (forecast.Plan("Pro", 10, 10),))
    _write(doctor.paths, "one", "two", "three", at=datetime.now(UTC))
    found = doctor()["forecast"]
    assert (found["state"], doctor.code) == ("warning", 0)
    assert "$2.50" in found["says"]


def test_the_plans_are_dated_and_rise() -> None:
    """Somebody who reads a forecast sees how old its facts are."""
    assert datetime.strptime(forecast.FACTS_OF, "%Y-%m")
    sizes = [(plan.realtime_messages, plan.database_bytes) for plan in forecast.PLANS]
    assert sizes == sorted(sizes)


def test_it_leaves_no_trace_in_the_change_stream(
    doctor: Doctor, supabase_local: SupabaseLocal
) -> None:
    """Whoever reads changes sees nothing of an examination."""
    headers = {"apikey": supabase_local.secret_key}
    url = f"{supabase_local.url}/rest/v1/rpc/changes_since"
    before = httpx.post(url, json={}, headers=headers).json()
    doctor()
    assert httpx.post(url, json={"cursor": before["cursor"]}, headers=headers).json() == before
