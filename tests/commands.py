"""Commands as their users run them: processes of their own, whose lines are read as they come."""

from __future__ import annotations

import json
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

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


@contextmanager
def free_port() -> Iterator[int]:
    """A port for a server; on Linux nobody else is given it before that has taken it."""
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind(("127.0.0.1", 0))
        port: int = kept.getsockname()[1]
        if sys.platform != "linux":  # where nobody could take it beside this socket
            kept.close()
        yield port


class Command:
    """A command that runs: its lines, and how it ends.

    Args:
        command: the program and its arguments.
        environment: its variables, and no others.
    """

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            command,
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
        self._errors.extend(self.process.stderr)  # line by line, as they come

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

    def said(self) -> str:
        """Return the last line of stderr so far."""
        return self._errors[-1] if self._errors else ""

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
