"""`doctor` finds what is wrong with Realtime: by joining, and by hearing what it says."""

from __future__ import annotations

import psycopg
import pytest

from conv_realtime.cli.checkup import channel
from conv_realtime.testing import SupabaseLocal
from tests.cli.examined import Doctor, rows, run


def test_the_file_of_policies_was_never_applied(
    doctor: Doctor, supabase_local: SupabaseLocal
) -> None:
    """Then owners are refused; the remedy names the file."""
    run(
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
    assert rows(supabase_local) == (0, 0, 0)


def test_a_row_that_cannot_be_erased_is_named(
    doctor: Doctor, supabase_local: SupabaseLocal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left behind in silence."""
    monkeypatch.setattr(channel, "_AGAIN_SECONDS", 0.0)
    with supabase_local.faults.answer(403, path="/rest/v1/projects", method="DELETE"):
        failed = doctor.failing("--write")
    with psycopg.connect(supabase_local.db_url) as connection:
        (left,) = connection.execute("select id from public.projects").fetchall()
    assert f"cannot be erased: {left[0]}" in failed["round trip"]["says"]


def test_a_broadcast_that_is_refused(doctor: Doctor, supabase_local: SupabaseLocal) -> None:
    """As above the rate of the plan."""
    with supabase_local.faults.answer(429, path="/realtime/v1/api/broadcast"):
        assert "429" in doctor.failing()["round trip"]["says"]


def test_changes_that_cannot_be_read(doctor: Doctor, supabase_local: SupabaseLocal) -> None:
    """The database went between two questions."""
    with supabase_local.faults.answer(503, path="/rest/v1/rpc/changes_since"):
        assert set(doctor.failing()) == {"rights", "round trip"}
