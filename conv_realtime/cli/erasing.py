"""`forget`: erasing a conversation for good."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import click

from conv_realtime.cli.ending import run
from conv_realtime.cli.instance import Instance
from conv_realtime.cli.options import (
    common_options,
    emit,
    load_settings,
    local_port_option,
    machine_option,
    option,
    owner_option,
    printable,
)
from conv_realtime.cli.questions import ask
from conv_realtime.errors import SourceError

if TYPE_CHECKING:
    from conv_realtime.edges.store import Family
    from conv_realtime.settings import Settings


@click.command()
@click.argument("conversation", metavar="ID", type=click.UUID)
@common_options
@local_port_option
@owner_option
@machine_option
@option("--yes", "FORGET_YES", is_flag=True, help="Do not ask.")
def forget(
    conversation: UUID,
    as_json: bool,
    state_dir: Path | None,
    local_port: int,
    owner_id: UUID | None,
    machine: str | None,
    yes: bool,
) -> int:
    """Erase a conversation from the database for good.

    ID is the conversation's: in the viewer it stands behind the # of the address, and `verify
    --json` tells it of each file.

    Its messages, title and places go, and those of its subagents, now and later. An empty row
    stays: it keeps the transcript from coming back, whoever reads it again. The transcript file
    itself, and the row of its project, are left alone.
    """
    settings = load_settings(state_dir=state_dir, owner_id=owner_id, machine=machine)

    async def erase() -> None:
        erased = await _forget(settings, local_port, conversation, yes=yes)
        if as_json:
            ids = [str(id) for id in erased.ids]
            emit({"forgotten": str(conversation), "conversations": ids})
        else:
            click.echo(f"forgotten: {', '.join(map(str, erased.ids))}")

    return run(erase(), terminated=1)


async def _forget(settings: Settings, local_port: int, id: UUID, *, yes: bool) -> Family:
    from conv_realtime.cli.target import lasting_target
    from conv_realtime.edges.session import signed_in
    from conv_realtime.edges.store import family, forget, http_client
    from conv_realtime.ingest import Ingest
    from conv_realtime.supabase_client import new_client

    with Instance(settings.state_dir) as instance:
        async with lasting_target(settings, instance, local_port=local_port) as found:
            session = signed_in(found.settings)
            async with http_client(found.settings.request_timeout, session) as http:
                client = await new_client(found.settings, http)
                erased = await family(client, id, found.settings.owner_id)
                if erased is None:
                    raise SourceError(str(id), "no such conversation of yours in the database")
                if not yes and not erased.already:
                    await _confirm(_question(erased))
                await forget(client, erased)
            # The instance on this state directory, if there is one, tells its listeners.
            async with Ingest(settings=found.settings) as ingest:
                await ingest.forget(erased.ids)
    return erased


async def _confirm(question: str) -> None:
    if not await ask(lambda: click.confirm(question, err=True), "forget", "--yes"):
        raise click.Abort


def _question(erased: Family) -> str:
    below = len(erased.ids) - 1
    agents = f" and {below} subagent{'s' * (below > 1)}" if below else ""
    title = printable(erased.title or "without a title")[:80]
    return (
        f"Erase {erased.ids[0]} ({title}){agents}, {erased.messages} messages, for good?"
        " Nothing brings it back"
    )
