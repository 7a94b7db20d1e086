"""What Windows does otherwise, as far as it can be tried on Linux.

Modules are loaded once more as they are there, above a system that is faked where it differs. None
of this says that they run on Windows.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import stat as modes
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conv_realtime import shared_files
from conv_realtime.cli import ending, server
from conv_realtime.cli.checkup import machine
from conv_realtime.core.checkpoint import Checkpoint
from conv_realtime.edges import disk
from conv_realtime.edges.asgi import Wire
from conv_realtime.edges.checkpoints import Checkpoints
from conv_realtime.edges.disk.opened import state_of
from conv_realtime.edges.watch.observer import ObserverWatcher

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="fakes Windows by Linux's ways")


def _locking(descriptor: int, mode: int, length: int) -> None:
    """Lock bytes as `msvcrt` does: from the file's place on, for an open file, without waiting."""
    import fcntl

    start = os.lseek(descriptor, 0, os.SEEK_CUR)
    wanted = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wanted)
    except BlockingIOError:
        raise PermissionError(errno.EACCES, "Permission denied") from None


def _create_file(path: str, *options: int) -> int:
    """Open a file as `_winapi` does; what others may do to it meanwhile is not faked."""
    return os.open(path, os.O_RDONLY)


_MSVCRT = SimpleNamespace(LK_NBLCK=2, locking=_locking, open_osfhandle=lambda handle, flags: handle)
_WINAPI = SimpleNamespace(GENERIC_READ=0x80000000, OPEN_EXISTING=3, CreateFile=_create_file)


def _there(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a module as it is on Windows."""
    spec = find_spec(name)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "msvcrt", _MSVCRT)
    monkeypatch.setitem(sys.modules, "_winapi", _WINAPI)
    monkeypatch.setattr(os, "O_BINARY", 0, raising=False)
    with monkeypatch.context() as loading:
        loading.setattr(sys, "platform", "win32")
        spec.loader.exec_module(module)
    return module


_IMPORTS_ALL = """
import os, signal, sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

elsewhere = ("local", "edges.watch.inotify", "edges.watch.kernel")
needs_local = ("testing.supabase", "testing.folders", "testing.faults")
files = [path.with_suffix("").parts for path in Path("conv_realtime").rglob("*.py")]
names = [".".join(parts).removesuffix(".__init__") for parts in files]
left_out = tuple(f"conv_realtime.{name}" for name in (*elsewhere, *needs_local))
names = [name for name in names if not name.startswith(left_out)]
for name in names:
    import_module(name)  # and with it what others have written
for name in [name for name in sys.modules if name.startswith("conv_realtime")]:
    del sys.modules[name]
for name in ("fcntl", "resource", "pwd", "grp", "termios", "uvloop"):
    sys.modules[name] = None
for name in ("pread", "O_NONBLOCK", "O_CLOEXEC", "geteuid", "getuid", "fchmod"):
    delattr(os, name)
sys.modules["msvcrt"] = sys.modules["_winapi"] = SimpleNamespace()
signal.SIGBREAK = signal.SIGTERM
sys.platform = "win32"
for name in names:
    import_module(name)
print(len(names))
"""


def test_everything_but_the_local_supabase_is_imported_without_posix() -> None:
    """Modules and functions that are not there are asked for by nobody."""
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTS_ALL], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


class _WithoutSignals(asyncio.SelectorEventLoop):
    add_signal_handler = asyncio.AbstractEventLoop.add_signal_handler  # raises


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 1)])
def test_a_signal_ends_a_command_whose_loop_takes_none(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    """In order, and afterwards signals do what they did before."""
    monkeypatch.setattr(ending, "_new_loop", _WithoutSignals)
    monkeypatch.setattr(ending, "_CLOSE_SECONDS", 600.0)  # it is our own process that would end
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    ended_in_order = False

    async def command() -> None:
        nonlocal ended_in_order
        os.kill(os.getpid(), number)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended_in_order = True

    assert ending.run(command(), terminated=1) == code
    assert ended_in_order
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_what_the_outputs_encoding_lacks_is_escaped(tmp_path: Path) -> None:
    """Output into a file or a pipe is in cp1252 there, which has no word for most names."""
    folder = tmp_path / "\u65e5\u672c"
    (folder / "projects").mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", "from conv_realtime.cli import main; main()", "sources"],
        capture_output=True,
        timeout=60,
        env={**os.environ, "PYTHONIOENCODING": "cp1252", "CLAUDE_CONFIG_DIR": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    assert rb"\u65e5\u672c" in done.stdout


def test_modes_of_files_say_nothing_of_who_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file has the mode 0666 there, so `doctor` would complain of each."""
    (tmp_path / "session.json").touch(mode=0o666)
    (tmp_path / "session.json").chmod(0o666)
    assert machine.state_directory(tmp_path).state == "failed"
    monkeypatch.setattr(sys, "platform", "win32")
    assert machine.state_directory(tmp_path).state == "ok"


async def test_doctor_advises_no_sysctl_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is not watched is said all the same."""
    monkeypatch.setattr(machine, "_LIMITS", tmp_path / "none")
    monkeypatch.setattr(machine, "watch", ObserverWatcher)
    monkeypatch.setattr(ObserverWatcher, "_watch", lambda *_: None)
    check = await machine.watching([tmp_path])
    assert check.state == "failed"
    assert "does not watch them all" in check.says and "None" not in check.says
    assert check.remedy is not None and "sysctl" not in check.remedy


def test_a_junction_is_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its system calls it a folder, and what is behind it is behind no event, or above it."""
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(modes, "IO_REPARSE_TAG_MOUNT_POINT", 0xA0000003, raising=False)
    for tag, is_link in ((0, False), (0xA0000003, True)):
        entry: Any = SimpleNamespace(
            is_symlink=lambda: False,
            is_dir=lambda follow_symlinks: True,
            stat=lambda follow_symlinks, tag=tag: SimpleNamespace(st_reparse_tag=tag),
        )
        assert (disk._is_link(entry), disk._is_folder(entry)) == (is_link, not is_link)


def test_a_socket_is_written_to_by_its_transport_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number may be that of an open file."""
    transport = SimpleNamespace(
        get_extra_info={"socket": SimpleNamespace(fileno=lambda: 5)}.get, write=None
    )
    assert Wire(SimpleNamespace(transport=transport)).descriptor == 5
    monkeypatch.setattr(sys, "platform", "win32")
    assert Wire(SimpleNamespace(transport=transport)).descriptor == -1


def test_a_port_is_taken_for_this_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The option that takes a port again after a restart gives it to others as well there."""
    wanted = []

    def noted(sock: socket.socket, level: int, name: int, value: int) -> None:
        wanted.append(name)

    monkeypatch.setattr(socket.socket, "setsockopt", noted)
    monkeypatch.setattr(socket, "SO_EXCLUSIVEADDRUSE", -5, raising=False)
    monkeypatch.setattr(sys, "platform", "win32")
    server._bind("127.0.0.1", 0).close()
    assert wanted == [-5]


_RUNS = """
import socket, sys
import conv_realtime.cli.serve, conv_realtime.cli.database, conv_realtime.edges.session
from conv_realtime.cli import main

sys.platform = "win32"
sys.modules["uvloop"] = None
socket.SO_EXCLUSIVEADDRUSE = socket.SO_REUSEADDR
main(sys.argv[1:])
"""


@pytest.mark.parametrize("command", ["up --port 0", "local", "token"])
def test_without_a_project_a_command_says_that_there_is_no_local_supabase(
    tmp_path: Path, command: str
) -> None:
    """And what to do instead."""
    done = subprocess.run(
        [sys.executable, "-c", _RUNS, *command.split(), "--state-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if "SUPABASE" not in name},
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        "Error: SUPABASE_URL: set it, and SUPABASE_SECRET_KEY: the local Supabase runs on Linux"
        " and macOS only\n"
    )


@pytest.mark.parametrize("system", ["this", "windows"])
def test_a_lock_has_one_holder_and_is_free_when_that_closes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    """Asking tells whether somebody holds it, and leaves it to whoever takes it next."""
    files = shared_files if system == "this" else _there("conv_realtime.shared_files", monkeypatch)
    path = tmp_path / "lock"
    held = files.take_lock(path)
    assert held is not None
    assert files.take_lock(path) is None
    assert files.is_locked(path)
    os.close(held)
    assert not files.is_locked(path)
    again = files.take_lock(path)
    assert again is not None
    os.close(again)


@pytest.mark.parametrize("system", ["this", "windows"])
def test_two_that_ask_at_once_do_not_take_each_other_for_the_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    """What a killed instance announced would be believed."""
    files = shared_files if system == "this" else _there("conv_realtime.shared_files", monkeypatch)
    path = tmp_path / "lock"
    path.touch()
    with path.open("r+b") as asked:
        monkeypatch.setattr(os, "getpid", lambda: 4711)
        assert files.lock(asked.fileno(), shared=True)
        monkeypatch.setattr(os, "getpid", lambda: 4712)
        assert not files.is_locked(path)
        assert files.take_lock(path) is None


def test_a_file_is_replaced_and_removed_as_soon_as_nobody_has_it_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There nothing is done to a file while somebody reads it; one that stays open is an error."""
    draft, target = tmp_path / "draft", tmp_path / "target"
    draft.write_text("new")
    target.write_text("old")
    refusals = iter([True, True, False])
    replace, unlink = os.replace, Path.unlink

    def replace_unless_open(source: Path, into: Path) -> None:
        if next(refusals):
            raise PermissionError(errno.EACCES, "Access is denied")
        replace(source, into)

    def unlink_unless_open(path: Path, missing_ok: bool = False) -> None:
        if next(refusals):
            raise PermissionError(errno.EACCES, "Access is denied")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(os, "replace", replace_unless_open)
    monkeypatch.setattr(Path, "unlink", unlink_unless_open)
    shared_files.replace(draft, target)
    assert target.read_text() == "new"
    refusals = iter([True, False])
    shared_files.remove(target)
    assert not target.exists()
    refusals = iter([True] * 100)
    with pytest.raises(PermissionError):
        shared_files.remove(target)


def test_readers_of_one_file_do_not_disturb_each_other_without_pread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is opened `again` has one place with the first: each read goes there itself."""
    opened = _there("conv_realtime.edges.disk.opened", monkeypatch)
    monkeypatch.delattr(os, "pread")
    size, numbers = 8, 2000
    path = tmp_path / "transcript"
    path.write_bytes(b"".join(b"%08d" % number for number in range(numbers)))
    with opened.OpenFile(str(path)) as one, one.again() as two, ThreadPoolExecutor(4) as threads:
        assert one.is_same(two)

        def read(number: int) -> bytes:
            file = one if number % 2 else two
            data: bytes = file.read(number * size, size)
            return data

        assert list(threads.map(read, range(numbers))) == [b"%08d" % n for n in range(numbers)]
        assert one.read(size * (numbers - 1), 100) == b"%08d" % (numbers - 1)
        assert one.read(size * numbers, 100) == b""


def test_a_file_of_any_identity_has_a_checkpoint(tmp_path: Path) -> None:
    """Numbers of volumes and files have 64 bits and more there, and on some drives of Linux."""
    most = 2**128 - 1
    stat = state_of(os.stat_result((0o100644, most, most, 1, 0, 0, 5, 0, 0, 0)))
    checkpoint = Checkpoint(stat, position=5)
    with Checkpoints(tmp_path, "here") as kept:
        assert kept.save("/a", checkpoint)
    with Checkpoints(tmp_path, "here") as kept:
        assert kept.load() == {"/a": checkpoint}
