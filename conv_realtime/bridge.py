"""Both rivers in one process: transcripts into Supabase, and the same changes out on `/ws`.

Under several workers or `--reload` more than one `Bridge` may be entered on a state directory.
The one that gets its lock ingests and serves its own changes at once (local feed). The others
serve what the database says (supabase feed) and wait for the lock: when it frees, one of them
ingests too. Nobody fails because of another.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from conv_realtime.background import beside, was_cancelled
from conv_realtime.core.format import Format
from conv_realtime.edges.checkpoints import StateLock
from conv_realtime.edges.metrics import Metrics, metrics_of
from conv_realtime.edges.session import signed_in
from conv_realtime.errors import ConvRealtimeError
from conv_realtime.ingest import Ingest
from conv_realtime.ports import Sink, Store
from conv_realtime.relay import ConnectionManager, LocalFeed, Relay
from conv_realtime.relay.chosen_feed import ChosenFeed
from conv_realtime.settings import Settings, as_paths
from conv_realtime.supabase_client import project_and_key

if TYPE_CHECKING:
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp

    from conv_realtime.events import Event

logger = logging.getLogger("conv_realtime.bridge")

RESTART_SECONDS = 5.0
_STANDBY: Mapping[str, Any] = {
    "files": 0,
    "lag_seconds": 0.0,
    "queue": 0,
    "dead_letters": 0,
    "watcher": "standby",
}
_Handler = TypeVar("_Handler", bound=Callable[[Any], Awaitable[None]])


class Bridge:
    """Watches transcripts, writes them to Supabase and serves their changes.

    Args:
        paths: files and folders to watch; default: every assistant's usual place.
        store: takes the rows instead of Supabase; it stays the caller's to close.
        formats: transcript formats of your own; see `Ingest`.
        settings: ready-made settings; otherwise keywords over the environment, which is read
            when the bridge is entered.
        **keywords: fields of `Settings`.
    """

    def __init__(
        self,
        paths: str | Path | Iterable[str | Path] | None = None,
        *,
        store: Store | None = None,
        formats: Sequence[Format] = (),
        settings: Settings | None = None,
        **keywords: Any,
    ) -> None:
        if paths is not None:
            keywords["paths"] = as_paths(paths)
        self._store = store
        self._formats = formats
        self._given = settings
        self._keywords = keywords
        self._feed = ChosenFeed()
        self._relay = Relay(
            feed=self._feed, settings=settings, ingest_health=self._ingest_health, **keywords
        )
        self._ingest: Ingest | None = None
        self._metrics: Metrics | None = None
        self._fault: str | None = None
        self._stack: AsyncExitStack | None = None
        self._is_over = False

    # What a host mounts ---------------------------------------------------------------------

    @property
    def routes(self) -> list[BaseRoute]:
        """`/ws` and `/healthz`, for a Starlette or FastAPI application."""
        return self._relay.routes

    @property
    def app(self) -> ASGIApp:
        """The same as an ASGI application, to mount under a path of the host's."""
        return self._relay.app

    @property
    def manager(self) -> ConnectionManager:
        """The connected clients, and how to broadcast to them."""
        return self._relay.manager

    @property
    def ingesting(self) -> bool:
        """Whether this bridge is the one of its state directory that ingests."""
        return self._ingest is not None

    @property
    def caught_up(self) -> bool:
        """Whether it ingests, and every file that was there when it began is judged and sent."""
        return self._ingest is not None and self._ingest.caught_up

    def on(self, type: str, **match: Any) -> Callable[[_Handler], _Handler]:
        """Register a coroutine for live events of `type` whose data has the given values.

        Each handler has a bounded queue of its own; its errors are logged and counted.
        """
        return self._relay.on(type, **match)

    def events(self, since: str | None = None) -> AsyncGenerator[Event, None]:
        """Iterate over events behind the cursor `since`, or from now on; see `Relay.events`."""
        return self._relay.events(since)

    def health(self) -> tuple[int, dict[str, Any]]:
        """Return HTTP status and body of `/healthz`, from memory."""
        return self._relay.health()

    # Life -----------------------------------------------------------------------------------

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[None]:
        """Run the bridge while a host application runs: `FastAPI(lifespan=bridge.lifespan)`."""
        async with self:
            yield

    async def __aenter__(self) -> Self:
        """Start watching and serving.

        Raises:
            ConfigError: no Supabase is configured, or a setting does not fit.
            MigrationError: the database lacks our schema.
            StoreError: the database refuses what the settings say.
            RuntimeError: it has been entered, and not left.
        """
        if self._stack is not None:
            raise RuntimeError("this bridge runs already")
        settings = self._given or Settings.load(**self._keywords)
        if self._store is None:
            project_and_key(settings)
        self._metrics = self._relay.metrics = metrics_of(settings)
        if self._metrics is not None:
            self._metrics.ask(lambda: self._ingest.readings() if self._ingest else {})
        self._is_over, self._fault = False, None
        async with AsyncExitStack() as stack:
            lock = stack.enter_context(StateLock(settings.state_dir))
            if lock.take():
                await self._enter_as_holder(stack, settings)
            else:
                await self._enter_beside_holder(stack, settings, lock)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Send what was read, stop, close the clients with `server_shutdown`, free the lock.

        Sending takes three seconds at most, and none while the store is away.
        """
        self._is_over = True
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.aclose()

    async def _enter_as_holder(self, stack: AsyncExitStack, settings: Settings) -> None:
        feed = LocalFeed(settings)
        self._feed.choose(feed)
        ingest = self._new_ingest(settings, sink=feed)
        feed.attach(ingest.transcripts)
        await self._enter_ingest(stack, ingest)
        await stack.enter_async_context(self._relay)
        await stack.enter_async_context(beside(self._kept_up(ingest.run), "ingest"))
        stack.push_async_callback(self._drain)

    async def _enter_beside_holder(
        self, stack: AsyncExitStack, settings: Settings, lock: StateLock
    ) -> None:
        from conv_realtime.edges.feed import SupabaseFeed

        logger.info("another bridge ingests; serving from Supabase", extra={"pid": os.getpid()})
        session = signed_in(settings) if self._store is None else None
        self._feed.choose(SupabaseFeed(settings=settings, session=session))
        await stack.enter_async_context(self._relay)
        takeover = self._kept_up(lambda: self._take_over(settings, lock))
        await stack.enter_async_context(beside(takeover, "ingest takeover"))
        stack.push_async_callback(self._drain)

    async def _take_over(self, settings: Settings, lock: StateLock) -> None:
        """Ingest as soon as the lock is free. Clients keep their cursors: the feed stays."""
        if not lock.take():
            self._fault = None  # another one ingests
            await lock.wait()
        logger.info("the other bridge has gone; ingesting")
        async with AsyncExitStack() as stack:
            ingest = self._new_ingest(settings)
            await self._enter_ingest(stack, ingest)
            await ingest.run()

    def _new_ingest(self, settings: Settings, sink: Sink | None = None) -> Ingest:
        return Ingest(
            store=self._store,
            sink=sink,
            meter=self._metrics,
            formats=self._formats,
            settings=settings,
        )

    async def _kept_up(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work`; should it fail after the start, do it again: the files are there.

        Also where it was cancelled by somebody else than us.
        """
        while True:
            try:
                return await work()
            except (Exception, asyncio.CancelledError) as error:
                if self._is_over or (isinstance(error, asyncio.CancelledError) and was_cancelled()):
                    raise
                self._note_failure(error)
            await asyncio.sleep(RESTART_SECONDS)

    def _note_failure(self, error: BaseException) -> None:
        if isinstance(error, ConvRealtimeError):
            logger.error("ingest: %s; starting again in %s s", error, RESTART_SECONDS)
            self._fault = str(error)
        else:
            logger.exception("ingest failed; starting again in %s s", RESTART_SECONDS)
            self._fault = type(error).__name__

    async def _drain(self) -> None:
        if self._ingest is not None:
            await self._ingest.drain()

    async def _enter_ingest(self, stack: AsyncExitStack, ingest: Ingest) -> None:
        await stack.enter_async_context(ingest)
        self._ingest = ingest
        stack.callback(setattr, self, "_ingest", None)

    def _ingest_health(self) -> Mapping[str, Any]:
        if self._ingest is not None:
            return self._ingest.health()
        if self._fault is not None:  # the lock is ours, and nobody ingests
            return {**_STANDBY, "watcher": "stopped", "last_error": self._fault}
        return _STANDBY
