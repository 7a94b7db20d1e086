"""`status` and `retry`: how it goes, and what the database would not take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from conv_realtime.cli.ending import run
from conv_realtime.cli.instance import Instance, running
from conv_realtime.cli.options import (
    common_options,
    counted,
    emit,
    load_settings,
    local_port_option,
    machine_option,
    option,
    owner_option,
    printable,
)

if TYPE_CHECKING:
    from conv_realtime.models import StoredFault
    from conv_realtime.settings import Settings

_ASK_SECONDS = 3.0


@click.command()
@common_options
def status(as_json: bool, state_dir: Path | None) -> int:
    """Say how the running instance does.

    Also which rows the database refused, and why. Where nothing runs, it says what the state
    directory knows.
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
    from conv_realtime.edges.session import read_session

    known = survey(settings.state_dir)
    instance = running(settings.state_dir) or {}
    health = _health(instance.get("viewer"), settings.health_path)
    ingest, feed = health.get("ingest") or {}, health.get("feed") or {}
    session = read_session(settings.state_dir)
    return {
        "running": bool(instance),
        "pid": instance.get("pid"),
        "status": health.get("status"),
        "ws": instance.get("ws"),
        "supabase_url": instance.get("supabase_url"),
        "publishable_key": instance.get("publishable_key"),
        "signed_in": session and (session.email or str(session.user_id)),
        "feed": health.get("feed"),
        "clients": health.get("clients"),
        "files": ingest.get("files", known.files),
        "watcher": ingest.get("watcher"),
        "unreadable": ingest.get("unreadable"),
        "lag_seconds": ingest.get("lag_seconds"),
        "queue": ingest.get("queue"),
        "changed_files": known.waiting,
        "last_error": ingest.get("last_error") or feed.get("last_error") or known.fault,
        "redacted": ingest.get("redacted", known.redacted),
        "forgotten": known.forgotten,
        "dead_letters": None if known.fault else [_letter(one) for one in known.dead_letters],
    }


def _health(viewer: str | None, path: str | None) -> dict[str, Any]:
    """Return what `/healthz` of the running instance says, nothing where it serves nothing."""
    if viewer is None:
        return {}
    if path is None:
        return {"status": "not told, for there is no health path"}
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
    for name, value in _table(facts):
        click.echo(printable(f"  {name:<14} {value}"))
    letters = facts["dead_letters"]
    for letter in letters or ():
        click.echo(_line(letter))
    if letters:
        click.echo("  send them again: conv-realtime retry; give up: conv-realtime retry --discard")


def _table(facts: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what there is to say, by name, for a person."""
    feed = facts["feed"] or {}
    lag = facts["lag_seconds"]
    closed = facts["unreadable"] or None
    waiting = 0 if facts["running"] else facts["changed_files"]  # else the queue says it
    yield from (
        (name, value)
        for name, value in (
            ("address", facts["ws"]),
            ("Supabase", facts["supabase_url"]),
            ("signed in", facts["signed_in"]),
            ("feed", feed and f"{feed.get('kind')}, {feed.get('state')}"),
            ("last event", feed.get("last_event_at")),
            ("watcher", facts["watcher"]),
            ("unreadable", closed and f"{closed}, which conv-realtime sources names"),
            ("clients", facts["clients"]),
            ("files", f"{facts['files']}{f', {waiting} changed since' if waiting else ''}"),
            ("lag", None if lag is None else f"{lag} s, {facts['queue']} records wait"),
            ("last error", facts["last_error"] or ("none" if facts["running"] else None)),
            ("forgotten", facts["forgotten"] or None),
            ("redacted", counted(facts["redacted"])),
            ("dead letters", None if facts["dead_letters"] is None else len(facts["dead_letters"])),
        )
        if value not in (None, {}, "")
    )


def _line(letter: dict[str, Any]) -> str:
    since = letter["since"][:16].replace("T", " ")
    return printable(
        f"    {letter['table']:<13} {letter['id']}  {since}  {letter['code']}: {letter['reason']}"
        f"  {letter['path']}"
    )


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

    IDs are those that `status` shows; default: all. Exit code 1 if some of them are left:
    refused again, or not sent, for their transcript is gone. It may run beside `up`.
    """
    settings = load_settings(state_dir=state_dir, owner_id=owner_id, machine=machine)
    left: list[StoredFault] = []

    async def send() -> None:
        before, after = await _retry(settings, local_port, set(ids) or None, discard=discard)
        left.extend(after)
        if as_json:
            emit({"event": "summary", "dead_letters": [_letter(fault) for fault in left]})
        else:
            tried = len(_tried(left, ids))
            if not discard and before:
                click.echo(f"{tried} left" if tried else "all taken")
            click.echo(f"{len(left)} dead letters" if before else "there are no dead letters")
            for fault in left:
                click.echo(_line(_letter(fault)))

    return run(send(), terminated=1) or int(bool(_tried(left, ids)))


def _tried(left: Sequence[StoredFault], ids: Sequence[UUID]) -> list[StoredFault]:
    """Return the letters that were meant and are still there."""
    return [fault for fault in left if not ids or fault.id in ids]


async def _retry(
    settings: Settings, local_port: int, ids: set[UUID] | None, *, discard: bool
) -> tuple[Sequence[StoredFault], Sequence[StoredFault]]:
    """Return the dead letters before and after."""
    from conv_realtime.cli.target import lasting_target
    from conv_realtime.ingest import Ingest

    with Instance(settings.state_dir) as instance:
        async with lasting_target(settings, instance, local_port=local_port) as found:
            async with Ingest(settings=found.settings) as ingest:
                before = list(ingest.dead_letters)
                if discard:
                    ingest.discard(ids)
                    return before, ingest.dead_letters
                return before, await ingest.retry(ids)
