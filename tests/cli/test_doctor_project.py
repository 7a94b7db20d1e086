"""`doctor` finds what is wrong with a project, a key, a schema or rights, by trying each."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import uuid4

import pytest

from conv_realtime.local import LocalSupabase
from conv_realtime.local.keys import mint
from conv_realtime.testing import SupabaseLocal, SupabaseServer
from tests.cli.examined import Doctor, rows, run


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1:1", "cannot be reached"),
        ("http://no-such-host.invalid", "cannot be reached"),
        ("postgresql://postgres:secret@db/postgres", "the address of a database"),
        ("my-project", "no URL"),
        ("http://[::1:80", "no URL"),
        ("https://supabase.com/dashboard/org/mine", "the dashboard's"),
        ("https://abcdefghijklmnopqrst.supabase.co/functions/v1", "has a path"),
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


def test_https_where_there_is_none(doctor: Doctor, supabase_local: SupabaseLocal) -> None:
    """A clock or a certificate is not what is wrong."""
    failed = doctor.failing(SUPABASE_URL=supabase_local.url.replace("http:", "https:"))
    assert "http://" in failed["url"]["remedy"]


def test_a_proxy_that_is_not_there_is_named(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be reached is the proxy, and nothing is known of the project."""
    monkeypatch.setenv("no_proxy", "")  # which a command adds to
    proxy = "http://no-such-host.invalid:3128"
    failed = doctor.failing(SUPABASE_URL="https://a.supabase.co", HTTPS_PROXY=proxy)
    assert "the proxy is right that HTTPS_PROXY names" in failed["url"]["remedy"]


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
    with supabase_local.faults.answer(503, body={"code": "PGRST002", "message": "Retrying."}):
        away = doctor.failing()["url"]
        assert "away (PGRST002 Retrying.)" in away["says"]
        assert "postgres.log" in away["remedy"]
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


def test_a_wrong_clock_makes_no_key_expire(doctor: Doctor, supabase_local: SupabaseLocal) -> None:
    """Whether it has is a matter of the server's time; the clock is what has to be put right."""
    key = mint(supabase_local.jwt_secret, "service_role", -3600)
    with _clock_of(timedelta(hours=-2)) as url:
        found = doctor(SUPABASE_URL=url, SUPABASE_SECRET_KEY=key)
    assert (found["clock"]["state"], found["key"]["state"]) == ("failed", "ok")


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
    run(supabase_local, "delete from conv_realtime.versions where version = '20260101000500'")
    assert "older than" in doctor.failing()["schema"]["says"]
    run(supabase_local, "insert into conv_realtime.versions values ('29990101000000')")
    assert (doctor()["schema"]["state"], doctor.code) == ("warning", 0)


def test_rights_that_were_taken(doctor: Doctor, supabase_local: SupabaseLocal) -> None:
    """A grant of the server's, a policy of the users', and a policy that was added."""
    run(supabase_local, "revoke insert on public.messages from service_role")
    run(supabase_local, "revoke execute on function public.changes_since from service_role")
    (failed, *others) = doctor.failing().items()
    assert failed[0] == "rights"
    assert "write messages: 42501" in failed[1]["says"]
    assert "call changes_since: 42501" in failed[1]["says"]
    assert [name for name, _ in others] == ["round trip"]
    token = supabase_local.token()
    run(supabase_local, 'drop policy "owners add their projects" on public.projects')
    run(
        supabase_local,
        'create policy "nobody" on public.messages as restrictive for insert with check (false)',
    )
    says = doctor.failing(SUPABASE_SECRET_KEY=token)["rights"]["says"]
    assert "write projects: 42501" in says
    assert "write messages: 42501" in says
    assert "conversations" not in says
    assert rows(supabase_local) == (0, 0, 0)


def test_rights_that_nobody_could_try(doctor: Doctor, supabase_local: SupabaseLocal) -> None:
    """A gateway that answers for the database says nothing of what that would take."""
    with supabase_local.faults.answer(502, path="/rest/v1/messages", method="POST"):
        assert "write messages: 502" in doctor.failing()["rights"]["says"]


def test_a_probe_that_is_taken_is_erased(doctor: Doctor, supabase_local: SupabaseLocal) -> None:
    """Somebody dropped the checks of a table: the row that was let in goes again."""
    run(
        supabase_local,
        "do $$ declare name text; begin for name in select conname from pg_constraint"
        " where conrelid = 'public.projects'::regclass and contype = 'c' loop"
        " execute format('alter table public.projects drop constraint %I', name);"
        " end loop; end $$",
    )
    assert "checks are gone" in doctor.failing()["rights"]["says"]
    assert rows(supabase_local) == (0, 0, 0)
