"""The processes of a benchmark: a server on one core, its clients on another, both measured.

CPU is that of the server's threads as the scheduler counts it, in nanoseconds; on loopback that
includes the kernel's work of delivering to the receiver's socket.
"""

from __future__ import annotations

import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import IO, Any, Self

from conv_realtime.core.envelope import encode, event_of
from tests.bench.harness import CannotRun
from tests.relay.rows import created, message

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PATIENCE = 120.0
FRAME_BYTES = 600
_STAMP = "@{number}@{at}@"


@cache
def native(name: str) -> str:
    """Compile a program of `native/`; return its path.

    Raises:
        CannotRun: there is no C compiler.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise CannotRun("a C compiler, `cc`: the clients and the loop to compare with are in C")
    program = Path(_folder(), name)
    source = HERE / "native" / f"{name}.c"
    subprocess.run([compiler, "-O2", "-o", str(program), str(source)], check=True)
    return str(program)


@cache
def _folder() -> str:
    import atexit

    folder = mkdtemp(prefix="conv_realtime-bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def module(name: str, *arguments: str) -> list[str]:
    """Return the command of a server of `servers/`."""
    return [sys.executable, "-m", f"tests.bench.servers.{name}", *arguments]


def node(script: str, package: str = "ws") -> list[str]:
    """Return the command of a script of `tests/js` that needs a package.

    Raises:
        CannotRun: there is no Node.js, or its packages are not installed.
    """
    found, folder = shutil.which("node"), ROOT / "tests" / "js"
    if found is None or not (folder / "node_modules" / package).is_dir():
        raise CannotRun("Node.js, and `npm ci` in tests/js")
    return [found, str(folder / script)]


def allow_many_files() -> None:
    """Open as many files as the system lets us, in this process and those that it starts."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Stamped:
    """Messages as `/ws` sends them, numbered, each with the time at which it leaves."""

    def __init__(self, frame_bytes: int = FRAME_BYTES) -> None:
        bare = encode(event_of(created(message(""))[0], "0123456789abcdef.100000"))
        self._head, _, self._tail = bare.partition(b'"text":"')
        self._head += b'"text":"'
        self._room = frame_bytes - len(bare)
        self.number = 0

    def next(self, count: int = 1) -> bytes:
        """Return the next messages, a line each."""
        return b"".join(self._line() for _ in range(count))

    def _line(self) -> bytes:
        text = stamp(self.number).encode().ljust(self._room, b"x")
        self.number += 1
        return self._head + text + self._tail + b"\n"


def stamp(number: int) -> str:
    """Return what the clients know a message by, as of now."""
    return _STAMP.format(number=number, at=time.monotonic_ns())


class Child:
    """A child with lines of output, on some of the cores."""

    def __init__(self, command: Sequence[str], core: int) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            preexec_fn=lambda: os.sched_setaffinity(0, {cores[core % len(cores)]}),
        )
        self._name = " ".join(command[-3:])
        self._lines: list[bytes] = []
        self._rest = b""

    @property
    def _input(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    def say(self, line: bytes) -> None:
        """Write to its input, all of it."""
        view = memoryview(line)
        while view:
            view = view[self._input.write(view) :]

    def line(self, until: float) -> bytes | None:
        """Return its next line, or None if none has come by `until` (of `time.monotonic`).

        Raises:
            RuntimeError: it has ended.
        """
        assert self.process.stdout is not None
        while not self._lines:
            wait = max(0.0, until - time.monotonic())
            if not select.select([self.process.stdout], [], [], wait)[0]:
                return None
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            if not data:
                raise RuntimeError(f"{self._name} ended with {self.process.wait()}")
            *self._lines, self._rest = (self._rest + data).split(b"\n")
        return self._lines.pop(0)

    def must_say(self) -> bytes:
        """Return its next line.

        Raises:
            TimeoutError: it says nothing.
        """
        line = self.line(time.monotonic() + PATIENCE)
        if line is None:
            raise TimeoutError(f"{self._name} says nothing for {PATIENCE:.0f} s")
        return line

    def cpu_seconds(self) -> float:
        """Return the CPU that its threads have used."""
        return cpu_seconds(self.process.pid)

    def resident_bytes(self) -> int:
        """Return its memory."""
        return resident_bytes(self.process.pid)

    def close_input(self) -> None:
        """Let it end."""
        with suppress(BrokenPipeError):
            self._input.close()

    def end(self) -> None:
        """Close its input, and wait; kill it if it does not end."""
        self.close_input()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def program(
    *arguments: str, variables: Mapping[str, str] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Run a command of `conv-realtime` until left; give its pid and what it says first, as JSON."""
    process = subprocess.Popen(
        [sys.executable, "-m", "conv_realtime", *arguments, "--json"],
        env={**os.environ, **(variables or {})},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.pid, json.loads(process.stdout.readline())
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        process.stdout.close()


class Server(Child):
    """A server that broadcasts its input, on the first core; see `servers`."""

    @classmethod
    @contextmanager
    def run_all(cls, commands: Sequence[Sequence[str]]) -> Iterator[list[Self]]:
        """Run servers until left; they start, and end, beside each other."""
        servers: list[Self] = []
        try:
            servers += (cls(command, 0) for command in commands)
            for server in servers:
                server.port = json.loads(server.must_say())["port"]
            yield servers
        finally:
            for server in servers:
                server.close_input()
            for server in servers:
                server.end()

    @classmethod
    @contextmanager
    def run(cls, command: Sequence[str]) -> Iterator[Self]:
        """Run one until left."""
        with cls.run_all([command]) as (server,):
            yield server

    port: int


@dataclass(frozen=True)
class Report:
    """What all clients got since the last report; times in milliseconds, over all deliveries."""

    deliveries: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


class Clients(Child):
    """So many WebSockets that read, on the second core; `native/reader.c`."""

    def __init__(self, port: int, count: int, path: str, nap_us: int) -> None:
        super().__init__([native("reader"), str(port), str(count), path, str(nap_us)], 1)
        self.count = count
        self._last_ms: dict[int, float] = {}

    @classmethod
    @contextmanager
    def run(cls, port: int, count: int, path: str = "/ws", nap_us: int = 0) -> Iterator[Self]:
        """Connect them; they are disconnected when this is left."""
        clients = cls(port, count, path, nap_us)
        try:
            assert clients.must_say() == b"ready"
            yield clients
        finally:
            clients.end()

    def last_ms(self, number: int) -> float:
        """Wait until all have a message; return how old it was when the last one got it."""
        deadline = time.monotonic() + PATIENCE
        while number not in self._last_ms:
            if not self._note(deadline):
                raise TimeoutError(f"message {number} has not reached everybody")
        return self._last_ms.pop(number)

    def wait(self, until: float) -> None:
        """Take in what they say until a time of `time.monotonic`."""
        while self._note(until):
            pass

    def report(self) -> Report:
        """Return what came since the last report."""
        self.say(b"report\n")
        while True:
            line = self.must_say()
            if line.startswith(b"{"):
                told = json.loads(line)
                times = (told[f"p{at}_us"] / 1000 for at in (50, 95, 99))
                return Report(told["deliveries"], *times)
            self._keep(line)

    def _note(self, until: float) -> bool:
        line = self.line(until)
        if line is not None:
            self._keep(line)
        return line is not None

    def _keep(self, line: bytes) -> None:
        number, microseconds = line.split()
        self._last_ms[int(number)] = int(microseconds) / 1000


def cpu_seconds(pid: int) -> float:
    """Return the CPU that the threads of a process have used, those that ended left out."""
    spent = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            spent += int((task / "schedstat").read_text().split()[0])
    return spent / 1e9


def waiting_seconds() -> float:
    """Return how long this thread would have run and was not given a core."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


def resident_bytes(pid: int) -> int:
    """Return how much memory a process uses."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()
