"""`login`: a user of the project, for machines that should have no secret key."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from conv_realtime.cli.ending import run
from conv_realtime.cli.options import (
    common_options,
    emit,
    load_settings,
    option,
    printable,
)
from conv_realtime.cli.questions import ask
from conv_realtime.errors import ConfigError

if TYPE_CHECKING:
    from conv_realtime.edges.session import AuthServer, Kept
    from conv_realtime.settings import Settings

_PASSWORD = "CONV_REALTIME_PASSWORD"


@click.command()
@common_options
@option("--email", "EMAIL", help="Whose session; asked for if not given.")
@option(
    "--code",
    "LOGIN_CODE",
    is_flag=True,
    help="Without a password, by a code that is sent by e-mail.",
)
@option("--sign-out", "SIGN_OUT", is_flag=True, help="End the session instead.")
def login(
    as_json: bool, state_dir: Path | None, email: str | None, code: bool, sign_out: bool
) -> int:
    """Sign a user in.

    `up`, `backfill`, `serve` and the others then run as that user, with the publishable key: rows
    are theirs, and they see no others. Needs SUPABASE_URL and SUPABASE_PUBLISHABLE_KEY. The session
    is kept in the state directory, for this account alone.

    The password is asked for, or read from the variable CONV_REALTIME_PASSWORD; never give it as
    an argument, which every process on the machine can see.
    """
    settings = load_settings(state_dir=state_dir)

    async def sign() -> None:
        found = await (_out(settings) if sign_out else _in(settings, email, code=code))
        if as_json:
            emit({"owner_id": str(found.user_id) if found else None})
        elif found is None:
            click.echo("nobody was signed in")
        else:
            who = printable(f"{found.email or 'user'} ({found.user_id})")
            click.echo(f"{'signed out' if sign_out else 'signed in as'} {who}")

    return run(sign(), terminated=1)


async def _in(settings: Settings, email: str | None, *, code: bool) -> Kept:
    import httpx

    from conv_realtime.edges.checkpoints import make_state_dir, using
    from conv_realtime.edges.session import AuthServer, keep_session

    url, key = _project(settings)
    address = email or await _asked("E-mail")
    async with httpx.AsyncClient(timeout=settings.request_timeout) as http:
        auth_server = AuthServer(url, key, http)
        kept = await (
            _by_code(auth_server, address) if code else _by_password(auth_server, address)
        )
    with using(settings.state_dir):
        make_state_dir(settings.state_dir)
        keep_session(settings.state_dir, kept)
    return kept


async def _out(settings: Settings) -> Kept | None:
    import httpx

    from conv_realtime.edges.session import AuthServer, forget_session, read_session

    kept = read_session(settings.state_dir)
    if kept is None:
        return None
    _, key = _project(settings)
    async with httpx.AsyncClient(timeout=settings.request_timeout) as http:
        await AuthServer(kept.url, key, http).sign_out(kept)
    forget_session(settings.state_dir)
    return kept


async def _by_password(auth_server: AuthServer, email: str) -> Kept:
    password = os.environ.get(_PASSWORD)
    if not password:
        password = await _asked("Password", hidden=True, instead=_PASSWORD)
    return await auth_server.by_password(email, password)


async def _by_code(auth_server: AuthServer, email: str) -> Kept:
    await auth_server.send_code(email)
    click.echo(f"a code is on its way to {printable(email)}", err=True)
    code = await _asked("Code", instead="a terminal")
    return await auth_server.by_code(email, code.strip())


async def _asked(what: str, *, hidden: bool = False, instead: str = "--email") -> str:
    """Ask a person.

    Raises:
        ConfigError: there is nobody to ask.
    """
    hidden = hidden and sys.stdin.isatty()
    answer: str = await ask(
        partial(click.prompt, what, hide_input=hidden, err=True), "login", instead
    )
    return answer


def _project(settings: Settings) -> tuple[str, str]:
    """Return URL and publishable key.

    Raises:
        ConfigError: one is missing, or the key is another kind.
    """
    from conv_realtime.core.keys import read_key

    if settings.supabase_url is None:
        raise ConfigError("SUPABASE_URL", "set it to the URL of the project to sign in to")
    if settings.supabase_key is None:
        raise ConfigError(
            "SUPABASE_PUBLISHABLE_KEY", "is not set (dashboard, Project Settings, API Keys)"
        )
    key = settings.supabase_key.get_secret_value()
    read = read_key(key)
    if read.kind != "publishable":
        raise ConfigError(
            "SUPABASE_PUBLISHABLE_KEY",
            f"a user signs in with the publishable key, and {read.words} is set; unset"
            " SUPABASE_SECRET_KEY, SUPABASE_SERVICE_ROLE_KEY and SUPABASE_KEY (with a secret key"
            " nobody needs to sign in)",
        )
    return settings.supabase_url, key
