"""Killed at any moment, ingest ends in exactly what the files say, on a real database."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from conv_realtime.core.formats.claude_code import ClaudeCode
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.ingest.follow import Follower
from conv_realtime.ingest.rows import Identity
from tests.ingest.folding import read_all, state
from tests.ingest.lines import assistant, calls, result, user, uuid
from tests.project import Owner, SupabaseProject

_MACHINE = "killed"
_FILES = 6
_TURNS = 150
_KILLS = 6


def _transcripts(folder: Path) -> list[Path]:
    paths = []
    for number in range(_FILES):
        session = uuid(f"session {number}")
        lines = []
        for turn in range(_TURNS):
            name, parent = f"{number}.{turn}", uuid(f"s{number}.{turn - 1}")
            lines += [
                user(f"q{name}", session=session, at=turn),
                assistant(f"a{name}", f"msg_{name}", session=session, at=turn),
                user(f"s{name}", isSidechain=True, session=session, parentUuid=parent),
                assistant(f"b{name}", f"msg_{name}", calls(f"t{name}"), session=session, at=turn),
                user(f"r{name}", [result(f"t{name}", "x" * 500)], session=session, at=turn),
            ]  # fmt: skip
        path = folder / "-p" / f"{session}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"".join(lines))
        paths.append(path)
    return paths


def _command(
    project: SupabaseProject, owner: Owner, folder: Path
) -> tuple[list[str], dict[str, str]]:
    command = [
        sys.executable,
        "-m",
        "conv_realtime",
        "backfill",
        str(folder / "projects"),
        "--json",
    ]
    return [*command, "--state-dir", str(folder / "state")], {
        **os.environ,
        "SUPABASE_URL": project.url,
        "SUPABASE_SECRET_KEY": project.secret_key,
        "CONV_REALTIME_OWNER_ID": owner.id,
        "CONV_REALTIME_MACHINE": _MACHINE,
        "CONV_REALTIME_BATCH_ROWS": "20",
    }


def _run(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def _cursor(project: SupabaseProject, owner: Owner) -> str:
    headers = {"apikey": project.publishable_key, "authorization": f"Bearer {owner.token}"}
    answer = httpx.post(f"{project.url}/rest/v1/rpc/changes_since", headers=headers, json={})
    return str(answer.json()["cursor"])


def _database(project: SupabaseProject, owner: Owner, table: str) -> dict[str, dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    headers = {"apikey": project.secret_key}
    while len(rows) % 1000 == 0:
        asked = f"owner_id=eq.{owner.id}&order=id&limit=1000&offset={len(rows)}"
        page = httpx.get(f"{project.url}/rest/v1/{table}?{asked}", headers=headers).json()
        rows += page
        if not page:
            break
    return {row["id"]: _comparable(row) for row in rows}


def _comparable(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value.replace("+00:00", "Z") if key.endswith("_at") and value else value
        for key, value in row.items()
        if not key.startswith("change_")
    }


def test_killed_at_random_moments_the_tables_end_equal(
    supabase: SupabaseProject, member: Owner, tmp_path: Path
) -> None:
    """Every column is what the files say; later runs change no row and move no cursor."""
    folder = tmp_path / "projects"
    folder.mkdir()
    paths = _transcripts(folder)
    command, environment = _command(supabase, member, tmp_path)
    chance = random.Random(7)
    killed = 0
    for _ in range(_KILLS):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        try:
            process.wait(timeout=chance.uniform(0.6, 1.6))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
    assert killed, "it was too fast to be killed: write more turns"
    _run(command, environment)
    cursor = _cursor(supabase, member)
    again = _run(command, environment)
    assert (again["changed"], again["messages"]) == (0, _FILES * _TURNS * 4)
    shutil.rmtree(tmp_path / "state")
    assert _run(command, environment)["changed"] == 0
    assert _cursor(supabase, member) == cursor

    expected: dict[str, dict[str, Any]] = {}
    for path in paths:
        follower = Follower(
            str(path), ClaudeCode(), Identity(UUID(member.id), _MACHINE), Sanitizer()
        )
        read_all(follower, path)
        expected.update((row["id"], row) for row in state(follower, path))
    found = _database(supabase, member, "conversations")
    found.update(_database(supabase, member, "messages"))
    assert found.keys() == expected.keys()
    for id, row in expected.items():
        assert found[id] == _comparable(row)
