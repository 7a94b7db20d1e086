"""The command line: `conv-realtime COMMAND`.

Commands are looked up by name and imported when they are called, so that `--help` costs nothing.
Exit codes: 0 done, 1 failed, 2 usage or settings, 130 interrupted.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click
from click.exceptions import Exit

from conv_realtime.errors import ConfigError, ConvRealtimeError

logger = logging.getLogger("conv_realtime.cli")

_HOMES = {
    "up": "serving",
    "serve": "serving",
    "demo": "serving",
    "backfill": "reading",
    "tail": "following",
    "local": "database",
    "token": "database",
    "migrations": "database",
    "verify": "comparing",
    "status": "refused",
    "retry": "refused",
    "forget": "erasing",
    "sources": "finding",
    "login": "signing_in",
    "doctor": "doctor",
}


class _Failure(click.ClickException):
    """One of our errors, or of the operating system's, shown in one line."""

    def __init__(self, error: ConvRealtimeError | OSError) -> None:
        super().__init__(" ".join(str(error).split()))


class _Refusal(_Failure):
    """A setting of the user's that does not do; here one sets them by options."""

    exit_code = click.UsageError.exit_code

    def __init__(self, error: ConfigError) -> None:
        name = "--state-dir" if error.name == "state_dir" else error.name
        super().__init__(ConfigError(name, error.advice))


class _Commands(click.Group):
    def main(self, *args: Any, **attributes: Any) -> Any:
        _open_closed_streams()
        _print_anything()
        try:
            return super().main(*args, **attributes)
        except OSError as error:  # of --help and --version, which come before any command
            _Failure(error).show()
            sys.exit(_Failure.exit_code)
        finally:
            _drop_what_cannot_be_written()

    def make_context(self, *args: Any, **attributes: Any) -> click.Context:
        try:
            return super().make_context(*args, **attributes)
        except BrokenPipeError:  # of --help and --version; click would end with 1
            raise Exit(0) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_HOMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        home = _HOMES.get(cmd_name)
        if home is None:
            return None
        command = getattr(import_module(f"conv_realtime.cli.{home}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in _HOMES and not name.startswith("-"):
            near = get_close_matches(name.lower(), _HOMES, n=1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {name!r}.{meant}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> NoReturn:
        try:
            code = super().invoke(ctx)
        except ConfigError as error:
            raise _Refusal(error) from error
        except ConvRealtimeError as error:
            raise _Failure(error) from error
        except (KeyboardInterrupt, click.Abort):
            ctx.exit(130)
        except BrokenPipeError:
            # Whoever read our output has gone, as `| head` does; the rest has nowhere to go.
            ctx.exit(0)
        except OSError as error:  # a full disk, a folder that is not ours: the message names it
            logger.debug("failed", exc_info=True)
            raise _Failure(error) from error
        ctx.exit(code or 0)


def _read_dotenv(path: Path) -> None:
    """Take our variables and Supabase's from a `.env` file; what is set already stays.

    Raises:
        ConfigError: it is no text, as what PowerShell's `>` writes.
    """
    if not path.is_file():
        return
    from dotenv import dotenv_values

    try:
        found = dotenv_values(path)
    except UnicodeDecodeError:
        raise ConfigError(str(path), "is not in UTF-8; save it as that") from None
    for name, value in found.items():
        if value and name.startswith(("CONV_REALTIME_", "SUPABASE_")):
            os.environ.setdefault(name, value)


def _have_a_home() -> None:
    """Take the root for the home of who has none: a user without a name, where HOME is not set."""
    if not os.path.isabs(os.path.expanduser("~")):
        os.environ["HOME"] = "/"


def _open_closed_streams() -> None:
    """Read nothing from, and write nothing to, those of the three that the caller has closed.

    A socket of ours would take the number instead, and libuv ends a process that closes it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            setattr(sys, name, os.fdopen(opened, "w" if number else "r", closefd=False))


def _drop_what_cannot_be_written() -> None:
    """Leave nothing for Python to write at the end: it would fail again, and say so."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def _print_anything() -> None:
    """Escape what the output's encoding has no character for, as that of Windows for most."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@click.command(
    cls=_Commands,
    name="conv-realtime",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="conv_realtime")
def main() -> None:
    """Watch AI-assistant transcripts, upsert them into Supabase, and follow them live.

    Settings come from options, environment variables and a .env file in this directory.
    Without SUPABASE_URL everything runs on a local Supabase of its own.

    Begin with `conv-realtime up`; when something is wrong, `conv-realtime doctor`.
    """
    _have_a_home()
    _read_dotenv(Path(".env"))
