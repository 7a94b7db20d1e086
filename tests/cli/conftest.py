"""Running `conv-realtime` as its users do: a process of its own."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from conv_realtime.testing import SupabaseLocal
from tests.cli.examined import Doctor
from tests.commands import Command


class Runner(Protocol):
    """Starts `conv-realtime` with arguments; keywords are environment variables."""

    def __call__(self, *arguments: str | Path, **variables: str) -> Command: ...


def _runner(home: Path, stack: ExitStack) -> Runner:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SUPABASE_", "CONV_REAL"))}
    base = {**kept, "HOME": str(home), "CONV_REALTIME_STATE_DIR": str(home / "state")}
    base.pop("CLAUDE_CONFIG_DIR", None)

    def start(*arguments: str | Path, **variables: str) -> Command:
        program = [sys.executable, "-m", "conv_realtime"]
        command = Command([*program, *map(str, arguments)], {**base, **variables})
        stack.callback(command.close)
        return command

    return start


@contextmanager
def _home() -> Iterator[Path]:
    """Make an empty home that everybody can enter.

    Not pytest's folder: that one is closed, so under root the local Supabase would keep its data
    elsewhere, where nobody removes it after the test.
    """
    home = Path(tempfile.mkdtemp(prefix="conv_rt_home-")).resolve()
    home.chmod(0o755)
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def home() -> Iterator[Path]:
    """The home of `conv_realtime`; its state directory is `home / "state"`."""
    with _home() as home:
        yield home


@pytest.fixture
def conv_realtime(home: Path) -> Iterator[Runner]:
    """Run commands with an empty home and a state directory of its own."""
    with ExitStack() as stack:
        yield _runner(home, stack)


@pytest.fixture(scope="session")
def session_runner() -> Iterator[Callable[..., Any]]:
    """The same for what a whole run shares; gives the runner and its home."""
    with _home() as home, ExitStack() as stack:
        yield lambda: (_runner(home, stack), home)


@pytest.fixture
def doctor(home: Path, supabase_local: SupabaseLocal) -> Doctor:
    """A set-up in which nothing is wrong but that there is no transcript."""
    return Doctor(home, supabase_local)
