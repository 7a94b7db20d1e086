"""What is shown to a person: other people's text neither begins a line nor steers a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from conv_realtime.cli.following import _line
from conv_realtime.cli.options import printable
from conv_realtime.testing import SupabaseLocal
from tests.ingest.lines import SESSION, user

EVIL = "a\nERROR forged\x1b]0;owned\x07\u202e"


def test_a_log_message_stays_on_its_line() -> None:
    """A file's name with a line break cannot pass for a message of ours; a traceback is kept."""
    code = (
        "import logging\n"
        "from conv_realtime.cli.options import configure_logging\n"
        "configure_logging('info')\n"
        "log = logging.getLogger('conv_realtime.test')\n"
        f"log.info('%s vanished', {EVIL!r})\n"
        "try:\n"
        "    1 / 0\n"
        "except ZeroDivisionError:\n"
        "    log.exception('failed')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    first, second, *trace = done.stderr.splitlines()
    assert first.endswith(r"a\nERROR forged\x1b]0;owned\x07\u202e vanished")
    assert second.endswith("failed") and trace[-1].startswith("ZeroDivisionError")


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "new_conversation", "data": {"title": EVIL, "id": "1", "message_count": 2}},
        {
            "type": "new_message",
            "data": {"conversation": {"title": EVIL}, "role": "user", "text": EVIL},
        },
        {"type": "project_update", "data": {"name": EVIL}},
    ],
    ids=lambda frame: frame["type"],
)
def test_tail_shows_no_control_characters(frame: dict[str, Any]) -> None:
    """Titles and names come from transcripts as much as texts do."""
    assert _line(frame).isprintable()


def test_names_that_are_no_text_can_be_printed() -> None:
    """A name of bytes that are no UTF-8 is escaped, so that writing it cannot fail."""
    assert printable("ok \u00e9") == "ok \u00e9"
    assert printable("bad\udcff").encode() == rb"bad\udcff"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_command_whose_caller_has_closed_its_streams_does_its_work(
    closed: str, tmp_path: Path, supabase_local: SupabaseLocal
) -> None:
    """As a job that some daemon starts: libuv ended it, or there was nothing to write to."""
    (tmp_path / f"{SESSION}.jsonl").write_bytes(user("q"))
    variables = {
        "SUPABASE_URL": supabase_local.url,
        "SUPABASE_SECRET_KEY": supabase_local.secret_key,
        "CONV_REALTIME_OWNER_ID": SESSION,
        "CONV_REALTIME_STATE_DIR": str(tmp_path / "state"),
    }
    command = f'exec "{sys.executable}" -m conv_realtime backfill "{tmp_path}" --json {closed}'
    done = subprocess.run(
        ["sh", "-c", command], env={**os.environ, **variables}, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    headers = {"apikey": supabase_local.secret_key}
    rows = httpx.get(f"{supabase_local.url}/rest/v1/messages?select=text", headers=headers).json()
    assert rows == [{"text": "prompt q"}]


@pytest.mark.parametrize("command", ["--help", "--version", "up --help", "sources"])
def test_who_is_not_read_to_the_end_has_not_failed(command: str, tmp_path: Path) -> None:
    """As by `| head`: a script with `pipefail` ended there."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as unread:
        done = _run(command, tmp_path, stdout=unread, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, "")


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("command", ["--help", "--version", "up --help", "sources", "token"])
def test_a_full_disk_is_told_in_one_line(command: str, tmp_path: Path) -> None:
    """Python told it a second time at the end, and ended with 120; of --help with a traceback."""
    with FULL.open("w") as full:
        done = _run(command, tmp_path, stdout=full, stderr=subprocess.PIPE)
    assert done.stderr == "Error: [Errno 28] No space left on device\n"
    assert done.returncode == 1


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_errors_that_cannot_be_told_are_in_the_exit_code(tmp_path: Path) -> None:
    """What is printed on stdout is done all the same."""
    with FULL.open("w") as full:
        assert _run("--version", tmp_path, stdout=subprocess.PIPE, stderr=full).returncode == 0
        assert _run("verify nowhere", tmp_path, stdout=full, stderr=full).returncode == 1


def _run(command: str, home: Path, **streams: Any) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "conv_realtime", *command.split()]
    variables = {**os.environ, "CONV_REALTIME_STATE_DIR": str(home), "PYTHONUNBUFFERED": ""}
    return subprocess.run(program, env=variables, text=True, timeout=60, **streams)
