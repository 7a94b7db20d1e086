"""Commands in an environment that was made for other programs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Runner
from tests.ingest.lines import SESSION, user


def test_proxies_and_settings_of_other_databases_do_not_reach_the_local_supabase(
    conv_realtime: Runner, home: Path
) -> None:
    """Behind a proxy of a company nothing was stored; with a service of libpq nothing started."""
    (home / f"{SESSION}.jsonl").write_bytes(user("q"))
    command = conv_realtime(
        *("backfill", home, "--json"),
        CONV_REALTIME_LOCAL_PORT="0",
        HTTP_PROXY="http://127.0.0.1:9",
        ALL_PROXY="http://127.0.0.1:9",
        PGSERVICE="theirs",
        PGOPTIONS="-c default_transaction_read_only=on",
    )
    assert command.json()["messages"] == 1
    assert command.process.wait(30) == 0, command.stderr()


@pytest.mark.parametrize(
    ("variable", "value"),
    [("ALL_PROXY", "odd://127.0.0.1:9"), ("SSL_CERT_FILE", "/nowhere"), ("no_proxy", "[::")],
)
def test_proxies_and_certificates_that_cannot_be_used_are_named(
    conv_realtime: Runner, variable: str, value: str
) -> None:
    """In one line, as any setting; httpx raises whatever comes, and names no variable."""
    command = conv_realtime("up", "--port", "0", "--local-port", "0", **{variable: value})
    assert command.process.wait(30) == 2
    told = command.stderr().splitlines()
    assert len(told) == 1 and variable in told[0] and "cannot be used" in told[0], told


@pytest.mark.skipif(sys.platform == "win32", reason="is about users of Unix")
@pytest.mark.parametrize("command", ["sources", "status"])
def test_a_user_without_a_name_needs_no_home(command: str) -> None:
    """As in a container that is run under some number: what is to be said is said."""
    code = (
        "import pwd\n"
        "def nobody(_): raise KeyError\n"
        "pwd.getpwuid = nobody\n"
        "from conv_realtime.cli import main\n"
        f"main([{command!r}])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["sources", "verify"])
def test_the_home_of_an_unknown_user_is_a_path_like_others(
    conv_realtime: Runner, command: str
) -> None:
    """No shell puts anything in its place, and neither do we."""
    started = conv_realtime(command, "~nobody-of-this-name/transcripts")
    assert started.process.wait(30) == 2
    assert "~nobody-of-this-name/transcripts does not exist" in started.stderr()


def test_a_folder_that_was_removed_under_a_command_is_told(home: Path) -> None:
    """`up` began again and again."""
    gone = home / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["sh", "-c", 'rmdir "$PWD" && exec "$0" -m conv_realtime up .', sys.executable],
        cwd=gone,
        env={**os.environ, "CONV_REALTIME_STATE_DIR": str(home / "state")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    told = "Error: the current folder: is not there any more\n"
    assert (done.returncode, done.stderr) == (2, told)
