"""`doctor` finds each wrong set-up by trying it: nothing wrong, the machine, the forecast."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from conv_realtime.cli.checkup import forecast, machine
from conv_realtime.testing import SupabaseLocal, claude_line
from tests.cli.conftest import Runner
from tests.cli.examined import Doctor, rows, write

ORDER = (
    "state directory", "transcripts", "watching", "url", "clock", "key", "owner", "schema",
    "rights", "realtime", "round trip", "forecast",
)  # fmt: skip


def test_where_nothing_is_wrong_all_is_ok_and_nothing_is_left(
    doctor: Doctor, supabase_local: SupabaseLocal
) -> None:
    """Every check, in the order in which one builds on another; the tables stay empty."""
    write(doctor.paths, "one")
    found = doctor()
    assert tuple(found) == ORDER
    assert {one["state"] for one in found.values()} == {"ok"}
    assert doctor.code == 0
    assert "comes back in" in found["round trip"]["says"]
    assert rows(supabase_local) == (0, 0, 0)


def test_with_write_the_database_itself_is_heard_and_nothing_is_left(
    doctor: Doctor, supabase_local: SupabaseLocal
) -> None:
    """A row of nobody's is written, heard of, and erased."""
    found = doctor("--write")
    assert found["round trip"]["state"] == "ok"
    assert found["round trip"]["facts"]["written_ms"] > 0
    assert rows(supabase_local) == (0, 0, 0)


def test_a_user_is_examined_as_themselves(doctor: Doctor, supabase_local: SupabaseLocal) -> None:
    """With a user's token everything goes through row level security, and needs no owner."""
    token = supabase_local.token()
    found = doctor(SUPABASE_SECRET_KEY=token, CONV_REALTIME_OWNER_ID=None)
    states = {name: one["state"] for name, one in found.items()}
    assert states.pop("transcripts") == "warning"
    assert set(states.values()) == {"ok"}
    assert found["realtime"]["facts"]["topic"].endswith(supabase_local.owner_id)
    assert rows(supabase_local) == (0, 0, 0)


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


def test_a_path_of_which_nothing_can_be_told(doctor: Doctor, home: Path) -> None:
    """As one in a folder of another account; root has none that is closed, and none so long."""
    path = str(home / ("n" * 300))
    failed = doctor.failing(path)
    assert list(failed) == ["transcripts"]
    assert failed["transcripts"]["says"].startswith(f"{path}: ")


def test_transcripts_that_cannot_be_read_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as those of another account; root may read them all, so the answer is made up."""
    write(tmp_path, "one")
    (path,) = tmp_path.rglob("*.jsonl")
    monkeypatch.setattr(os, "access", lambda *_: False)
    check = machine.Transcripts([tmp_path]).find()
    assert (check.state, check.facts["files"]) == ("warning", 1)
    assert check.says.endswith(f"; 1 cannot be read, such as {path}")


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


async def test_an_interrupted_check_closes_nothing_that_is_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders are gone through on a thread, which is waited for."""
    begun, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def enter_all(*_: object) -> int:
        loop.call_soon_threadsafe(begun.set)
        return int(go_on.wait(30))

    monkeypatch.setattr(machine, "_enter_all", enter_all)
    check = asyncio.create_task(machine.watching([tmp_path]))
    await begun.wait()
    check.cancel()
    done, _ = await asyncio.wait({check}, timeout=0.2)
    go_on.set()
    assert not done
    await asyncio.wait({check})
    assert check.cancelled()


# The forecast --------------------------------------------------------------------------------


def test_the_forecast_counts_the_last_thirty_days(doctor: Doctor) -> None:
    """Four Realtime messages a message, and nothing of what is older."""
    now = datetime.now(UTC)
    write(doctor.paths, "old", at=now - timedelta(days=40))
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
    write(doctor.paths, "one", "two", "three", at=datetime.now(UTC))
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
