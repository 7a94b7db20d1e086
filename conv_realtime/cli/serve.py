"""Running a bridge or a relay behind a server until interrupted, and saying when it is live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
import websockets
from starlette.applications import Starlette

from conv_realtime import viewer
from conv_realtime.background import beside
from conv_realtime.cli import nothing_yet
from conv_realtime.cli.instance import Instance, running
from conv_realtime.cli.options import emit, until
from conv_realtime.cli.server import Server
from conv_realtime.cli.target import Target, succeeding, target
from conv_realtime.errors import ConfigError, FeedError, StoreError

if TYPE_CHECKING:
    from conv_realtime.bridge import Bridge
    from conv_realtime.relay import Relay
    from conv_realtime.settings import Settings

_LIVE_SECONDS = 60.0
_LOOK_SECONDS = 0.02
_ASK_SECONDS = 3.0
_WATCHING = (None, "ok", "partial", "standby")
"""States of the watcher that are as they should be: a relay has none, another bridge may watch."""


class Serving:
    """`up`, `serve` and `demo`: what they have in common.

    `ready` is set when everything is live: files are watched, the feed runs, /ws answers.
    """

    def __init__(
        self, settings: Settings, host: str, port: int, local_port: int, *, as_json: bool
    ) -> None:
        self._settings = settings
        self._address = (host, port)
        self._local_port = local_port
        self._as_json = as_json
        self.ready = asyncio.Event()

    async def up(self, *, hint: bool = True) -> None:
        """Ingest and serve until cancelled.

        Args:
            hint: whether to say what to do where no transcript is found.
        """
        made: list[Bridge] = []

        async def bridge(found: Target) -> Bridge:
            from conv_realtime.bridge import Bridge

            made.append(Bridge(settings=found.settings))
            return made[0]

        async def look() -> None:
            if await _is_empty(made[0]):
                click.echo(nothing_yet.in_terminal(self._settings.paths), err=True)

        if hint:
            await self._serve(bridge, nothing_yet.on_page(self._settings.paths), look)
        else:
            await self._serve(bridge, "")

    async def relay(self) -> None:
        """Serve from Supabase until cancelled.

        Raises:
            ConfigError: the project refuses the settings.
            MigrationError: it lacks our schema.
        """

        async def relay(found: Target) -> Relay:
            from conv_realtime.relay import Relay

            await _first_question(found.settings)
            return Relay(settings=found.settings)

        await self._serve(relay, nothing_yet.OF_OTHERS)

    async def _serve(
        self,
        make: Callable[[Target], Awaitable[Bridge | Relay]],
        nothing: str,
        meanwhile: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        """Serve what `make` makes, and do `meanwhile` from when it is ready until it stops."""
        # Left in reverse: clients are told first, then the port closes, then the database.
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(self._server())
            instance = stack.enter_context(Instance(self._settings.state_dir))
            found = await stack.enter_async_context(
                target(self._settings, instance, local_port=self._local_port)
            )
            served = await make(found)
            stack.push_async_callback(server.stop)
            await stack.enter_async_context(served)
            if not instance.mine:
                _refuse_another_supabase(self._settings.state_dir, found, served.health()[1])
            page = viewer.routes(self._settings.ws_path, nothing)
            await server.start(Starlette(routes=[*served.routes, *page]))
            facts = self._facts(server, found)
            await _live(served.health, facts["ws"])
            async with _announced(self._settings, instance, found, facts):
                self._say_ready(facts)
                if meanwhile is not None:
                    await stack.enter_async_context(beside(meanwhile(), "hint"))
                await server.ended()
                raise FeedError(facts["ws"], "the HTTP server has ended by itself")

    @asynccontextmanager
    async def _server(self) -> AsyncIterator[Server]:
        """Take the port; where the instance of this state directory has it, say so.

        Raises:
            ConfigError: it is in use, or the address is not this machine's.
        """
        async with AsyncExitStack() as stack:
            try:
                server = await stack.enter_async_context(Server(*self._address))
            except ConfigError:
                other = running(self._settings.state_dir) or {}
                if urlsplit(other.get("viewer") or "").port != self._address[1]:
                    raise
                raise ConfigError(
                    "--port",
                    f"conv-realtime runs on {self._address[1]} already, as process {other['pid']}: "
                    f"open {other['viewer']}, or choose another port",
                ) from None
            yield server

    def _facts(self, server: Server, found: Target) -> dict[str, Any]:
        return {
            "ws": f"ws://{server.address}{self._settings.ws_path}",
            "viewer": f"http://{server.address}/",
            **found.facts(),
        }

    def _say_ready(self, facts: Mapping[str, Any]) -> None:
        if self._as_json:
            emit({"event": "ready", **facts})
        else:
            click.echo("ready")
            for name in ("viewer", "ws", "supabase_url", "owner_id"):
                click.echo(f"  {name:<14} {facts[name]}")
        self.ready.set()


async def _is_empty(bridge: Bridge) -> bool:
    """Return whether a bridge has found no transcript, once it has looked at everything."""

    def look() -> bool:
        return bool(_files(bridge)) or bridge.caught_up or not bridge.ingesting

    await until(look, _LOOK_SECONDS)
    return bridge.caught_up and not _files(bridge)


def _files(bridge: Bridge) -> int:
    return int(bridge.health()[1]["ingest"]["files"])


def _refuse_another_supabase(state_dir: Path, found: Target, health: Mapping[str, Any]) -> None:
    """See to it that who stands by for another process would write where that one does.

    Raises:
        ConfigError: it does not, so nothing would ever arrive.
    """
    if health.get("ingest", {}).get("watcher") != "standby":
        return
    other = running(state_dir) or {}
    theirs = other.get("supabase_url")
    if theirs is not None and _place(theirs) != _place(found.url):
        raise ConfigError(
            "--state-dir",
            f"process {other['pid']} sends the transcripts of {state_dir} to {theirs}, so that "
            f"none would go to {found.url}; stop it, or choose another state directory",
        )


def _place(url: str) -> str:
    return urlsplit(url).netloc.replace("localhost", "127.0.0.1")


@asynccontextmanager
async def _announced(
    settings: Settings, instance: Instance, found: Target, facts: Mapping[str, Any]
) -> AsyncIterator[None]:
    """Let other commands find this process; if another one is the instance, once that has gone."""
    private = {**found.private_facts(), **facts}
    if instance.mine:
        instance.announce(private)
        yield
    else:
        async with succeeding(settings, instance, found, private):
            yield


async def _first_question(settings: Settings) -> None:
    """Ask the project what it refuses for good; one that is away is left to the feed.

    Raises:
        ConfigError: it refuses the key, or is none.
        MigrationError: it lacks our schema.
    """
    from conv_realtime.edges.session import signed_in
    from conv_realtime.edges.store import SupabaseStore, advised, http_client
    from conv_realtime.supabase_client import new_client

    async with http_client(_ASK_SECONDS, signed_in(settings)) as http:
        try:
            await SupabaseStore(await new_client(settings, http)).database()
        except StoreError as error:
            if not error.retryable:
                raise advised(error) from error


async def _live(health: Callable[[], tuple[int, Mapping[str, Any]]], ws: str) -> None:
    """Wait until files are watched, the feed runs and a client of /ws is welcomed.

    Raises:
        FeedError: that takes longer than _LIVE_SECONDS.
    """
    try:
        async with asyncio.timeout(_LIVE_SECONDS):
            await until(lambda: _is_live(health()[1]), _LOOK_SECONDS)
            await _welcomed(ws)
    except TimeoutError:
        said = health()[1]
        feed, watcher = said.get("feed", {}).get("state"), said.get("ingest", {}).get("watcher")
        what = f"feed {feed}" if watcher in _WATCHING else f"feed {feed}, watcher {watcher}"
        raise FeedError(
            ws, f"not live after {_LIVE_SECONDS:.0f} s ({what}); conv-realtime doctor says why"
        ) from None


def _is_live(health: Mapping[str, Any]) -> bool:
    watching = health.get("ingest", {}).get("watcher") in _WATCHING
    return watching and health.get("feed", {}).get("state") in ("live", "polling")


async def _welcomed(ws: str) -> None:
    try:
        # Frames that nobody takes must not hold up the server's goodbye behind them.
        async with websockets.connect(ws, proxy=None, max_queue=None) as client:
            await client.recv()
    except websockets.InvalidStatus as error:
        # On another address than loopback this client is a stranger, and refusing it is right.
        if error.response.status_code not in (401, 403):
            raise
