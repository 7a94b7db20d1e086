"""The examples run as they say."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import httpx
import pytest

from conv_realtime.local import LocalSupabase
from conv_realtime.testing import SESSION, claude_line
from tests.cli.conftest import eventually
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


def _collect(stream: IO[str], lines: list[str]) -> None:
    for line in stream:
        lines.append(line)  # noqa: PERF402 - others look at the list meanwhile


def test_the_fastapi_application_counts_and_serves(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """Its own route and the bridge's are in one application."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    uvicorn = ["-m", "uvicorn", "--app-dir", "examples", "fastapi_app:app", "--port", str(port)]

    def get(path: str) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = httpx.get(f"http://127.0.0.1:{port}{path}").json()
        except httpx.TransportError:
            return None
        return answer

    with _running([*uvicorn, "--ws", "websockets-sansio"], environment):
        assert eventually(lambda: get("/healthz"))["status"] == "ok"
        (tmp_path / "projects" / f"{SESSION}.jsonl").write_bytes(claude_line("hello"))
        eventually(lambda: (get("/stats") or {}).get("messages") == {"user": 1})


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


@pytest.mark.node
@pytest.mark.skipif(
    shutil.which("node") is None or not (ROOT / "tests" / "js" / "node_modules").is_dir(),
    reason="needs Node.js and `npm ci` in tests/js",
)
def test_every_reader_sees_every_line() -> None:
    """The latency program ends well: nothing missed by anyone, the stranger refused."""
    done = subprocess.run(
        [sys.executable, "examples/latency.py", "--lines", "12", "--files", "3", "--rate", "20"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [facts["seen"] for facts in said if "reader" in facts] == [12, 12, 9, 9]
    assert said[-2]["p99_ms"] > 0
    assert said[-1] == {"another_users_token": "refused"}


def test_the_start_of_the_local_supabase_is_measured() -> None:
    """The startup program starts it on an empty state directory and again on the same one."""
    done = subprocess.run(
        [sys.executable, "examples/startup.py", "--times", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["cold", "warm"]
