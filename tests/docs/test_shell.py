"""The shell blocks of the pages run, in a shell, as somebody would paste them."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from conv_realtime import conversation_id
from conv_realtime.local.postgres.binaries import find_binaries
from conv_realtime.testing import SESSION, SupabaseLocal, SupabaseServer, claude_line
from tests.auth_server import auth_server
from tests.docs.pages import ROOT, all_blocks, table
from tests.docs.stand_ins import NAMES, PIDS

EMAIL, PASSWORD = "ada@example.com", "correct horse"
OWNER = "5e551011-0000-4000-8000-000000000001"
CONVERSATION = "5e551011-0000-4000-8000-000000000002"
BY_CI = ("python3 -m venv .venv && ",)
"""How blocks begin that `.ci/run` runs: they install everything anew."""
BY_NPM = "npm "
"""How those of the React example begin, which `tests/test_react_example.py` runs."""

RUN = [
    (page, number, block)
    for number, (page, block) in enumerate(all_blocks("bash", "sh"))
    if not page.startswith("tests/") and not block.startswith((*BY_CI, BY_NPM))
]


@dataclass
class Shell:
    """A home with a transcript, a project, and a path on which the programs are."""

    home: Path
    project: SupabaseLocal
    environment: dict[str, str]

    def run(self, block: str) -> subprocess.CompletedProcess[str]:
        """Run a block, with what it shows as an example replaced by what there is."""
        for shown, real in self.placeholders().items():
            block = block.replace(shown, real)
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=self.home, env=self.environment, input=f"{EMAIL}\n",
            capture_output=True, text=True, timeout=250, check=False,
        )  # fmt: skip

    def placeholders(self) -> dict[str, str]:
        """Return what stands for what."""
        talk = conversation_id(self.project.owner_id, "claude_code", "here", SESSION)
        return {
            "https://project.supabase.co": self.project.url,
            "sb_secret_key": self.project.secret_key,
            "sb_publishable_key": self.project.publishable_key,
            "postgresql://postgres:password@127.0.0.1/postgres": self.project.db_url,
            OWNER: self.project.owner_id,
            CONVERSATION: str(talk),
        }

    def state(self) -> set[str]:
        """Return what is in the state directory."""
        return {path.name for path in (self.home / "state").glob("*")}


@contextmanager
def shell(home: Path, project: SupabaseLocal) -> Iterator[Shell]:
    """Give a shell; whatever goes on in the background has ended behind it."""
    programs, pids = home / "bin", home / "pids"
    programs.mkdir()
    pids.touch()
    for name in NAMES:
        program = programs / name
        module = [sys.executable, "-m", "tests.docs.stand_ins", name]
        program.write_text(f'#!/bin/sh\nexec {shlex.join(module)} "$@"\n')
        program.chmod(0o755)
    path = os.pathsep.join([str(programs), str(find_binaries()), os.environ["PATH"]])
    ours = ("SUPABASE_", "CONV_REALTIME_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment = {
        **kept,
        "PATH": path,
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        PIDS: str(pids),
        "CONV_REALTIME_STATE_DIR": str(home / "state"),
        "CONV_REALTIME_MACHINE": "here",
        "CONV_REALTIME_PASSWORD": PASSWORD,
        "SUPABASE_DB_URL": project.db_url,
        "DB_URL": project.db_url,
    }
    try:
        yield Shell(home, project, environment)
    finally:
        for pid in map(int, pids.read_text().split()):
            _end(pid)


def _end(pid: int) -> None:
    """End a process that is nobody's child any more."""
    if _runs(pid):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 25
    while _runs(pid):
        assert time.monotonic() < deadline, f"process {pid} goes on"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    """Return whether a process has not ended; nobody may have taken note of that yet."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat").read_text()
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # it has ended just now, or there is no /proc
        return not Path("/proc/self").exists()
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the transcript of a session."""
    home = tmp_path_factory.mktemp("home")
    folder = home / ".claude" / "projects" / "-home-ada"
    folder.mkdir(parents=True)
    (folder / f"{SESSION}.jsonl").write_bytes(
        claude_line("hello") + claude_line("yes", "assistant")
    )
    return home


@pytest.mark.timeout(300)  # up to a dozen commands, each a process
@pytest.mark.parametrize(
    ("page", "block"),
    [pytest.param(page, block, id=f"{page}-{number}") for page, number, block in RUN],
)
def test_a_block_runs(
    page: str, block: str, home: Path, supabase_local_server: SupabaseServer
) -> None:
    """To its end, each line of it with success; the state directory holds what its table names."""
    with ExitStack() as stack:
        bare = "supabase db push" in block
        project = stack.enter_context(supabase_local_server.project(schema=not bare))
        other = stack.enter_context(supabase_local_server.project())
        auth = stack.enter_context(auth_server(project))
        auth.add_user(EMAIL, PASSWORD, project.owner_id)
        run = stack.enter_context(shell(home, project))
        run.environment["OTHER_DB_URL"] = other.db_url
        if "SUPABASE_URL" not in block and "conv-realtime up" in block:
            run.environment |= {
                "SUPABASE_URL": project.url,
                "SUPABASE_SECRET_KEY": project.secret_key,
                "SUPABASE_PUBLISHABLE_KEY": project.publishable_key,
                "CONV_REALTIME_OWNER_ID": project.owner_id,
            }
        done = run.run(block)
        assert done.returncode == 0, done.stdout + done.stderr
        named = {name for cell in table("conv_realtime/cli/README.md", "| file | holds |")
                 for name in cell.split("`, `")}  # fmt: skip
        kept = {name.removesuffix("-wal").removesuffix("-shm") for name in run.state()}
        assert kept <= named


def test_a_dump_goes_into_another_project(
    home: Path, supabase_local_server: SupabaseServer
) -> None:
    """All rows, and Realtime is told that something changed, once."""
    (block,) = [block for _, _, block in RUN if "pg_dump" in block]
    with ExitStack() as stack:
        project = stack.enter_context(supabase_local_server.project())
        other = stack.enter_context(supabase_local_server.project())
        run = stack.enter_context(shell(home, project))
        run.environment |= {
            "SUPABASE_URL": project.url,
            "SUPABASE_SECRET_KEY": project.secret_key,
            "CONV_REALTIME_OWNER_ID": project.owner_id,
            "OTHER_DB_URL": other.db_url,
        }
        assert run.run(f"conv-realtime backfill ~/.claude/projects\n{block}").returncode == 0
        with psycopg.connect(other.db_url) as there:
            texts = there.execute("select text from messages order by seq").fetchall()
            events = there.execute("select distinct event from realtime.messages").fetchall()
    assert texts == [("hello",), ("yes",)]
    assert events == [("changed",)]


def test_ci_runs_the_other_blocks() -> None:
    """Those that install everything anew are lines that it takes from the README."""
    blocks = [block for _, block in all_blocks("bash", "sh") if block.startswith(BY_CI)]
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    wanted = re.findall(r"grep -m1 '(.+?)\$' README\.md", ci)
    assert len(wanted) == len(blocks) == 2
    for block, ending in zip(blocks, wanted, strict=True):
        assert re.search(f"{ending}$", block.strip())
