"""`verify`, `status`, `retry` and `forget`, as a user runs them beside `up`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from conv_realtime.testing import SESSION, claude_line
from tests.cli.conftest import Runner
from tests.commands import Command, eventually
from tests.project import Owner, SupabaseProject


@pytest.fixture
def project(supabase: SupabaseProject, owner: Owner) -> dict[str, str]:
    """The variables that a user of a project has set; the secret key goes before the other."""
    return {
        "SUPABASE_URL": supabase.url,
        "SUPABASE_KEY": supabase.publishable_key,
        "SUPABASE_SECRET_KEY": supabase.secret_key,
        "CONV_REALTIME_OWNER_ID": owner.id,
        "CONV_REALTIME_MACHINE": "upkeep",
        "CONV_REALTIME_REST_SECONDS": "0.1",
    }


def _transcript(home: Path, *said: str, session: str = SESSION, **fields: Any) -> Path:
    path = home / "projects" / "-p" / f"{session}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (
        claude_line(text, session=session, uuid=f"{text}-{session}", **fields) for text in said
    )
    with path.open("ab") as file:
        file.writelines(lines)
    return path


def _lines(command: Command) -> list[dict[str, Any]]:
    return [json.loads(line) for line in command.rest()]


def _rows(project: dict[str, str], table: str, **asked: str) -> list[dict[str, Any]]:
    key = project["SUPABASE_SECRET_KEY"]
    answer = httpx.get(
        f"{project['SUPABASE_URL']}/rest/v1/{table}",
        params={"owner_id": f"eq.{project['CONV_REALTIME_OWNER_ID']}", **asked},
        headers={"apikey": key, "authorization": f"Bearer {key}"},
    )
    rows: list[dict[str, Any]] = answer.raise_for_status().json()
    return rows


@pytest.fixture
def up(conv_realtime: Runner, home: Path, project: dict[str, str]) -> Iterator[dict[str, Any]]:
    """A running instance, and what it said when it was ready."""
    (home / "projects").mkdir()
    command = conv_realtime("up", home / "projects", "--json", "--port", "0", **project)
    yield command.json()
    assert command.end() == 130


def _heard(client: Connection, kind: str, count: int = 1) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < count:
        frame = json.loads(client.recv(timeout=30))
        if frame["type"] == kind:
            found.append(frame["data"])
    return found


def test_forget_erases_for_good(
    conv_realtime: Runner, home: Path, project: dict[str, str], up: dict[str, Any]
) -> None:
    """Database, /ws and state directory: nothing is left, and no re-read brings it back."""
    with connect(up["ws"], proxy=None) as client:
        _transcript(home, "my secret", "another secret", cwd="/secret/place")
        _transcript(home, "harmless", session="5e551011-0000-4000-8000-000000000002")
        said = _heard(client, "new_message", 3)
        eventually(lambda: len(_rows(project, "messages")) == 3)
        id = next(m["conversation_id"] for m in said if "secret" in m["text"])
        asked = conv_realtime("forget", id, **project)
        assert asked.process.wait(60) == 2
        question, error = asked.stderr().splitlines()
        assert "2 messages, for good?" in question
        assert error == "Error: forget: there is nobody to ask for it: --yes is needed"
        assert _rows(project, "messages", text="like.*secret*")
        (erased,) = _lines(conv_realtime("forget", id, "--yes", "--json", **project))
        assert (erased["forgotten"], erased["conversations"]) == (id, [id])
        gone = _heard(client, "message_deleted", 2)
        assert {m["id"] for m in gone} == {m["id"] for m in said if m["conversation_id"] == id}
        (whole,) = _heard(client, "conversation_deleted")
        assert whole["id"] == id
        assert set(whole) == {"id", "revision", "cursor"}
        client.send(json.dumps({"type": "subscribe", "data": {"snapshot": 9}}))
        assert "secret" not in json.dumps(_heard(client, "snapshot"))
        _transcript(home, "a later secret", cwd="/secret/place")
        _transcript(home, "after it", session="5e551011-0000-4000-8000-000000000002")
        (next_one,) = _heard(client, "new_message")
        assert next_one["text"] == "after it"
    fresh = str(home / "fresh")
    for state in (str(home / "state"), fresh):
        read = conv_realtime("backfill", home / "projects", "--state-dir", state, **project)
        assert read.process.wait(60) == 0
    for table in ("conversations", "messages"):
        assert "secret" not in json.dumps(_rows(project, table))
    (one,) = _rows(project, "conversations", id=f"eq.{id}")
    assert one["metadata"] == {"forgotten": True}
    found = conv_realtime("verify", home / "projects", "--json", "--state-dir", fresh, **project)
    *each, summary = _lines(found)
    assert found.process.returncode == 0
    assert {line["id"]: line["state"] for line in each}[id] == "forgotten"
    assert (summary["forgotten"], summary["equal"]) == (1, 1)


def test_a_users_key_forgets_what_is_theirs(
    conv_realtime: Runner, home: Path, project: dict[str, str], owner: Owner
) -> None:
    """With a token the database decides; somebody else's conversation is not there at all."""
    _transcript(home, "my secret")
    read = conv_realtime("backfill", home / "projects", **project)
    assert read.process.wait(60) == 0
    (row,) = _rows(project, "conversations")
    mine = project | {"SUPABASE_SECRET_KEY": owner.token}
    (erased,) = _lines(conv_realtime("forget", row["id"], "--yes", "--json", **mine))
    assert erased["forgotten"] == row["id"]
    assert "secret" not in json.dumps(_rows(project, "messages"))
    missing = conv_realtime("forget", "5e551011-0000-4000-8000-000000000009", "--yes", **mine)
    assert missing.process.wait(60) == 1
    assert "no such conversation" in missing.stderr()


def test_verify_says_what_differs_and_repairs_it(
    conv_realtime: Runner,
    home: Path,
    project: dict[str, str],
    supabase: SupabaseProject,
    owner: Owner,
) -> None:
    """Exit code 1 while something differs; a repair is told, and looked at."""
    path = _transcript(home, "one", "two", "three")
    missing = conv_realtime("verify", home / "projects", **project)
    assert missing.process.wait(60) == 1
    assert "missing" in "".join(missing.rest())
    assert conv_realtime("backfill", home / "projects", **project).process.wait(60) == 0
    with psycopg.connect(supabase.db_url) as connection:
        connection.execute(
            "delete from public.messages where owner_id = %s and text = 'one'", (owner.id,)
        )
        connection.execute(
            "update public.messages set text = 'TWO' where owner_id = %s and text = 'two'",
            (owner.id,),
        )
    told = conv_realtime("verify", home / "projects", "--json", **project)
    one, _ = _lines(told)
    assert (told.process.returncode, one["state"], one["path"]) == (1, "different", str(path))
    assert set(one["differences"]) == {"1 message missing", "1 message with another text"}
    done = conv_realtime("verify", home / "projects", "--repair", **project)
    said = done.rest()
    assert done.process.returncode == 0
    assert said[1] == f"repair {path}: sent again"
    assert said[-1] == "1 conversations: 1 equal, 0 different, 0 missing, 0 forgotten"
    texts = {row["text"] for row in _rows(project, "messages")}
    assert texts == {"one", "two", "three"}


def test_what_is_refused_is_shown_and_tried_again(
    conv_realtime: Runner,
    home: Path,
    project: dict[str, str],
    up: dict[str, Any],
    supabase: SupabaseProject,
) -> None:
    """A constraint of the project's own: named by `status`, and taken when it goes."""
    rule = f"upkeep_{project['CONV_REALTIME_OWNER_ID'].replace('-', '_')}"
    with psycopg.connect(supabase.db_url, autocommit=True) as connection:
        connection.execute(
            f"alter table public.messages add constraint {rule} check (text <> '{rule}')".encode()
        )
        try:
            with connect(up["ws"], proxy=None) as client:
                path = _transcript(home, "before", rule, "behind")
                (gone,) = _heard(client, "message_deleted")
            eventually(lambda: len(_rows(project, "messages")) == 2)
            (status,) = _lines(conv_realtime("status", "--json", **project))
            assert (status["running"], status["ws"], status["last_error"]) == (
                True, up["ws"], None
            )  # fmt: skip
            (letter,) = status["dead_letters"]
            assert (letter["id"], letter["code"], letter["path"]) == (
                gone["id"], "23514", str(path)
            )  # fmt: skip
            assert rule in letter["reason"]
            for words in ((), (letter["id"],)):
                again = conv_realtime("retry", *words, **project)
                assert (again.process.wait(60), again.rest()[0]) == (1, "1 left")
            shown = conv_realtime("status", **project).rest()
            assert any(letter["id"] in line and "23514" in line for line in shown)
        finally:
            connection.execute(f"alter table public.messages drop constraint {rule}".encode())
    taken = conv_realtime("retry", letter["id"], **project)
    assert (taken.process.wait(60), taken.rest()) == (0, ["all taken", "0 dead letters"])
    none = conv_realtime("retry", **project)
    assert (none.process.wait(60), none.rest()) == (0, ["there are no dead letters"])
    unknown = conv_realtime("retry", letter["id"], **project)
    assert unknown.process.wait(60) == 1
    assert "is no dead letter" in unknown.stderr()
    assert {row["text"] for row in _rows(project, "messages")} == {"before", rule, "behind"}
    health = f"{up['viewer']}healthz"
    eventually(lambda: httpx.get(health).json()["ingest"]["dead_letters"] == 0)


def test_status_counts_what_cannot_be_read(
    conv_realtime: Runner, home: Path, project: dict[str, str]
) -> None:
    """All else is read; `sources` names it."""
    os.mkfifo(_transcript(home, "one").with_name("pipe.jsonl"))
    command = conv_realtime("up", home / "projects", "--json", "--port", "0", **project)
    health = f"{command.json()['viewer']}healthz"
    eventually(lambda: httpx.get(health).json()["ingest"]["unreadable"] == 1)
    assert httpx.get(health).json()["status"] == "degraded"
    shown = conv_realtime("status", **project).rest()
    assert "  unreadable     1, which conv-realtime sources names" in shown
    named = conv_realtime("sources", home / "projects", **project).rest()
    assert any("pipe.jsonl" in line for line in named)
    assert command.end() == 130


def test_status_of_a_state_directory_that_nobody_uses(
    conv_realtime: Runner, home: Path, project: dict[str, str]
) -> None:
    """It makes nothing, and says what there is."""
    (status,) = _lines(conv_realtime("status", "--json", **project))
    assert (status["running"], status["files"], status["dead_letters"]) == (False, 0, [])
    assert not (home / "state" / "checkpoints.sqlite3").exists()
    _transcript(home, "one")
    assert conv_realtime("backfill", home / "projects", **project).process.wait(60) == 0
    said = conv_realtime("status", **project)
    assert said.rest()[0] == "nothing runs on this state directory"


def test_status_says_that_the_state_file_cannot_be_read(
    conv_realtime: Runner, home: Path, project: dict[str, str]
) -> None:
    """And not that there are no dead letters."""
    (home / "state").mkdir(exist_ok=True)
    (home / "state" / "checkpoints.sqlite3").write_bytes(b"no database" * 1000)
    (status,) = _lines(conv_realtime("status", "--json", **project))
    assert status["dead_letters"] is None
    assert "checkpoints.sqlite3 cannot be read: file is not a database" in status["last_error"]
    lines = conv_realtime("status", **project).rest()
    assert any(line.strip().startswith("last error") for line in lines)
    assert not any("dead letters" in line for line in lines)


def test_a_second_backfill_says_what_it_did_not_read(
    conv_realtime: Runner, home: Path, project: dict[str, str]
) -> None:
    """So that nobody wonders why it skips less than the first one."""
    with _transcript(home, "one").open("ab") as file:
        file.write(b"not JSON\n")
    said = [conv_realtime("backfill", home / "projects", **project).rest() for _ in range(2)]
    assert [", 1 skipped, " in said[0][0], len(said[0])] == [True, 1]
    assert ", 0 skipped, " in said[1][0]
    assert said[1][1].startswith("1 files are as they were")


def test_status_is_a_table_for_people(
    conv_realtime: Runner, home: Path, project: dict[str, str], up: dict[str, Any]
) -> None:
    """Everything that the design names, a line each."""
    _transcript(home, "one")
    eventually(lambda: len(_rows(project, "messages")) == 1)
    lines = conv_realtime("status", **project).rest()
    said = {line[2:16].strip(): line[17:] for line in lines[1:]}
    assert lines[0].endswith(": ok")
    assert set(said) == {
        "address", "Supabase", "feed", "last event", "watcher", "clients", "files", "lag",
        "last error", "dead letters",
    }  # fmt: skip
    assert (said["address"], said["feed"]) == (up["ws"], "local, live")
    assert (said["watcher"], said["files"], said["last error"]) == ("ok", "1", "none")
