"""`up`, `serve`, `tail` and `backfill`, as processes, on a local Supabase of their own."""

from __future__ import annotations

import asyncio
import json
import signal
import stat
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
import websockets

from conv_realtime.cli.instance import running
from conv_realtime.local import LocalSupabase
from conv_realtime.testing import SESSION, claude_line
from conv_realtime.testing.formats.examples import built_in
from tests.cli.conftest import Runner
from tests.cli.hearing import WITHIN, until_message
from tests.commands import Command, eventually

FREE = ("--json", "--port", "0")


class Up:
    """A running `up` that the tests of this module share."""

    def __init__(self, start: Callable[..., Command], home: Path) -> None:
        self.start = start
        self.home = home
        self.transcripts = home / ".claude" / "projects"
        self.transcripts.mkdir(parents=True)
        self.command = start("up", *FREE, "--local-port", "0")
        self.ready = self.command.json()

    def append(self, text: str, session: str, **fields: Any) -> None:
        """Append a line to a transcript."""
        folder = self.transcripts / session[:8] / "sub"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{session}.jsonl").open("ab") as file:
            file.write(claude_line(text, session=session, **fields))


@pytest.fixture(scope="module")
def up(session_runner: Callable[..., Any]) -> Up:
    """`conv-realtime up` without any configuration but free ports."""
    return Up(*session_runner())


def test_up_says_what_the_design_says_and_nothing_else(up: Up) -> None:
    """The ready line has every field; the state directory has it too, for the user alone."""
    assert up.ready["event"] == "ready"
    assert set(up.ready) == {
        *("event", "ws", "viewer", "supabase_url"),
        *("publishable_key", "secret_key", "owner_id"),
    }
    assert up.ready["ws"].startswith("ws://127.0.0.1:")
    assert up.ready["ws"].endswith("/ws")
    announced = up.home / "state" / "instance.json"
    assert stat.S_IMODE(announced.stat().st_mode) == 0o600
    assert json.loads(announced.read_text())["pid"] == up.command.process.pid


async def test_a_line_is_on_ws_and_in_postgres(up: Up) -> None:
    """The usual place of Claude Code is watched, in folders that are new, to both ends."""
    session = str(uuid4())
    event = await until_message(up.ready["ws"], "hello", lambda: up.append("hello", session))
    assert set(event) == {"type", "data"}
    key = up.ready["secret_key"]
    rows = eventually(
        lambda: httpx.get(
            f"{up.ready['supabase_url']}/rest/v1/messages",
            params={"id": f"eq.{event['data']['id']}"},
            headers={"apikey": key, "Authorization": f"Bearer {key}"},
        ).json()
    )
    assert rows[0]["text"] == "hello"
    assert rows[0]["owner_id"] == up.ready["owner_id"]


async def test_a_file_that_is_rewritten_is_on_ws_and_in_postgres(up: Up) -> None:
    """Each state of a Gemini CLI session: what is new, what changed, and what it took back."""
    (example,) = [one for one in built_in("gemini_cli") if one.name.endswith(".json")]
    path = up.transcripts / example.name
    path.parent.mkdir(parents=True)
    got: list[tuple[str, int, str]] = []
    async with asyncio.timeout(2 * WITHIN), websockets.connect(up.ready["ws"]) as client:
        assert json.loads(await client.recv())["type"] == "connection_established"
        # Each state is waited for in the database: what never got there is not taken back there.
        for state, events, spoken in zip(example.states, (2, 3, 2, 2), (2, 3, 5, 3), strict=True):
            path.write_bytes(state)
            seen = 0
            while seen < events:
                event = json.loads(await client.recv())
                if event["type"] in ("new_message", "message_update", "message_deleted"):
                    data = event["data"]
                    got.append((event["type"], data["revision"], data.get("text", "")))
                    seen += 1
            stored = await asyncio.to_thread(_gemini_rows, up, spoken)
    assert sorted(got[2:5]) == [
        ("message_update", 2, ""),
        ("new_message", 1, "Carrots and peas are sown."),
        ("new_message", 1, "Gemini CLI update available."),
    ]
    assert got[7:] == [("message_deleted", 3, "")] * 2
    assert [(row["seq"], row["revision"], row["deleted_at"] is None) for row in stored] == [
        (0, 1, True), (1, 2, True), (2, 1, True), (3, 1, True), (4, 3, False), (5, 3, False),
    ]  # fmt: skip
    again = up.start(
        *("backfill", path, "--json"),
        CONV_REALTIME_STATE_DIR=str(up.home / "other"),
        SUPABASE_URL=up.ready["supabase_url"],
        SUPABASE_SECRET_KEY=up.ready["secret_key"],
        CONV_REALTIME_OWNER_ID=up.ready["owner_id"],
        CONV_REALTIME_MACHINE=_machine(up),
    )
    summary = again.json()
    assert (summary["messages"], summary["changed"], summary["skipped"]) == (4, 0, 0)


def _gemini_rows(up: Up, spoken: int) -> list[dict[str, Any]]:
    """Return all messages of Gemini CLI once its conversation counts so many."""
    key = up.ready["secret_key"]

    def look() -> list[dict[str, Any]] | None:
        found: list[dict[str, Any]] = httpx.get(
            f"{up.ready['supabase_url']}/rest/v1/messages",
            params={
                "select": "seq,revision,deleted_at,conversations!inner(source,message_count)",
                "conversations.source": "eq.gemini_cli",
                "order": "seq",
            },
            headers={"apikey": key, "Authorization": f"Bearer {key}"},
        ).json()
        counts = {row["conversations"]["message_count"] for row in found}
        return found if counts == {spoken} else None

    return eventually(look)


def _machine(up: Up) -> str:
    """Return the name of the machine that the rows of `up` have."""
    key = up.ready["secret_key"]
    (row,) = httpx.get(
        f"{up.ready['supabase_url']}/rest/v1/projects",
        params={"select": "machine", "limit": "1"},
        headers={"apikey": key, "Authorization": f"Bearer {key}"},
    ).json()
    return str(row["machine"])


def test_the_viewer_is_served_with_a_strict_policy(up: Up) -> None:
    """The page and its files come from here, and nothing may come from elsewhere."""
    for path, kind in (("", "html"), ("viewer.js", "javascript"), ("viewer.css", "css")):
        with urllib.request.urlopen(up.ready["viewer"] + path) as response:
            assert kind in response.headers["content-type"]
            assert "default-src 'none'" in response.headers["content-security-policy"]
            body = response.read().decode()
        assert "innerHTML" not in body
        assert "http:" not in body.replace("http://${", "") and "https://" not in body


def test_health_is_ok(up: Up) -> None:
    """/healthz says that it watches and that the feed lives."""
    health = _health(up.ready)
    assert health["status"] == "ok"
    assert health["feed"] == {**health["feed"], "kind": "local", "state": "live"}
    assert {"files", "lag_seconds", "queue", "dead_letters", "watcher"} <= set(health["ingest"])


def test_tail_prints_events_and_goes_on_from_a_cursor(up: Up) -> None:
    """A tail finds the running instance; one with --since repeats what came after it."""
    session = str(uuid4())
    tail = up.start("tail", "--json")
    _wait_for_client(up)
    up.append("first", session)
    first = _message(tail, "first")
    up.append("second", session)
    second = _message(tail, "second")
    assert tail.end() == 130
    again = up.start("tail", "--json", "--since", first["data"]["cursor"])
    assert _message(again, "second")["data"]["id"] == second["data"]["id"]
    only = up.start("tail", "--since", first["data"]["cursor"], "--conversation", str(uuid4()))
    _wait_for_client(up, 2)
    assert again.end() == 130
    assert only.end(signal.SIGTERM) == 0
    assert only.rest() == []


def _message(tail: Command, text: str) -> dict[str, Any]:
    while True:
        event = tail.json(WITHIN)
        if event["type"] == "new_message" and event["data"]["text"] == text:
            return event


def _wait_for_client(up: Up, clients: int = 1) -> None:
    """Wait until so many clients are connected: a tail says nothing until there is news."""
    eventually(lambda: _health(up.ready)["clients"] >= clients)


def _health(ready: dict[str, Any]) -> dict[str, Any]:
    with urllib.request.urlopen(ready["viewer"] + "healthz") as response:
        health: dict[str, Any] = json.loads(response.read())
    return health


async def test_a_second_up_serves_what_the_first_ingests(up: Up) -> None:
    """On the same state directory the second works on the first one's Supabase."""
    second = up.start("up", *FREE)
    ready = second.json()
    assert ready["supabase_url"] == up.ready["supabase_url"]
    session = str(uuid4())
    event = await until_message(ready["ws"], "for both", lambda: up.append("for both", session))
    assert event["data"]["conversation"]["source"] == "claude_code"
    assert second.end(signal.SIGTERM) == 0
    announced = json.loads((up.home / "state" / "instance.json").read_text())
    assert announced["pid"] == up.command.process.pid


def test_a_second_up_on_the_port_of_the_first_says_where_that_is(up: Up) -> None:
    """Whoever starts it twice hears that it runs, and where to look."""
    second = up.start("up", "--port", str(urlsplit(up.ready["viewer"]).port))
    assert second.process.wait(30) == 2
    assert f"as process {up.command.process.pid}: open {up.ready['viewer']}" in second.stderr()


def test_a_second_up_for_another_supabase_is_refused(up: Up, local_supabase: LocalSupabase) -> None:
    """It would say that it is ready, and nothing would ever arrive there."""
    second = up.start(
        *("up", *FREE),
        SUPABASE_URL=local_supabase.url,
        SUPABASE_SECRET_KEY=local_supabase.secret_key,
        CONV_REALTIME_OWNER_ID=str(local_supabase.owner_id),
    )
    assert second.process.wait(60) == 2
    assert second.rest() == []
    error = second.stderr().splitlines()[-1]
    assert error.startswith(f"Error: --state-dir: process {up.command.process.pid} sends")
    assert up.ready["supabase_url"] in error
    assert local_supabase.url in error


def test_a_second_up_may_call_the_same_supabase_by_another_name(up: Up) -> None:
    """`localhost` is no other Supabase, and no second one is needed to serve what it has."""
    second = up.start(
        *("up", *FREE),
        SUPABASE_URL=up.ready["supabase_url"].replace("127.0.0.1", "localhost"),
        SUPABASE_SECRET_KEY=up.ready["secret_key"],
        CONV_REALTIME_OWNER_ID=up.ready["owner_id"],
    )
    assert second.json()["event"] == "ready"
    assert second.end() == 130


def test_status_has_what_a_frontend_needs(up: Up) -> None:
    """Of an `up` that did not print it: the key to sign in with, and no secret one."""
    said = json.loads(up.start("status", "--json").rest()[-1])
    assert said["publishable_key"] == up.ready["publishable_key"]
    assert up.ready["secret_key"] not in said.values()


async def test_serve_shows_what_is_in_the_database(up: Up) -> None:
    """`serve` watches nothing and is fed by Supabase."""
    serve = up.start("serve", *FREE)
    ready = serve.json()
    assert _health(ready)["feed"]["kind"] == "supabase"
    session = str(uuid4())
    await until_message(ready["ws"], "through it", lambda: up.append("through it", session))
    assert serve.end() == 130


def test_backfill_uses_the_running_instance(up: Up, tmp_path: Path) -> None:
    """A second run changes nothing; the summary counts what the files state."""
    session = str(uuid4())
    file = tmp_path / f"{session}.jsonl"
    answer = claude_line("two", "assistant", session=session, message_id="m")
    file.write_bytes(claude_line("one", session=session) + answer + b"not json\n")
    first = up.start("backfill", file, "--json")
    summary = json.loads(first.rest()[-1])
    assert first.process.returncode == 0, first.stderr()
    assert set(summary) == {
        *("event", "files", "conversations", "messages"),
        *("changed", "skipped", "bytes", "seconds", "redacted"),
    }
    counts = {name: summary[name] for name in ("files", "conversations", "messages", "skipped")}
    assert counts == {"files": 1, "conversations": 1, "messages": 2, "skipped": 1}
    assert summary["changed"] >= 3
    assert f"skipped {file} at byte" in first.stderr()
    second = up.start("backfill", file, "--json")
    assert json.loads(second.rest()[-1])["changed"] == 0


def test_backfill_runs_the_local_supabase_for_its_own_duration(
    conv_realtime: Runner, home: Path
) -> None:
    """Without any configuration it works, and again, and after losing its checkpoints."""
    file = home / f"{SESSION}.jsonl"
    file.write_bytes(claude_line("one") + claude_line("two", "assistant"))
    changed = []
    for lost in (False, False, True):
        for checkpoints in home.glob("state/checkpoints*") if lost else ():
            checkpoints.unlink()
        command = conv_realtime("backfill", file, "--json", "--local-port", "0")
        summary = json.loads(command.rest()[-1])
        assert command.process.returncode == 0, command.stderr()
        assert summary["messages"] == 2
        changed.append(summary["changed"])
    assert changed[0] >= 3
    assert changed[1:] == [0, 0]
    assert running(home / "state") is None


@pytest.mark.parametrize("named", [False, True])
def test_an_up_that_finds_no_transcript_says_what_to_do(
    conv_realtime: Runner, home: Path, named: bool
) -> None:
    """In one line, and on the page; neither names a path that the page's readers need not know."""
    (home / ".claude" / "projects").mkdir(parents=True)
    (home / ".claude" / "projects" / "notes.jsonl").write_text("{}\n")
    folder = home / "mine"
    folder.mkdir()
    command = conv_realtime("up", *FREE, "--local-port", "0", *([folder] if named else []))
    page = httpx.get(command.json()["viewer"]).text
    assert "conv-realtime sources" in page
    assert str(home) not in page
    line = eventually(lambda: command.said())
    assert line.startswith(f"no transcript yet in {folder if named else 'the usual places of '}")
    assert "conv-realtime sources" in line
    assert command.end() == 130
    assert len(command.stderr().splitlines()) == 1


def test_an_up_that_finds_some_says_nothing_of_it(conv_realtime: Runner, home: Path) -> None:
    """Neither does one that leaves them to another."""
    (home / "one").mkdir()
    (home / "one" / f"{SESSION}.jsonl").write_bytes(claude_line("hello"))
    first = conv_realtime("up", *FREE, "--local-port", "0", home / "one")
    first.json()
    second = conv_realtime("up", *FREE, home / "two")
    second.json()
    for command in (second, first):
        assert command.end() == 130
    assert (first.stderr(), len(second.stderr().splitlines())) == ("", 1)


def test_backfill_of_what_is_not_there_is_a_usage_error(
    conv_realtime: Runner, tmp_path: Path
) -> None:
    """A path that does not exist is named before anything is started."""
    command = conv_realtime("backfill", tmp_path / "nowhere")
    assert command.process.wait(30) == 2
    assert "nowhere" in command.stderr()


def test_without_any_transcript_backfill_and_verify_find_nothing(conv_realtime: Runner) -> None:
    """On a machine without assistants nothing is wrong, and it says where to look."""
    backfill = conv_realtime("backfill", "--local-port", "0")
    assert backfill.rest()[0].startswith("0 conversations and 0 messages in 0 files: ")
    assert backfill.process.returncode == 0
    assert backfill.stderr().startswith("no transcripts found: conv-realtime sources says where")
    verify = conv_realtime("verify", "--local-port", "0")
    assert verify.rest()[0].startswith("0 conversations: ")
    assert verify.process.returncode == 0


def test_tail_without_an_instance_says_what_to_run(conv_realtime: Runner) -> None:
    """One line, exit code 2."""
    command = conv_realtime("tail")
    assert command.process.wait(30) == 2
    assert "conv-realtime up" in command.stderr()
    assert len(command.stderr().splitlines()) == 1
