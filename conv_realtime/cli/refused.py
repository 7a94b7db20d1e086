"""`status` and `retry`: how it goes, and what the database would not take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from conv_realtime.cli.instance import Instance, running
from conv_realtime.cli.options import (
    common_options,
    emit,
    load_settings,
    local_port_option,
    machine_option,
    option,
    owner_option,
    printable,
    run,
)

if TYPE_CHECKING:
    from conv_realtime.models import StoredFault
    from conv_realtime.settings import Settings

_ASK_SECONDS = 3.0


@click.command()
@common_options
def status(as_json: bool, state_dir: Path | None) -> int:
    """Say how the running instance does, and what the database refused.

    Where nothing runs, it says what the state directory knows.
    """
    settings = load_settings(state_dir=state_dir)
    facts = _facts(settings)
    if as_json:
        emit(facts)
    else:
        _tell(facts)
    return 0


def _facts(settings: Settings) -> dict[str, Any]:
    from conv_realtime.edges.checkpoints import survey

    known = survey(settings.state_dir)
    instance = running(settings.state_dir) or {}
    health = _health(instance.get("viewer"), settings.health_path)
    ingest = health.get("ingest") or {}
    return {
        "running": bool(instance),
        "pid": instance.get("pid"),
        "status": health.get("status"),
        "ws": instance.get("ws"),
        "feed": health.get("feed"),
        "files": ingest.get("files", known.files),
        "watcher": ingest.get("watcher"),
        "lag_seconds": ingest.get("lag_seconds"),
        "queue": ingest.get("queue"),
        "changed_files": known.waiting,
        "last_error": ingest.get("last_error") or (health.get("feed") or {}).get("last_error"),
        "forgotten": known.forgotten,
        "dead_letters": [_letter(fault) for fault in known.dead_letters],
    }


def _health(viewer: str | None, path: str | None) -> dict[str, Any]:
    """Return what `/healthz` of the running instance says, nothing where it does not answer."""
    if viewer is None or path is None:
        return {}
    import httpx

    try:
        answer = httpx.get(viewer.rstrip("/") + path, timeout=_ASK_SECONDS, trust_env=False)
        body = answer.json()
    except (httpx.HTTPError, ValueError):
        return {"status": "no answer"}
    return body if isinstance(body, dict) else {}


def _letter(fault: StoredFault) -> dict[str, Any]:
    letter = asdict(fault)
    return letter | {"id": str(fault.id), "parent": fault.parent and str(fault.parent)}


def _tell(facts: dict[str, Any]) -> None:
    if facts["running"]:
        click.echo(f"running as process {facts['pid']}: {facts['status'] or 'no server'}")
    else:
        click.echo("nothing runs on this state directory")
    for name in ("files", "changed_files", "lag_seconds", "queue", "last_error", "forgotten"):
        if facts[name] is not None:
            click.echo(printable(f"  {name:<14} {facts[name]}"))
    click.echo(f"  {'dead letters':<14} {len(facts['dead_letters'])}")
    for letter in facts["dead_letters"]:
        click.echo(_line(letter))


def _line(letter: dict[str, Any]) -> str:
    return printable("    {table} {id} since {since}, {code}: {reason} ({path})".format(**letter))


@click.command()
@click.argument("ids", metavar="[ID]...", nargs=-1, type=click.UUID)
@common_options
@local_port_option
@owner_option
@machine_option
@option("--discard", "RETRY_DISCARD", is_flag=True, help="Give up on them instead.")
def retry(
    ids: Sequence[UUID],
    as_json: bool,
    state_dir: Path | None,
    local_port: int,
    owner_id: UUID | None,
    machine: str | None,
    discard: bool,
) -> int:
    """Send rows once more that the database refused.

    IDs are those that `status` shows; default: all. Exit code 1 if some are refused again. It
    may run beside `up`.
    """
    settings = load_settings(state_dir=state_dir, owner_id=owner_id, machine=machine)
    left: list[StoredFault] = []

    async def send() -> None:
        left.extend(await _retry(settings, local_port, set(ids) or None, discard=discard))
        if as_json:
            emit({"event": "summary", "dead_letters": [_letter(fault) for fault in left]})
        else:
            click.echo(f"{len(left)} dead letters")
            for fault in left:
                click.echo(_line(_letter(fault)))

    code = run(send(), terminated=1)
    tried = [fault for fault in left if not ids or fault.id in ids]
    return code or int(bool(tried))


async def _retry(
    settings: Settings, local_port: int, ids: set[UUID] | None, *, discard: bool
) -> Sequence[StoredFault]:
    from conv_realtime.cli.target import target
    from conv_realtime.ingest import Ingest

    with Instance(settings.state_dir) as instance:
        async with target(settings, instance, local_port=local_port) as found:
            async with Ingest(settings=found.settings) as ingest:
                if discard:
                    ingest.discard(ids)
                    return ingest.dead_letters
                return await ingest.retry(ids)
