"""The examples run as they say."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import httpx
import pytest
from starlette.applications import Starlette
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from conv_realtime import testing
from conv_realtime.cli.server import Server
from conv_realtime.local import LocalSupabase
from conv_realtime.testing import SESSION, SupabaseLocal, claude_line
from tests.auth_server import auth_server
from tests.commands import eventually, free_port
from tests.conftest import Owner

ROOT = Path(__file__).parent.parent
_NOT_SOURCES = shutil.ignore_patterns("__pycache__", ".*")


@pytest.fixture
def environment(tmp_path: Path, local_supabase: LocalSupabase, owner: Owner) -> dict[str, str]:
    """What a user of the examples has set; transcripts are in `tmp_path / "projects"`."""
    (tmp_path / "projects").mkdir()
    return {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "SUPABASE_URL": local_supabase.url,
        "SUPABASE_SECRET_KEY": local_supabase.secret_key,
        "CONV_REALTIME_OWNER_ID": owner.id,
        "CONV_REALTIME_STATE_DIR": str(tmp_path / "state"),
        "CONV_REALTIME_PATHS": str(tmp_path / "projects"),
    }


@contextmanager
def _running(arguments: list[str], environment: dict[str, str]) -> Iterator[list[str]]:
    """Run a Python program; gives the lines that it has printed so far."""
    process = subprocess.Popen(
        [sys.executable, *arguments], env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    lines: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=_collect, args=[process.stdout, lines], name="stdout")
    reader.start()
    try:
        yield lines
    finally:
        process.terminate()
        process.wait(20)
        reader.join(10)
        process.stdout.close()


def _uvicorn(name: str, port: int) -> list[str]:
    """Return what serves the application of an example."""
    served = ["--port", str(port), "--ws", "websockets-sansio"]
    return ["-m", "uvicorn", "--app-dir", "examples", f"{name}:app", *served]


def _get(port: int, path: str) -> dict[str, Any] | None:
    """Return an answer as the object that it is; None while nobody answers."""
    try:
        answer: dict[str, Any] = httpx.get(f"http://127.0.0.1:{port}{path}").json()
    except httpx.TransportError:
        return None
    return answer


def _collect(stream: IO[str], lines: list[str]) -> None:
    for line in stream:
        lines.append(line)  # noqa: PERF402 - others look at the list meanwhile


def test_the_fastapi_application_counts_and_serves(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """Its own route and the bridge's are in one application."""
    with free_port() as port, _running(_uvicorn("fastapi_app", port), environment):
        assert eventually(lambda: _get(port, "/healthz"))["status"] == "ok"
        (tmp_path / "projects" / f"{SESSION}.jsonl").write_bytes(claude_line("hello"))
        eventually(lambda: (_get(port, "/stats") or {}).get("messages") == {"user": 1})


def test_one_machine_writes_and_another_serves(tmp_path: Path, environment: dict[str, str]) -> None:
    """Ingest and relay have nothing in common but Supabase; from afar it takes the token."""
    here = {**environment, "CONV_REALTIME_MACHINE": "laptop"}
    there = {
        **{k: v for k, v in environment.items() if not k.startswith("CONV_REALTIME_")},
        "CONV_REALTIME_STATE_DIR": str(tmp_path / "elsewhere"),
        "CONV_REALTIME_WS_TOKEN": "a-long-random-string",
    }
    far = {"X-Forwarded-For": "203.0.113.7"}
    file = tmp_path / "projects" / f"{SESSION}.jsonl"
    with free_port() as port, _running(_uvicorn("relay_only", port), there) as relayed:
        eventually(lambda: (_get(port, "/healthz") or {}).get("status") == "ok")
        url = f"ws://127.0.0.1:{port}/ws"
        with pytest.raises(InvalidStatus, match="401"):
            connect(url, additional_headers=far)
        known = {**far, "Authorization": f"Bearer {there['CONV_REALTIME_WS_TOKEN']}"}
        with connect(url, additional_headers=known) as follower:
            with _running(["examples/ingest_only.py"], here) as said:
                file.write_bytes(claude_line("hello") + claude_line("and more"))
                texts: list[str] = []
                while texts != ["hello", "and more"]:
                    frame = json.loads(follower.recv(timeout=30))
                    if frame["type"] == "new_message":
                        texts.append(frame["data"]["text"])
                everything = "transcripts: 1, rows written: [1-9], messages waiting: 0\n"
                eventually(lambda: any(re.fullmatch(everything, line) for line in list(said)))
            with _running(["examples/ingest_only.py"], here) as said:
                again = "transcripts: 1, rows written: 0, messages waiting: 0\n"
                eventually(lambda: again in list(said))
        eventually(lambda: "laptop: hello\n" in list(relayed))


@pytest.mark.parametrize("way", ["token", "password"])
def test_supabase_py_misses_nothing(
    tmp_path: Path, supabase_local: SupabaseLocal, way: str
) -> None:
    """By a token or signed in: not while its line is broken, nor while the database is away."""
    (tmp_path / "projects").mkdir()
    file = tmp_path / "projects" / f"{SESSION}.jsonl"
    project = {**os.environ, "PYTHONUNBUFFERED": "1", "SUPABASE_URL": supabase_local.url}
    with auth_server(supabase_local) as auth:
        user = auth.add_user("ada@example.com", "secret")
        writer = {
            **project,
            "SUPABASE_SECRET_KEY": supabase_local.secret_key,
            "CONV_REALTIME_OWNER_ID": user,
            "CONV_REALTIME_STATE_DIR": str(tmp_path / "state"),
            "CONV_REALTIME_PATHS": str(tmp_path / "projects"),
        }
        reader = {**project, "SUPABASE_PUBLISHABLE_KEY": supabase_local.publishable_key}
        if way == "token":
            reader["USER_TOKEN"] = supabase_local.token(sub=user)
        else:
            reader |= {"USER_EMAIL": "ada@example.com", "USER_PASSWORD": "secret"}
        with (
            _running(["examples/ingest_only.py"], writer),
            _running(["examples/subscribe_supabase_py.py"], reader) as lines,
        ):
            eventually(lambda: list(lines) == [f"following what {user} owns\n"])
            file.write_bytes(claude_line("It flickers."))
            first = "[It flickers.] user: It flickers.\n"
            eventually(lambda: list(lines)[1:] == [first])
            with supabase_local.faults.lose_messages() as lost:
                with file.open("ab") as appended:
                    appended.write(claude_line("The contact is loose.", "assistant"))
                eventually(lambda: lost.hits)
            assert supabase_local.faults.drop_sockets(f"conv_realtime:owner:{user}") == 1
            second = "[It flickers.] assistant: The contact is loose.\n"
            eventually(lambda: list(lines)[1:] == [first, second])
            with supabase_local.faults.answer(503, path="/rest/v1/rpc/changes_since"):
                with file.open("ab") as appended:
                    appended.write(claude_line("Mend it."))
                eventually(lambda: any(line.startswith("Supabase is away") for line in list(lines)))
            third = "[It flickers.] user: Mend it.\n"
            eventually(lambda: list(lines)[-1] == third)
            assert [line for line in lines if line.startswith("[")] == [first, second, third]


async def test_a_notification_tells_once_who_waits(tmp_path: Path) -> None:
    """What is said before a tool is called is no answer, nor is another title; the answer is."""
    notes = tmp_path / "notes"
    program = tmp_path / "notify-send"
    program.write_text(f'#!/bin/sh\nprintf "%s|" "$@" >> {notes}\n')
    program.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PATH": path}
    tool = json.loads(claude_line("", "assistant"))
    tool["message"]["content"] = [{"type": "tool_use", "id": "t", "name": "Bash", "input": {}}]
    result = json.loads(claude_line(""))
    result["message"]["content"] = [{"type": "tool_result", "tool_use_id": "t", "content": "lit"}]
    async with testing.bridge() as bridge, Server("127.0.0.1", 0) as server:
        await server.start(Starlette(routes=bridge.bridge.routes))
        url = f"ws://{server.address}/ws"
        with _running(["examples/notify.py", url], environment) as lines:
            await asyncio.to_thread(eventually, lambda: list(lines) == [f"listening to {url}\n"])
            bridge.append(claude_line("Mend the lamp"))
            bridge.append(claude_line("Let me look at it.", "assistant"))
            await bridge.next("new_message", text="Let me look at it.")
            bridge.append(json.dumps(tool) + "\n")
            await bridge.next("conversation_update", activity="working")
            await asyncio.sleep(3)  # longer than it waits for the quiet
            assert not notes.exists()
            bridge.append(json.dumps(result) + "\n")
            bridge.append(claude_line("It is mended.", "assistant"))
            told = "claude code waits for you: Mend the lamp\n"
            await asyncio.to_thread(eventually, lambda: list(lines)[1:] == [f"\a{told}"])
            await asyncio.to_thread(eventually, notes.exists)
            title = {"type": "custom-title", "customTitle": "The lamp", "sessionId": SESSION}
            bridge.append(json.dumps(title) + "\n")
            await bridge.next("conversation_update", title="The lamp", activity="waiting")
            await asyncio.sleep(3)
    wanted = "--app-name=conv_realtime|--|claude code waits for you|Mend the lamp|"
    assert notes.read_text() == wanted


def test_the_handlers_show_answers(tmp_path: Path, environment: dict[str, str]) -> None:
    """An answer is printed with the title of its conversation."""
    file = tmp_path / "projects" / f"{SESSION}.jsonl"
    with _running(["examples/handlers.py"], environment) as lines:
        # Its first sight of the folder may still take this line for history.
        eventually(lambda: (tmp_path / "state" / "ingest.lock").exists())
        file.write_bytes(claude_line("What is it?"))

        def answered() -> bool:
            with file.open("ab") as appended:
                appended.write(claude_line("A lighthouse.", "assistant"))
            return any("A lighthouse." in line for line in list(lines))

        eventually(answered)


def test_a_custom_format_reads_its_files(tmp_path: Path) -> None:
    """The program prints what was said in a file of its format."""
    file = tmp_path / "one.parrot"
    file.write_text('{"by": "me", "says": "hi"}\n{"by": "parrot", "says": "hi hi"}\n')
    command = [sys.executable, "examples/custom_format.py", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "user: hi\nassistant: hi hi\n"


def test_the_tests_of_somebody_elses_project_pass(tmp_path: Path) -> None:
    """Run as they would run them: with the plugin alone, two at a time."""
    project = shutil.copytree(
        ROOT / "examples" / "own_tests", tmp_path / "own_tests", ignore=_NOT_SOURCES
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider"],
        cwd=project,
        env=kept,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def _printed(*arguments: str) -> list[str]:
    """Run a program that ends by itself, and well; return its lines."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.node
@pytest.mark.skipif(
    shutil.which("node") is None or not (ROOT / "tests" / "js" / "node_modules").is_dir(),
    reason="needs Node.js and `npm ci` in tests/js",
)
def test_every_reader_sees_every_line() -> None:
    """The latency program ends well: nothing missed by anyone, the stranger refused."""
    options = ["--lines", "12", "--files", "3", "--rate", "20"]
    said = [json.loads(line) for line in _printed("examples/latency.py", *options)]
    assert [facts["seen"] for facts in said if "reader" in facts] == [3, 3, 9, 9, 9, 9]
    assert said[-2]["p99_ms"] > 0
    assert said[-1] == {"another_users_token": "refused"}


def test_the_start_of_the_local_supabase_is_measured() -> None:
    """The startup program starts it on an empty state directory and again on the same one."""
    said = _printed("examples/startup.py", "--times", "1")
    assert [line.partition(":")[0] for line in said] == ["cold", "warm"]
