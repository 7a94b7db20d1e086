"""`backfill`: reading transcripts once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import click

from conv_realtime.cli.ending import run
from conv_realtime.cli.instance import Instance
from conv_realtime.cli.options import (
    common_options,
    counted,
    emit,
    load_settings,
    local_port_option,
    machine_option,
    owner_option,
    paths_argument,
    printable,
    progress_bar,
    require_paths,
)

if TYPE_CHECKING:
    from conv_realtime.ingest import Summary
    from conv_realtime.settings import Settings

_FACTS = ("files", "conversations", "messages", "changed", "skipped", "bytes", "seconds")


@click.command()
@paths_argument
@common_options
@local_port_option
@owner_option
@machine_option
def backfill(
    paths: Sequence[Path],
    as_json: bool,
    state_dir: Path | None,
    local_port: int,
    owner_id: UUID | None,
    machine: str | None,
) -> int:
    """Read transcripts once, then exit.

    PATHs are files and folders; default: every assistant found in its usual place.
    """
    require_paths(paths)
    settings = load_settings(paths=paths, state_dir=state_dir, owner_id=owner_id, machine=machine)

    async def read() -> None:
        summary = await _read(settings, local_port)
        _tell(summary, as_json=as_json)

    return run(read(), terminated=1)


async def _read(settings: Settings, local_port: int) -> Summary:
    from conv_realtime.cli.target import lasting_target
    from conv_realtime.ingest import Ingest

    with Instance(settings.state_dir) as instance:
        async with lasting_target(settings, instance, local_port=local_port) as found:
            async with Ingest(settings=found.settings) as ingest:
                with progress_bar("Reading") as shown:
                    return await ingest.backfill(on_progress=shown)


def _tell(summary: Summary, *, as_json: bool) -> None:
    for skip in summary.skips:
        place = skip.path if skip.offset is None else f"{skip.path} at byte {skip.offset}"
        click.echo(printable(f"skipped {place}: {skip.reason}"), err=True)
    if not summary.files:
        click.echo(
            "no transcripts found: conv-realtime sources says where it looks, and what is skipped",
            err=True,
        )
    facts = {name: getattr(summary, name) for name in _FACTS}
    if as_json:
        emit({"event": "summary", **facts, "redacted": dict(summary.redacted)})
    else:
        click.echo(
            "{conversations} conversations and {messages} messages in {files} files: "
            "{changed} rows changed, {skipped} skipped, {seconds:.1f} s".format(**facts)
        )
        if summary.unchanged:
            click.echo(
                f"{summary.unchanged} files are as they were, and were not read again: lines that"
                " are skipped in them are not counted"
            )
        if summary.redacted:
            click.echo(f"secrets replaced: {counted(summary.redacted)}")
