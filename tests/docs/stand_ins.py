"""What the shell blocks of the pages find on their path: `python -m tests.docs.stand_ins NAME …`.

`conv-realtime` is the real one. What serves goes on in the background, on free ports, once it is
ready; what prints until it is interrupted ends with its first line. `supabase` does what its own
does with a folder of migrations and a project, which is SUPABASE_DB_URL; `pip` looks whether it is
asked for what there is.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

from packaging.requirements import Requirement

from conv_realtime.local import provision
from conv_realtime.sql import Migration
from conv_realtime.testing import claude_line

ROOT = Path(__file__).parents[2]
PIDS = "TEST_DOCS_PIDS"
"""The variable that names a file: the processes that go on, one a line."""

_SERVES = ("up", "serve", "demo", "local")


def conv_realtime(arguments: Sequence[str]) -> int:
    """Run the real one."""
    name = arguments[0]
    if name in _SERVES:
        return _serve(arguments)
    if name == "tail":
        return _tail(arguments)
    environment = dict(os.environ)
    if name == "login":  # whoever signs in has no secret key
        environment.pop("SUPABASE_SECRET_KEY", None)
    return subprocess.run(_program(arguments), env=environment, check=False).returncode


def _program(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "conv_realtime", *arguments]


def _serve(arguments: Sequence[str]) -> int:
    ports = ["--port", "0"] if arguments[0] == "local" else ["--port", "0", "--local-port", "0"]
    # Nobody waits for the end of what it logs.
    with (Path.home() / "served.log").open("a") as log:
        process = subprocess.Popen(
            _program([*arguments, "--json", *ports]),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
    with Path(os.environ[PIDS]).open("a") as file:
        file.write(f"{process.pid}\n")
    assert process.stdout is not None
    ready = process.stdout.readline()
    return 0 if ready and json.loads(ready)["event"] == "ready" else process.wait()


def _tail(arguments: Sequence[str]) -> int:
    """Let it print one event of a transcript that grows."""
    process = subprocess.Popen(_program(arguments), stdout=subprocess.PIPE)
    assert process.stdout is not None
    transcripts = Path.home() / ".claude" / "projects"
    while process.poll() is None:
        with next(transcripts.rglob("*.jsonl")).open("ab") as file:
            file.write(claude_line("and more"))
        if select.select([process.stdout], [], [], 0.2)[0] and process.stdout.readline():
            process.kill()
            process.wait()
            return 0
    return process.returncode


def supabase(arguments: Sequence[str]) -> int:
    """Do what the CLI does with `init`, `link` and `db push`."""
    folder = Path("supabase")
    match list(arguments):
        case ["init"]:
            folder.mkdir()
        case ["link", "--project-ref", _]:
            assert folder.is_dir()
        case ["db", "push"]:
            files = sorted((folder / "migrations").glob("*.sql"))
            parts = [(*file.stem.partition("_")[::2], file.read_text("utf-8")) for file in files]
            wanted = [Migration(*part) for part in parts]
            assert asyncio.run(provision.migrate(os.environ["SUPABASE_DB_URL"], wanted)) is not None
        case other:
            raise SystemExit(f"supabase {' '.join(other)}: nobody knows what that does")
    return 0


def pip(arguments: Sequence[str]) -> int:
    """Look whether the package has what is asked for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    command, *wanted = [word for word in arguments if not word.startswith("-")]
    assert command == "install"
    for requirement in map(Requirement, wanted):
        assert requirement.name == project["name"]
        assert requirement.extras <= set(project["optional-dependencies"])
    return 0


NAMES: dict[str, Callable[[Sequence[str]], int]] = {
    "conv-realtime": conv_realtime,
    "supabase": supabase,
    "pip": pip,
}

if __name__ == "__main__":
    sys.exit(NAMES[sys.argv[1]](sys.argv[2:]))
