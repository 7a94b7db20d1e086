"""`local`, `token` and `migrations`: the database side."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from conv_realtime.cli.ending import run
from conv_realtime.cli.instance import Instance
from conv_realtime.cli.options import (
    Positive,
    common_options,
    emit,
    load_settings,
    option,
    owner_option,
    require_local,
)
from conv_realtime.errors import MigrationError


@click.command()
@common_options
@owner_option
@option("--host", "LOCAL_HOST", default="127.0.0.1", help="Address to serve on.")
@option(
    "--allow-remote",
    "LOCAL_ALLOW_REMOTE",
    is_flag=True,
    help="Let --host be an address that other machines reach.",
)
@option(
    "--port",
    "LOCAL_PORT",
    type=click.IntRange(0, 65535),
    default=54321,
    help="Port to serve on; 0 takes a free one.",
)
def local(
    as_json: bool,
    state_dir: Path | None,
    owner_id: UUID | None,
    host: str,
    allow_remote: bool,
    port: int,
) -> int:
    """Run only the local Supabase, until interrupted."""
    settings = load_settings(state_dir=state_dir, owner_id=owner_id)

    async def serve() -> None:
        from conv_realtime.cli.target import local_supabase

        async with local_supabase(
            settings, port=port, host=host, allow_remote=allow_remote
        ) as supabase:
            facts: dict[str, Any] = {
                "supabase_url": supabase.url,
                "publishable_key": supabase.publishable_key,
                "secret_key": supabase.secret_key,
                "db_url": supabase.db_url,
                "jwt_secret": supabase.jwt_secret,
                "owner_id": str(supabase.owner_id),
            }
            with Instance(settings.state_dir) as instance:
                instance.announce(facts)
                if as_json:
                    emit({"event": "ready", **facts})
                else:
                    click.echo("ready")
                    for name, value in facts.items():
                        click.echo(f"  {name:<16} {value}")
                await asyncio.Event().wait()

    return run(serve())


@click.command()
@common_options
@option("--sub", "TOKEN_SUB", type=click.UUID, help="User id; default: the owner.")
@option("--role", "TOKEN_ROLE", default="authenticated", help="Role of the database.")
@option(
    "--expires-in",
    "TOKEN_EXPIRES_IN",
    type=Positive(),
    default=3600.0,
    help="Seconds that it is valid.",
)
def token(
    as_json: bool,
    state_dir: Path | None,
    sub: UUID | None,
    role: str,
    expires_in: float,
) -> None:
    """Print a JWT for the local Supabase."""
    settings = load_settings(state_dir=state_dir)
    from conv_realtime.edges.checkpoints import using
    from conv_realtime.local.keys import load_keys

    require_local()
    with using(settings.state_dir):
        keys = load_keys(settings.state_dir / "supabase" / "keys.json")
    minted = keys.token(sub or settings.owner_id, role, expires_in)
    if as_json:
        emit({"token": minted})
    else:
        click.echo(minted)


@click.command()
@common_options
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@option("--check", "MIGRATIONS_CHECK", is_flag=True, help="Compare a database instead.")
@option("--db-url", "DB_URL", help="Database to compare: postgresql://user:password@host/name.")
def migrations(
    as_json: bool,
    state_dir: Path | None,
    directory: Path | None,
    check: bool,
    db_url: str | None,
) -> int:
    """Write the schema into DIR, or check a database.

    The files are Supabase migrations:
    apply them with `supabase db push`, or in name order with any PostgreSQL client.
    """
    if check:
        if db_url is None:
            raise click.UsageError("--check needs --db-url")
        return _compare(db_url, as_json=as_json)
    if directory is None:
        raise click.UsageError("say where to write them: conv-realtime migrations DIR")
    written = _write(directory)
    if as_json:
        emit({"written": [str(path) for path in written]})
    else:
        for path in written:
            click.echo(path)
    return 0


def _write(directory: Path) -> list[Path]:
    """Write the files and return their paths; a file with the same text is left alone.

    Raises:
        MigrationError: a file is there with another text. Released files never change, so
            somebody has edited it.
    """
    from conv_realtime.sql import migrations as released

    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for migration in released():
        path = directory / migration.filename
        if not path.exists():
            path.write_text(migration.sql, encoding="utf-8", newline="\n")
        elif path.read_text(encoding="utf-8") != migration.sql:
            raise MigrationError(str(path), "was changed by hand; move it away and run this again")
        paths.append(path)
    return paths


def _compare(db_url: str, *, as_json: bool) -> int:
    """Say which migrations a database has; 0 if it has them all and no others of ours."""
    require_local("comparing a database")
    from conv_realtime.cli.schema import compare

    difference = compare(db_url)
    if as_json:
        emit({"current": difference.current, **difference.lists()})
    elif difference.current:
        click.echo("The database has every migration.")
    else:
        for state, names in difference.lists().items():
            for name in names if state != "applied" else ():
                click.echo(f"{state}: {name}")
        click.echo(
            "Run: conv-realtime migrations supabase/migrations && supabase db push", err=True
        )
    return 0 if difference.current else 1
