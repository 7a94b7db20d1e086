"""What starting costs, and what --help says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from uuid import UUID

import click
import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from conv_realtime.cli import main
from conv_realtime.settings import Settings

HEAVY = ("supabase", "realtime", "starlette", "psycopg", "uvicorn", "pydantic", "httpx")


def _loaded_by(code: str) -> set[str]:
    """Return which heavy packages a fresh interpreter has loaded after running `code`."""
    code += f"\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.splitlines()[-1].split())


def _commands() -> dict[str, click.Command]:
    context = click.Context(main)
    found = {name: main.get_command(context, name) for name in main.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def test_importing_the_package_loads_nothing_heavy() -> None:
    """`import conv_realtime` is free until a name is used."""
    assert _loaded_by("import conv_realtime") == set()


def test_a_heavy_package_would_be_noticed() -> None:
    """The check above sees what it looks for."""
    assert "pydantic" in _loaded_by("from conv_realtime import Settings")


@pytest.mark.parametrize("command", ["", "up", "backfill", "tail", "migrations"])
def test_help_loads_nothing_heavy(command: str) -> None:
    """Reading --help does not wait for clients and servers to be imported."""
    arguments = [command, "--help"] if command else ["--help"]
    code = f"from conv_realtime.cli import main\nmain({arguments!r}, standalone_mode=False)"
    assert _loaded_by(code) == set()


def test_the_commands_are_those_of_the_design() -> None:
    """Nothing is missing from --help, and nothing undocumented has crept in."""
    assert set(_commands()) == {
        *("up", "serve", "demo", "backfill", "tail"),
        *("local", "token", "migrations"),
        *("verify", "forget", "status", "retry"),
        *("sources", "login", "doctor"),
    }


def test_help_says_what_each_command_does_in_whole_sentences() -> None:
    """On a terminal of 80 columns no line of the list is cut."""
    text = CliRunner().invoke(main, ["--help"], terminal_width=80).output
    for name in _commands():
        line = next(line for line in text.splitlines() if line.startswith(f"  {name} "))
        assert line.endswith("."), line
        assert not line.endswith("..."), line


@pytest.mark.parametrize("name", sorted(_commands()))
def test_every_option_can_be_set_by_the_environment(name: str) -> None:
    """Each option names its variable in --help, and every command has --json and --state-dir."""
    command = _commands()[name]
    options = [p for p in command.params if isinstance(p, click.Option)]
    text = CliRunner().invoke(main, [name, "--help"]).output
    assert {"--json", "--state-dir"} <= {flag for option in options for flag in option.opts}
    for option in options:
        assert isinstance(option.envvar, str), option.name
        assert option.envvar.startswith("CONV_REALTIME_")
        assert option.envvar in "".join(text.split()), option.name


@pytest.mark.parametrize(
    "typed, meant", [("statis", "status"), ("Up", "up"), ("migration", "migrations")]
)
def test_a_command_that_is_mistyped_is_answered_with_the_one_that_was_meant(
    typed: str, meant: str
) -> None:
    """With exit code 2; what is like none gets no guess."""
    done = CliRunner().invoke(main, [typed])
    assert done.exit_code == 2
    assert f"No such command '{typed}'. Did you mean '{meant}'?" in done.stderr
    assert "Did you mean" not in CliRunner().invoke(main, ["/home/ada/projects"]).stderr


def test_a_wrong_option_is_a_usage_error() -> None:
    """Exit code 2 for what the user can correct on the command line."""
    assert CliRunner().invoke(main, ["up", "--no-such-option"]).exit_code == 2


def test_a_wrong_setting_is_told_in_one_line() -> None:
    """An environment variable that does not fit is named, without a traceback, with exit code 2."""
    done = CliRunner().invoke(main, ["token"], env={"CONV_REALTIME_REST_SECONDS": "soon"})
    assert done.exit_code == 2
    assert "rest_seconds" in done.stderr.lower()
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("key", ["sb_secret_\nin_two_lines", "ключ"])
def test_a_key_that_no_request_can_carry_is_a_wrong_setting(key: str) -> None:
    """It is named, and not told."""
    done = CliRunner().invoke(main, ["status"], env={"SUPABASE_SECRET_KEY": key})
    assert done.exit_code == 2
    assert "SUPABASE_SECRET_KEY: is no key" in done.stderr
    assert "in_two_lines" not in done.stderr and "ключ" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["ws_path", "health_path", "metrics_path"])
def test_a_path_without_its_slash_is_a_wrong_setting(name: str) -> None:
    """No server would find anything there."""
    done = CliRunner().invoke(main, ["status"], env={f"CONV_REALTIME_{name.upper()}": "ws"})
    assert done.exit_code == 2
    assert f"{name}: is no path" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_stands_around_a_value_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that a secret is read from ends in a newline, one of Windows in two characters.

    To Docker the quotes of an environment file are a part of the value.
    """
    owner = "5e551011-0000-4000-8000-000000000001"
    given = {
        "SUPABASE_URL": ' "https://project.supabase.co"\r',
        "SUPABASE_SECRET_KEY": "'sb_secret_key'\n",
        "CONV_REALTIME_OWNER_ID": f"{owner}\r\n",
        "CONV_REALTIME_WS_TOKEN": " \n",
        "CONV_REALTIME_HEALTH_PATH": "none",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = Settings.load(supabase_jwt_secret="secret\n")
    assert settings.supabase_url == "https://project.supabase.co"
    assert settings.supabase_key == SecretStr("sb_secret_key")
    assert settings.supabase_jwt_secret == SecretStr("secret")
    assert (settings.owner_id, settings.ws_token) == (UUID(owner), None)
    assert settings.health_path is None


def test_a_variable_that_nothing_reads_is_told_in_one_line() -> None:
    """With the one that was meant: as it stands it would set nothing, and say nothing."""
    given = {
        "CONV_REALTIME_REDACTON": "strict",
        "CONV_REALTIME_REDACTION_PATTERNS": "acme_[0-9a-f]{32}",
        "CONV_REALTIME_DEMO_PACE": "2",
        "CONV_REALTIME_TEST_REPORT": "report.md",
    }
    done = CliRunner().invoke(main, ["status"], env=given)
    told = "CONV_REALTIME_REDACTON is set, and is no setting; did you mean CONV_REALTIME_REDACTION?"
    assert (done.exit_code, done.stderr.splitlines()) == (0, [told])


def test_an_error_of_the_system_is_told_in_one_line(tmp_path: Path) -> None:
    """A folder that cannot be made, a full disk: no traceback, exit code 1."""
    (tmp_path / "file").touch()
    done = CliRunner().invoke(main, ["migrations", str(tmp_path / "file" / "migrations")])
    assert done.exit_code == 1
    assert str(tmp_path / "file") in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["up", "backfill", "local", "token"])
def test_a_state_directory_that_cannot_be_is_a_wrong_setting(tmp_path: Path, command: str) -> None:
    """It is named, with the option that takes another."""
    (tmp_path / "file").touch()
    arguments = [command, "--state-dir", str(tmp_path / "file" / "state")]
    done = CliRunner().invoke(main, [*arguments, *(["--port", "0"] if command == "up" else [])])
    assert done.exit_code == 2, done.stderr
    assert "--state-dir" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/", "ws://[::1/ws", "ws://127.0.0.1:99999/ws", "ws://127.0.0.1:p/ws"]
)
def test_tail_refuses_what_is_no_address(url: str, tmp_path: Path) -> None:
    """Trying again for ever would say nothing."""
    done = CliRunner().invoke(main, ["tail", "--url", url, "--state-dir", str(tmp_path)])
    assert done.exit_code == 2
    assert f"{url} is no ws://host:port/ws" in done.stderr


@pytest.mark.parametrize("number", ["0", "inf", "nan"])
def test_a_number_that_counts_nothing_is_refused(number: str) -> None:
    """As a usage error, by each option that takes a number with a point."""
    for arguments in (["token", "--expires-in", number], ["demo", "--pace", number]):
        done = CliRunner().invoke(main, arguments)
        assert (done.exit_code, arguments[1] in done.stderr) == (2, True)


def test_an_option_whose_value_is_empty_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell's variable that is not set: the current folder would have become the state's."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["token", "--state-dir", ""])
    assert done.exit_code == 2
    assert "'--state-dir'" in done.stderr and "it is empty" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_dotenv_file_that_is_no_text_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PowerShell's `>` writes UTF-16."""
    (tmp_path / ".env").write_text("CONV_REALTIME_REST_SECONDS=1\n", encoding="utf-16")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["status"])
    assert done.exit_code == 2
    assert done.stderr.splitlines() == ["Error: .env: is not in UTF-8; save it as that"]


def test_a_dotenv_file_is_read_and_the_environment_wins(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`.env` gives what the environment does not, for our variables and Supabase's alone."""
    folder = tmp_path_factory.mktemp("dotenv")
    (folder / ".env").write_text("CONV_REALTIME_REST_SECONDS=bad\nPATH=/nowhere\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CONV_REALTIME_STATE_DIR", str(folder / "state"))
    monkeypatch.setenv("CONV_REALTIME_REST_SECONDS", "1")
    assert CliRunner().invoke(main, ["token"]).exit_code == 0
    monkeypatch.delenv("CONV_REALTIME_REST_SECONDS")
    assert CliRunner().invoke(main, ["token"]).exit_code == 2
    # The command put it there for its own process; this one goes on.
    monkeypatch.delenv("CONV_REALTIME_REST_SECONDS")
