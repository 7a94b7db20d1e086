"""A command with an end of its own that does not get there, and one that waits for an answer."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from conv_realtime.cli import ending
from tests.cli.conftest import Runner
from tests.commands import Command, eventually
from tests.ingest.lines import SESSION, user


@pytest.fixture
def asking(conv_realtime: Runner, tmp_path: Path) -> Iterator[Callable[[], Command]]:
    """Starts a backfill, and gives it when it has asked a database that does not answer."""
    (tmp_path / f"{SESSION}.jsonl").write_bytes(user("q"))
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        silent.settimeout(30)

        def start() -> Command:
            command = conv_realtime(
                *("backfill", tmp_path, "--json"),
                SUPABASE_URL=f"http://127.0.0.1:{silent.getsockname()[1]}",
                SUPABASE_SECRET_KEY="sb_secret_x",
                CONV_REALTIME_OWNER_ID=SESSION,
            )
            connection, _ = silent.accept()
            stack.enter_context(connection)
            return command

        yield start


def test_an_interrupt_before_there_is_a_command_shows_no_traceback(tmp_path: Path) -> None:
    """Python imports for a tenth of a second, or longer on a slow disk."""
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt")
    done = subprocess.run(
        [sys.executable, "-m", "conv_realtime", "sources"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


LOOKING_UP = """
import asyncio, sys, time
from conv_realtime.cli.ending import run

async def command():
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 600)
    print("ready", flush=True)
    await asyncio.Event().wait()

sys.exit(run(command()))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_thread_that_nobody_can_end_holds_up_no_end(number: signal.Signals, code: int) -> None:
    """As one that looks up a name while the network is gone: `up` took half a minute."""
    command = [sys.executable, "-c", LOOKING_UP]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            process.send_signal(number)
            assert process.wait(timeout=60) == code
        finally:
            process.kill()


@contextmanager
def _hangups(handler: signal.Handlers) -> Iterator[None]:
    """What a process that is started meanwhile makes of SIGHUP."""
    before = signal.signal(signal.SIGHUP, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 1), (signal.SIGHUP, 1)]
)
def test_a_backfill_that_was_ended_has_not_succeeded(
    asking: Callable[[], Command], number: signal.Signals, code: int
) -> None:
    """A script that goes on after it must learn that not everything was sent."""
    with _hangups(signal.SIG_DFL):
        command = asking()
    assert command.end(number) == code
    assert command.rest() == []


@pytest.mark.parametrize("where", ["prepare_for_http", "_new_loop"])
def test_a_signal_before_the_loop_runs_is_no_warning(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python told of a coroutine that nobody awaited: warnings are errors here."""

    def interrupted() -> NoReturn:
        raise KeyboardInterrupt

    async def command() -> None:
        raise AssertionError("it began")

    monkeypatch.setattr(ending, "collect_rarely", lambda: None)  # it is for good
    monkeypatch.setattr(ending, where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        ending.run(command())
    gc.collect()


def test_what_nohup_runs_does_not_end_with_the_terminal(asking: Callable[[], Command]) -> None:
    """It was told to ignore SIGHUP, and does."""
    with _hangups(signal.SIG_IGN):
        command = asking()
    command.process.send_signal(signal.SIGHUP)
    assert command.end(signal.SIGTERM) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 1)])
def test_a_question_is_ended_by_a_signal(home: Path, number: signal.Signals, code: int) -> None:
    """The loop, which hears of signals, stands still while somebody is asked.

    Sent more than once: one that comes just before the process waits for input interrupts nothing.
    """
    terminal, theirs = os.openpty()
    variables = {
        "SUPABASE_URL": "http://127.0.0.1:9",
        "SUPABASE_PUBLISHABLE_KEY": "sb_publishable_x",
        "CONV_REALTIME_STATE_DIR": str(home / "state"),
    }
    command = [sys.executable, "-m", "conv_realtime", "login"]
    with subprocess.Popen(
        command, env={**os.environ, **variables}, stdin=theirs, stderr=subprocess.PIPE
    ) as asking:
        try:
            assert asking.stderr is not None
            assert asking.stderr.read(len("E-mail:")) == b"E-mail:"

            def ended() -> bool:
                asking.send_signal(number)
                try:
                    return asking.wait(1) is not None
                except subprocess.TimeoutExpired:
                    return False

            eventually(ended)
            assert asking.returncode == code
        finally:
            asking.kill()
            os.close(terminal)
            os.close(theirs)
