"""`sources`: which assistants are on this machine, and what of theirs would be read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from conv_realtime.cli.options import common_options, emit, paths_argument, printable, require_paths

if TYPE_CHECKING:
    from conv_realtime.ingest.inventory import Source

_SKIPS_SHOWN = 20


@click.command()
@paths_argument
@common_options
def sources(paths: Sequence[Path], as_json: bool, state_dir: Path | None) -> None:
    """Say which assistants are here, and their files.

    Also what of these would be skipped, and why. Nothing is sent, and no database is needed.

    PATHs are files and folders; default: every assistant found in its usual place.
    """
    from conv_realtime.edges.formats import known_formats
    from conv_realtime.ingest.inventory import take_stock

    require_paths(paths)
    found = take_stock(known_formats(), paths or None)
    if as_json:
        for source in found:
            emit({"event": "source", **_facts(source)})
        return
    for line in _table(found):
        click.echo(printable(line))


def _facts(source: Source) -> dict[str, Any]:
    newest = source.newest
    return {
        "source": source.source,
        "title": source.title,
        "places": [{"path": str(at), "exists": os.path.exists(at)} for at in source.places],
        "files": source.files,
        "bytes": source.bytes,
        "newest": None if newest is None else _when(newest).isoformat().replace("+00:00", "Z"),
        "skipped": [{"path": skip.path, "reason": skip.reason} for skip in source.skipped],
    }


def _table(found: Sequence[Source]) -> Iterator[str]:
    """Yield lines for a person: what is there, what is skipped, and what is not there."""
    there = [one for one in found if one.found and one.source is not None]
    if there:
        width = max(len(one.title) for one in there)
        yield f"{'assistant':<{width}}  {'files':>6}  {'size':>9}  {'newest':<16}  where"
    for one in there:
        newest = "" if one.newest is None else f"{_when(one.newest).astimezone():%Y-%m-%d %H:%M}"
        where = ", ".join(_short(at) for at in one.places if os.path.exists(at))
        yield f"{one.title:<{width}}  {one.files:>6}  {_size(one.bytes):>9}  {newest:<16}  {where}"
    skips = [skip for one in found for skip in one.skipped]
    if skips:
        yield f"skipped: {len(skips)} files"
        yield from (f"  {skip.path}: {skip.reason}" for skip in skips[:_SKIPS_SHOWN])
        if len(skips) > _SKIPS_SHOWN:
            yield f"  and {len(skips) - _SKIPS_SHOWN} more, see --json"
    absent = [one.title for one in found if not one.found and one.places]
    if absent:
        yield f"not on this machine: {', '.join(absent)}"
    elsewhere = [one.title for one in found if not one.places and not one.found]
    if elsewhere:
        yield f"only by path: {', '.join(elsewhere)}"


def _when(seconds: float) -> datetime:
    return datetime.fromtimestamp(round(seconds), UTC)


def _short(place: Path) -> str:
    home = Path.home()
    return str(Path("~", place.relative_to(home)) if place.is_relative_to(home) else place)


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
