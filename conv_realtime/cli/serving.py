"""`up`, `serve` and `demo`: what runs until it is interrupted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import click

from conv_realtime.background import beside
from conv_realtime.cli.ending import run
from conv_realtime.cli.options import (
    Positive,
    common_options,
    load_settings,
    local_port_option,
    machine_option,
    option,
    owner_option,
    paths_argument,
)

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _address_options(command: _Command) -> _Command:
    host = option("--host", "HOST", default="127.0.0.1", help="Address to serve on.")
    port = option(
        "--port",
        "PORT",
        type=click.IntRange(0, 65535),
        default=8787,
        help="Port to serve on; 0 takes a free one.",
    )
    return host(port(command))


@click.command()
@paths_argument
@common_options
@_address_options
@local_port_option
@owner_option
@machine_option
def up(
    paths: Sequence[Path],
    as_json: bool,
    state_dir: Path | None,
    host: str,
    port: int,
    local_port: int,
    owner_id: UUID | None,
    machine: str | None,
) -> int:
    """Watch transcripts and serve them live.

    They are written to Supabase and served on /ws and in a viewer.

    PATHs are files and folders; default: every assistant found in its usual place.
    """
    settings = load_settings(paths=paths, state_dir=state_dir, owner_id=owner_id, machine=machine)
    for path in settings.paths or ():
        if not path.exists():
            click.echo(f"{path} does not exist yet; it is watched as soon as it does", err=True)
    from conv_realtime.cli.serve import Serving

    return run(Serving(settings, host, port, local_port, as_json=as_json).up())


@click.command()
@common_options
@_address_options
@local_port_option
@owner_option
def serve(
    as_json: bool,
    state_dir: Path | None,
    host: str,
    port: int,
    local_port: int,
    owner_id: UUID | None,
) -> int:
    """Serve /ws from Supabase, watching no files.

    And the viewer: of what all machines write into the project.
    """
    settings = load_settings(state_dir=state_dir, owner_id=owner_id)
    from conv_realtime.cli.serve import Serving

    return run(Serving(settings, host, port, local_port, as_json=as_json).relay())


@click.command()
@common_options
@_address_options
@local_port_option
@owner_option
@machine_option
@option(
    "--pace",
    "DEMO_PACE",
    type=Positive(),
    default=1.0,
    help="How fast it is typed: 2 is twice as fast.",
)
def demo(
    as_json: bool,
    state_dir: Path | None,
    host: str,
    port: int,
    local_port: int,
    owner_id: UUID | None,
    machine: str | None,
    pace: float,
) -> int:
    """Show a conversation that types itself.

    It runs as `up` does, for people without transcripts.
    """
    import tempfile

    from conv_realtime.cli.demo import typing
    from conv_realtime.cli.serve import Serving

    settings = load_settings(state_dir=state_dir, owner_id=owner_id, machine=machine)
    if state_dir is None:  # the user's own conversations stay among themselves
        settings = settings.model_copy(update={"state_dir": settings.state_dir / "demo"})

    async def show(folder: Path) -> None:
        settings_here = settings.model_copy(update={"paths": [folder]})
        serving = Serving(settings_here, host, port, local_port, as_json=as_json)
        async with beside(typing(folder, serving.ready, pace=pace), "typing"):
            await serving.up(hint=False)

    with tempfile.TemporaryDirectory(prefix="conv-realtime-demo-") as folder:
        return run(show(Path(folder).resolve()))
