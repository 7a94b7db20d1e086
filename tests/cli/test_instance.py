"""How commands find the instance of a state directory."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from conv_realtime import shared_files
from conv_realtime.cli import main
from conv_realtime.cli.instance import Instance, running
from conv_realtime.cli.options import load_settings
from conv_realtime.cli.target import Target, _announced, lasting_target, succeeding
from conv_realtime.errors import ConfigError
from tests.cli.conftest import Runner

_HOLDER = """
import sys, time
from pathlib import Path
from conv_realtime.cli.instance import Instance
with Instance(Path(sys.argv[1])) as instance:
    instance.announce({"ws": "ws://127.0.0.1:1/ws"})
    print("held", flush=True)
    sys.stdin.read()
"""


def _holder(state: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()
    process.wait(10)
    process.stdout.close()


def test_an_instance_without_a_health_path_is_no_instance_without_a_server(tmp_path: Path) -> None:
    """`status` says why it does not know."""
    variables = {"CONV_REALTIME_HEALTH_PATH": "none", "CONV_REALTIME_STATE_DIR": str(tmp_path)}
    with Instance(tmp_path) as instance:
        instance.announce({"viewer": "http://127.0.0.1:1/"})
        said = CliRunner(env=variables).invoke(main, ["status"]).stdout
    assert said.startswith(f"running as process {os.getpid()}: not told, for there is no health")


def test_nothing_runs_on_an_unknown_state_directory(tmp_path: Path) -> None:
    """A directory that does not exist has no instance, and asking does not make it."""
    assert running(tmp_path / "none") is None
    assert not (tmp_path / "none").exists()


def test_an_instance_is_found_where_nothing_may_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that has become read-only does not make it look as if nothing ran."""
    process = _holder(tmp_path)
    opened = os.open

    def read_only(path: Path, flags: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return opened(path, flags)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(os, "open", read_only)
        facts = running(tmp_path)
    _end(process)
    assert facts is not None and facts["pid"] == process.pid


def test_what_an_instance_announces_is_found_while_it_lives(tmp_path: Path) -> None:
    """Another process finds the facts, readable by the user alone, until the instance ends."""
    process = _holder(tmp_path)
    facts = running(tmp_path)
    mode = stat.S_IMODE((tmp_path / "instance.json").stat().st_mode)
    _end(process)
    assert facts is not None
    assert facts["ws"] == "ws://127.0.0.1:1/ws"
    assert facts["pid"] == process.pid
    assert mode == 0o600
    assert running(tmp_path) is None
    assert not (tmp_path / "instance.json").exists()


def test_keys_that_cannot_be_written_leave_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A draft of a full disk would hold some of them for ever."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Instance(tmp_path) as instance:
        before = sorted(tmp_path.iterdir())
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(ConfigError, match="No space left"):
            instance.announce({"secret_key": "sesame"})
        assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("planted", ["instance.json", "instance.{pid}"])
def test_keys_are_written_into_no_file_that_was_there(tmp_path: Path, planted: str) -> None:
    """Whoever put one there, or a link, and may read it, does not get them."""
    theirs = tmp_path / "theirs"
    theirs.write_text("{}")
    (tmp_path / planted.format(pid=os.getpid())).symlink_to(theirs)
    with Instance(tmp_path) as instance:
        instance.announce({"secret_key": "sesame"})
        assert theirs.read_text() == "{}"
        kept = tmp_path / "instance.json"
        assert not kept.is_symlink()
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_an_instance_that_was_killed_is_not_found(tmp_path: Path) -> None:
    """What a kill -9 leaves behind is not taken for a running instance."""
    process = _holder(tmp_path)
    process.send_signal(signal.SIGKILL)
    _end(process)
    assert (tmp_path / "instance.json").exists()
    assert running(tmp_path) is None


def test_an_instance_ends_well_where_nothing_may_be_written_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it announced is left, and of nobody: a supervisor is not told of a failure."""

    def read_only(path: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(shared_files, "remove", read_only)
    with Instance(tmp_path) as instance:
        instance.announce({"ws": "ws://127.0.0.1:1/ws"})
    assert (tmp_path / "instance.json").exists()
    assert running(tmp_path) is None


async def test_who_only_looks_keeps_nobody_from_being_the_instance(tmp_path: Path) -> None:
    """A `status` at the moment of the start holds the lock for an instant, and no longer."""
    settings = load_settings(state_dir=tmp_path)
    with Instance(tmp_path):
        pass  # the lock's file is there
    instance = Instance(tmp_path)
    with (tmp_path / "instance.lock").open() as looked_at:
        assert shared_files.lock(looked_at.fileno(), shared=True)
        assert not instance.claim()
    async with asyncio.timeout(20):
        assert await _announced(settings, instance) is None
    with instance:
        assert instance.mine


def test_there_is_one_instance_and_another_one_can_follow(tmp_path: Path) -> None:
    """The second is not the instance, says nothing in its place, and can be it afterwards."""
    process = _holder(tmp_path)
    with Instance(tmp_path) as second:
        assert not second.mine
        second.announce({"ws": "wrong"})
        assert json.loads((tmp_path / "instance.json").read_text())["ws"] != "wrong"
        _end(process)
        assert second.claim()


async def test_a_command_goes_on_when_the_local_supabase_that_it_uses_ends(
    conv_realtime: Runner, home: Path
) -> None:
    """It runs the same one then, at the same address, and ends it with itself."""
    lender = conv_realtime("local", "--port", "0", "--json")
    facts = lender.json()
    settings = load_settings(state_dir=home / "state")
    async with httpx.AsyncClient(headers={"apikey": facts["secret_key"]}) as http:
        with Instance(settings.state_dir) as instance:
            async with lasting_target(settings, instance, local_port=0) as found:
                assert found.url == facts["supabase_url"]
                assert await asyncio.to_thread(lender.end) == 130
                async with asyncio.timeout(60):
                    while not running(settings.state_dir):  # noqa: ASYNC110 - a file and a lock
                        await asyncio.sleep(0.05)
                    assert await _answers(http, found.url)
        assert not await _answers(http, found.url)


async def test_who_stands_by_takes_over_where_the_state_directory_was_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As one on a network drive may be for a moment: it was not tried once more."""
    state, away = tmp_path / "state", tmp_path / "away"
    holder = _holder(state)
    found = Target(load_settings(state_dir=state), "http://127.0.0.1:1")
    with Instance(state) as instance:
        async with succeeding(found.settings, instance, found, {"ws": "ours"}):
            state.rename(away)
            state.write_text("what is no folder")
            async with asyncio.timeout(60):
                while not caplog.records:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                state.unlink()
                away.rename(state)
                await asyncio.to_thread(_end, holder)
                while (running(state) or {}).get("ws") != "ours":  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
    assert [record.exc_info for record in caplog.records if record.exc_info] == []


async def _answers(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(f"{url}/rest/v1/conversations")).status_code == 200
    except httpx.TransportError:
        return False
