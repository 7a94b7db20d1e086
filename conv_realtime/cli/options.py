"""What the commands share: options, output and logging."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from conv_realtime.errors import ConfigError

if TYPE_CHECKING:
    from conv_realtime.ingest import Progress
    from conv_realtime.settings import Settings

logger = logging.getLogger("conv_realtime.cli")

_Found = TypeVar("_Found")
_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Option(click.Option):
    """Takes no empty value: that is a shell's variable that was not set, and would mean `.`."""

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        if value == "":
            raise click.BadParameter("it is empty", ctx=ctx, param=self)
        return super().type_cast_value(ctx, value)


class Positive(click.FloatRange):
    """A number above 0, and neither `inf` nor `nan`, which count nothing."""

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if not isfinite(number):
            self.fail(f"{value} is no number that ends.", param, ctx)
        return number


def option(
    name: str, variable: str, *parameter: str, **attributes: Any
) -> Callable[[_Command], _Command]:
    """Declare an option that can also be set by the environment, and says so in --help."""
    attributes.setdefault("show_default", "default" in attributes)
    return click.option(
        name,
        *parameter,
        cls=_Option,
        envvar=f"CONV_REALTIME_{variable}",
        show_envvar=True,
        **attributes,
    )


json_option = option(
    "--json",
    "JSON",
    "as_json",
    is_flag=True,
    help="One JSON object a line on stdout.",
    show_default=False,
)
state_dir_option = option(
    "--state-dir",
    "STATE_DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Checkpoints, machine id and local data; default: the user's state directory.",
)
owner_option = option("--owner-id", "OWNER_ID", type=click.UUID, help="User id that owns the rows.")
machine_option = option("--machine", "MACHINE", help="Name of this machine in ids.")
local_port_option = option(
    "--local-port",
    "LOCAL_PORT",
    type=click.IntRange(0, 65535),
    default=54321,
    help="Port of the local Supabase; 0 takes a free one.",
)


def _at_home(_: click.Context, __: click.Parameter, paths: Sequence[Path]) -> tuple[Path, ...]:
    from conv_realtime.settings import as_paths

    return tuple(as_paths(paths))


paths_argument = click.argument(
    "paths",
    metavar="[PATH]...",
    nargs=-1,
    type=click.Path(path_type=Path),
    callback=_at_home,
)


def log_level_option(command: _Command) -> _Command:
    """Add --log-level and set logging up, on stderr, before the command runs."""

    def configure(ctx: click.Context, param: click.Parameter, value: str) -> None:
        configure_logging(value)

    return option(
        "--log-level",
        "LOG_LEVEL",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="warning",
        help="What to log on stderr.",
        callback=configure,
        expose_value=False,
    )(command)


def common_options(command: _Command) -> _Command:
    """Add what every command takes."""
    return state_dir_option(log_level_option(json_option(command)))


def configure_logging(level: str) -> None:
    """Log to stderr; other people's libraries only when something is wrong.

    The Realtime and HTTP clients log addresses that hold keys, so they never go below WARNING.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("conv_realtime").setLevel(level.upper())
    # Calls every lost connection permanent; the feed, which connects again, says what is true.
    logging.getLogger("realtime").setLevel(logging.CRITICAL)


def printable(text: str) -> str:
    """Return `text` without secrets, what could begin a line or control a terminal escaped.

    Names of files and titles are other people's text.
    """
    # A name may be bytes that are no text; what looks for secrets would make another one of it.
    text = without_secrets(text.encode("utf-8", "backslashreplace").decode())
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def counted(kinds: Mapping[str, int]) -> str:
    """Return numbers by name, the largest first, as a person reads them."""
    ordered = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {name}" for name, count in ordered)


def without_secrets(text: str) -> str:
    """Return `text` with secrets of a known form replaced, whatever is set for what is sent."""
    from conv_realtime.core.sanitize import Sanitizer

    return Sanitizer().text(text)


class _OneLine(logging.Formatter):
    """Keeps a message on its line; only a traceback behind it has lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))


def load_settings(**values: Any) -> Settings:
    """Return the settings: options that were given over the environment.

    Raises:
        ConfigError: a value does not fit.
    """
    from conv_realtime.settings import Settings

    _tell_of_unknown_variables()
    settings = Settings.load(**{name: value for name, value in values.items() if value != ()})
    paths = settings.paths
    try:
        places = {
            "state_dir": settings.state_dir.absolute(),
            "paths": paths and [path.absolute() for path in paths],
        }
    except FileNotFoundError as error:
        raise ConfigError("the current folder", "is not there any more") from error
    return settings.model_copy(update=places)


def _tell_of_unknown_variables() -> None:
    from conv_realtime.cli import main
    from conv_realtime.cli.variables import known_variables, told_of_unknown

    if any(name.startswith("CONV_REALTIME_") for name in os.environ):
        for line in told_of_unknown(os.environ, known_variables(main)):
            click.echo(line, err=True)


def require_paths(paths: Sequence[Path]) -> None:
    """Refuse a path that is not there, for commands that read what is.

    Raises:
        click.BadParameter: one of them does not exist.
    """
    from conv_realtime.edges.disk import is_there

    for path in paths:
        if not is_there(path):
            raise click.BadParameter(f"{path} does not exist", param_hint="PATH")


def emit(value: Mapping[str, Any]) -> None:
    """Print one JSON object as a line on stdout, at once."""
    sys.stdout.write(json.dumps(value, separators=(",", ":"), default=str) + "\n")
    sys.stdout.flush()


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[Progress], None]]:
    """Give what shows the progress of reading files, in bytes, on a terminal's stderr."""
    with click.progressbar(
        length=0, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:

        def show(progress: Progress) -> None:
            bar.length = progress.total_bytes
            bar.label = f"{label} {progress.done_files}/{progress.total_files} files"
            bar.update(progress.done_bytes - bar.pos)

        yield show


def clear_bar() -> None:
    """Take a bar off the terminal's line, for something else to be printed; it comes back."""
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)


async def until(look: Callable[[], _Found | None], seconds: float) -> _Found:
    """Return what `look` finds; it looks every so many seconds until that is true of something.

    For what other processes do: there is no event to wait on.
    """
    while True:
        found = look()
        if found:
            return found
        await asyncio.sleep(seconds)


def require_local(what: str = "the local Supabase", instead: str | None = None) -> None:
    """Make sure that what the local Supabase needs is installed.

    Args:
        what: needs it, too.
        instead: what does as well.

    Raises:
        ConfigError: the extra `local` is missing.
    """
    from importlib.util import find_spec

    missing = [name for name in ("psycopg", "psycopg_pool") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            "local",
            f"{what} needs: pip install 'conv_realtime[local]'"
            + (f" (or {instead})" if instead else ""),
        )
