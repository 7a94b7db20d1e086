"""A process that starts PostgreSQL and ends it when the library's process is gone.

Run as a script, with nothing but the standard library, so that it starts in milliseconds:

    python -I -S guard.py PARENT_PID UID GID COMMAND...      (UID and GID are -1 for "as now")

Standard input is the lifeline: its other end is held by the parent alone, and when it closes, be
it by an orderly stop or by `kill -9`, PostgreSQL is told to stop. A forked sibling may have
inherited that end, so the parent's pid is watched as well. If the guard itself is killed, Linux
delivers its parent-death signal to PostgreSQL; elsewhere the next start stops the orphan.
Standard output tells PostgreSQL's pid and is held open until PostgreSQL has ended, which is how
the parent learns of it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable

_POLL_SECONDS = 1.0
_STEPS = ((signal.SIGINT, 6.0), (signal.SIGQUIT, 6.0), (signal.SIGKILL, 2.0))
"""Fast shutdown, then immediate (the next start replays the log), then none: signal and wait."""

_PR_SET_PDEATHSIG = 1


def _die_with_guard(guard_pid: int) -> Callable[[], None] | None:
    """What the child runs before it becomes PostgreSQL, where the kernel can watch the guard."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    libc = ctypes.CDLL(None)

    def arm() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT))
        if os.getppid() != guard_pid:  # the guard died before the signal was armed
            os._exit(1)

    return arm


def _start(uid: int, gid: int, command: list[str]) -> subprocess.Popen[bytes]:
    account = {} if uid < 0 else {"user": uid, "group": gid, "extra_groups": []}
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        preexec_fn=_die_with_guard(os.getpid()),
        cwd="/",
        **account,
    )


def _wait_for_end(child: subprocess.Popen[bytes], parent_pid: int, wake: int) -> None:
    """Returns when PostgreSQL has ended, the lifeline is cut, or the parent has changed."""
    watched = [sys.stdin.fileno(), wake]
    while child.poll() is None and os.getppid() == parent_pid:
        ready, _, _ = select.select(watched, [], [], _POLL_SECONDS)
        if sys.stdin.fileno() in ready:
            return
        if wake in ready:
            os.read(wake, 64)


def _stop(child: subprocess.Popen[bytes]) -> None:
    for number, patience in _STEPS:
        if child.poll() is not None:
            return
        child.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(patience)


def main(arguments: list[str]) -> int:
    """Runs the command until it ends or the parent does; gives its exit status."""
    parent_pid, uid, gid = (int(text) for text in arguments[:3])
    wake, alarm = os.pipe()
    os.set_blocking(alarm, False)
    signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # An orderly stop comes through the lifeline, in the order that the parent chose.
        signal.signal(number, lambda *_: None)
    child = _start(uid, gid, arguments[3:])
    os.write(sys.stdout.fileno(), b"%d\n" % child.pid)
    _wait_for_end(child, parent_pid, wake)
    _stop(child)
    return child.returncode if child.returncode is not None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
