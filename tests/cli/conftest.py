"""Running `conv-realtime` as its users do: a process of its own."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

START_SECONDS = 60.0

_Found = TypeVar("_Found")


def eventually(look: Callable[[], _Found | None], within: float = 30.0) -> _Found:
    """Return what `look` finds, looking again and again for so many seconds."""
    deadline = time.monotonic() + within
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {within} s"
        time.sleep(0.05)


class Command:
    """A command that runs: its lines, and how it ends."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "conv_realtime", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read_out, name="stdout"),
            threading.Thread(target=self._read_errors, name="stderr"),
        ]
        for reader in self._readers:
            reader.start()

    def _read_out(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self._errors.extend(self.process.stderr)

    def line(self, within: float = START_SECONDS) -> str:
        """Return the next line of stdout."""
        line = self._lines.get(timeout=within)
        assert line is not None, f"ended with {self.process.wait(10)}: {self.stderr()}"
        return line

    def json(self, within: float = START_SECONDS) -> dict[str, Any]:
        """Return the next line of stdout as the object that it is."""
        value: dict[str, Any] = json.loads(self.line(within))
        return value

    def rest(self) -> list[str]:
        """Return the lines of stdout that nobody read, once the command has ended."""
        self.process.wait(START_SECONDS)
        self._join()
        return [line for line in iter(self._lines.get_nowait, None) if line is not None]

    def stderr(self) -> str:
        """Return what was said on stderr, once the command has ended."""
        self._join()
        return "".join(self._errors)

    def end(self, number: signal.Signals = signal.SIGINT, within: float = 15.0) -> int:
        """Send a signal; return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(within)

    def close(self) -> None:
        """Make sure that nothing is left."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._join()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()

    def _join(self) -> None:
        for reader in self._readers:
            reader.join(10)


class Runner(Protocol):
    """Starts `conv-realtime` with arguments; keywords are environment variables."""

    def __call__(self, *arguments: str | Path, **variables: str) -> Command: ...


def _runner(home: Path, stack: ExitStack) -> Runner:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SUPABASE_", "CONV_REAL"))}
    base = {**kept, "HOME": str(home), "CONV_REALTIME_STATE_DIR": str(home / "state")}
    base.pop("CLAUDE_CONFIG_DIR", None)

    def start(*arguments: str | Path, **variables: str) -> Command:
        command = Command([str(a) for a in arguments], {**base, **variables})
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
