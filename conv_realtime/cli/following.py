"""`tail`: printing live events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from conv_realtime.cli.ending import run
from conv_realtime.cli.instance import running
from conv_realtime.cli.options import common_options, emit, load_settings, option
from conv_realtime.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import SecretStr

_WIDTH = 100


@click.command()
@common_options
@option(
    "--conversation",
    "CONVERSATION",
    "conversations",
    type=click.UUID,
    multiple=True,
    help="Only this conversation; can be given more than once.",
)
@option("--since", "SINCE", help="Cursor to go on from; default: what happens from now on.")
@option("--url", "WS_URL", help="Address of /ws; default: that of the running instance.")
def tail(
    as_json: bool,
    state_dir: Path | None,
    conversations: Sequence[UUID],
    since: str | None,
    url: str | None,
) -> int:
    """Print live events, until interrupted.

    A lost connection goes on where it was.
    Far away servers want a token: CONV_REALTIME_WS_TOKEN.
    """
    settings = load_settings(state_dir=state_dir)
    address = url or _running_address(settings.state_dir)

    async def follow() -> None:
        from conv_realtime.edges.live import connect
        from conv_realtime.events import SubscribeRequest

        wanted = SubscribeRequest(since=since, conversations=list(conversations) or None)
        async with connect(address, token=_plain(settings.ws_token), subscribe=wanted) as live:
            async for event in live:
                frame = json.loads(event.to_json())
                if as_json:
                    emit(frame)
                else:
                    click.echo(_line(frame))

    return run(follow())


def _running_address(state_dir: Path) -> str:
    facts = running(state_dir)
    if facts is None or not facts.get("ws"):
        raise ConfigError("--url", "nothing runs on this state directory: conv-realtime up")
    return str(facts["ws"])


def _plain(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _line(frame: dict[str, Any]) -> str:
    """Return an event as a line for a person."""
    kind, data = _one_line(frame["type"]), frame["data"]
    if kind in ("new_message", "message_update"):
        title = (data.get("conversation") or {}).get("title") or data["conversation_id"]
        return f"{kind:<20} [{_one_line(title)}] {data['role']}: {_one_line(data['text'])}"
    if kind in ("new_conversation", "conversation_update"):
        title = _one_line(data["title"] or data["id"])
        return f"{kind:<20} [{title}] {data['message_count']} messages"
    named = data.get("name") or data.get("path") or data.get("id") or data.get("message") or ""
    return f"{kind:<20} {_one_line(str(named))}"


def _one_line(text: str) -> str:
    """Return the beginning of a transcript's text without what could control a terminal."""
    line = "".join(one if one.isprintable() else " " for one in text[: _WIDTH + 1])
    line = " ".join(line.split())
    return line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"
