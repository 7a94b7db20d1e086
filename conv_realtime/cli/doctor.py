"""`doctor`: what is wrong with a set-up, found by trying it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import click

from conv_realtime.cli.ending import run
from conv_realtime.cli.options import (
    common_options,
    emit,
    load_settings,
    local_port_option,
    option,
    owner_option,
    paths_argument,
    printable,
    progress_bar,
)
from conv_realtime.errors import ConfigError, ConvRealtimeError, SessionError

if TYPE_CHECKING:
    from conv_realtime.cli.checkup import Check
    from conv_realtime.cli.checkup.gateway import Access
    from conv_realtime.settings import Settings

_ASK_SECONDS = 10.0
_COLOURS = {"ok": "green", "failed": "red", "warning": "yellow", "skipped": None}


@click.command()
@paths_argument
@common_options
@local_port_option
@owner_option
@option(
    "--forecast/--no-forecast",
    "DOCTOR_FORECAST",
    default=True,
    help="Read the last 30 days' transcripts, and say what they cost on Supabase's plans.",
)
@option(
    "--write",
    "DOCTOR_WRITE",
    is_flag=True,
    help="With a secret key: write a row of nobody's, hear of it over Realtime, erase it.",
)
def doctor(
    paths: Sequence[Path],
    as_json: bool,
    state_dir: Path | None,
    local_port: int,
    owner_id: UUID | None,
    forecast: bool,
    write: bool,
) -> int:
    """Find out what is wrong with a set-up.

    Tries everything that the other commands need, and says what to do about each thing that
    fails; exit code 1 then. Nothing is left behind, and no key is printed. Without SUPABASE_URL
    it looks at the local Supabase.

    PATHs are files and folders; default: every assistant found in its usual place.
    """
    settings = load_settings(paths=paths, state_dir=state_dir, owner_id=owner_id)
    counts: Counter[str] = Counter()

    async def examine() -> None:
        async for check in _checks(settings, local_port, forecast=forecast, write=write):
            counts[check.state] += 1
            _tell(check, as_json=as_json)
        if not as_json:
            _sum_up(counts)

    return run(examine(), terminated=1) or int(counts["failed"] > 0)


async def _checks(
    settings: Settings, local_port: int, *, forecast: bool, write: bool
) -> AsyncIterator[Check]:
    from conv_realtime.cli.checkup import machine

    yield machine.state_directory(settings.state_dir)
    transcripts = machine.Transcripts(settings.paths)
    yield transcripts.find()
    yield await machine.watching(transcripts.reached)
    async for check in _of_project(settings, local_port, write=write):
        yield check
    if forecast and transcripts.files:
        from conv_realtime.cli.checkup.forecast import forecast as foresee

        with progress_bar("Reading") as shown:
            found = await foresee(settings, transcripts, shown)
        yield found


async def _of_project(settings: Settings, local_port: int, *, write: bool) -> AsyncIterator[Check]:
    import httpx

    from conv_realtime.cli.checkup import failed, skipped
    from conv_realtime.cli.checkup.channel import Channel
    from conv_realtime.cli.checkup.gateway import Gateway
    from conv_realtime.cli.checkup.project import Project
    from conv_realtime.cli.instance import Instance
    from conv_realtime.cli.target import lasting_target
    from conv_realtime.settings import key_variable

    async with AsyncExitStack() as stack:
        configured = settings.supabase_url is not None
        if not configured:
            try:
                instance = stack.enter_context(Instance(settings.state_dir))
                found = await stack.enter_async_context(
                    lasting_target(settings, instance, local_port=local_port)
                )
            except ConvRealtimeError as error:
                yield failed(
                    "local",
                    f"SUPABASE_URL is not set, and the local Supabase does not start: {error}",
                    "do what it says, or set SUPABASE_URL and SUPABASE_SECRET_KEY to use a"
                    " hosted one",
                )
                return
            settings = found.settings
        if settings.supabase_key is None:
            yield failed(
                "key",
                "SUPABASE_URL is set and no key is",
                "set SUPABASE_SECRET_KEY (dashboard, Project Settings, API Keys)",
            )
            return
        named = key_variable() if configured else "the local Supabase's key"
        try:
            access = await _access(settings, named)
        except (ConfigError, SessionError) as error:
            passes = isinstance(error, SessionError) and error.retryable
            advice = "see whether the network and the project are there, and run this again"
            yield failed("session", str(error), advice if passes else "run: conv-realtime login")
            return
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=_ASK_SECONDS))
        gateway = Gateway(http, access)
        missing = None
        async for check in Project(gateway).checks():
            if check.state == "failed" and check.name in ("url", "key", "schema"):
                missing = missing or check.name
            yield check
        if missing is not None:
            for name in ("realtime", "round trip"):
                yield skipped(name, f"first the {missing}")
            return
        async for check in Channel(gateway, write=write).checks():
            yield check


async def _access(settings: Settings, named: str) -> Access:
    """Return how the project is reached.

    Raises:
        ConfigError, SessionError: somebody is signed in, and cannot be spoken for.
    """
    from conv_realtime.cli.checkup.gateway import Access
    from conv_realtime.core.keys import read_key
    from conv_realtime.edges.session import signed_in

    assert settings.supabase_url is not None and settings.supabase_key is not None
    key = settings.supabase_key.get_secret_value()
    read = read_key(key)
    session = signed_in(settings)
    user = session.user_id if session else read.user
    return Access(
        url=settings.supabase_url,
        key=key,
        token=await session.token() if session else key,
        read=read,
        variable=named,
        user=user,
        owner=settings.owner_id or user,
    )


def _tell(check: Check, *, as_json: bool) -> None:
    if as_json:
        emit(
            {
                "event": "check",
                "check": check.name,
                "state": check.state,
                "says": check.says,
                "remedy": check.remedy,
                "facts": check.facts,
            }
        )
        return
    state = click.style(f"{check.state:<8}", fg=_COLOURS[check.state])
    click.echo(f"{state} {check.name:<16} {printable(check.says)}")
    if check.remedy:
        click.echo(f"{'':<25} → {printable(check.remedy)}")


def _sum_up(counts: Counter[str]) -> None:
    if counts["failed"]:
        click.echo(f"{counts['failed']} of {counts.total()} checks failed.")
    else:
        click.echo("Nothing is wrong.")
