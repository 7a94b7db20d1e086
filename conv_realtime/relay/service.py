"""`Relay`: a feed on one side, `/ws`, handlers and iterators on the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any, Self, TypeVar

from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from conv_realtime.background import was_cancelled
from conv_realtime.core.log import Entry
from conv_realtime.edges.door import Door
from conv_realtime.edges.feed import SupabaseFeed
from conv_realtime.edges.metrics import Metrics, metrics_of
from conv_realtime.edges.session import signed_in
from conv_realtime.errors import ConvRealtimeError
from conv_realtime.events import Event
from conv_realtime.events.matching import values_of
from conv_realtime.models import Message
from conv_realtime.ports import Feed, Page
from conv_realtime.relay.connections import ConnectionManager
from conv_realtime.relay.endpoint import routes_of
from conv_realtime.relay.listeners import EventHandler, Listener, follow
from conv_realtime.settings import Settings
from conv_realtime.supabase_client import project_and_key

logger = logging.getLogger("conv_realtime.relay")

IngestHealth = Callable[[], Mapping[str, Any] | None]

_HEAD_SECONDS = 2.0
_RESTART_SECONDS = 1.0
_Handler = TypeVar("_Handler", bound=EventHandler)


class Relay:
    """Serves the changes of a feed.

    Args:
        feed: where changes come from; default: the Supabase that the settings name. One that is
            given stays the caller's.
        settings: ready-made settings; otherwise keywords over the environment, which is read
            when the relay is entered.
        ingest_health: what `/healthz` says of an ingest in the same process.
        **keywords: fields of `Settings`.
    """

    def __init__(
        self,
        *,
        feed: Feed | None = None,
        settings: Settings | None = None,
        ingest_health: IngestHealth | None = None,
        **keywords: Any,
    ) -> None:
        self.manager = ConnectionManager(settings, feed=feed)
        self.door: Door | None = None
        self.metrics: Metrics | None = None
        self._lent = feed
        self._feed = feed
        self._given = settings
        self._keywords = keywords
        self._ingest_health = ingest_health
        self._listeners: list[Listener] = []
        self._tasks: asyncio.TaskGroup | None = None
        self._running: list[asyncio.Task[None]] = []
        self._stack: AsyncExitStack | None = None
        self._head = asyncio.Event()
        self._failing = False
        self._is_over = False

    # What a host mounts ---------------------------------------------------------------------

    @property
    def routes(self) -> list[BaseRoute]:
        """The WebSocket and the health endpoint, for a Starlette or FastAPI application."""
        settings = self._given or Settings.load(**self._keywords)
        return routes_of(self, settings)

    @property
    def app(self) -> ASGIApp:
        """The same as an application: mounted at `/live`, it serves `/live/ws`.

        A mounted application gets no lifespan of its own: the host enters the relay.
        """
        return Starlette(routes=self.routes)

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[None]:
        """Run the relay while a host application runs: `Starlette(lifespan=relay.lifespan)`."""
        async with self:
            yield

    # Code in this process -------------------------------------------------------------------

    def on(self, type: str, **match: Any) -> Callable[[_Handler], _Handler]:
        """Register a coroutine for live events of `type` whose data has the given values.

        Each handler has a queue of its own of 1,000 events; what it is too slow for is dropped
        and counted, and its errors are logged and counted.

        Raises:
            ValueError: there is no such event type, or no event of it could have these values.
        """
        values = values_of(type, match)

        def register(handler: _Handler) -> _Handler:
            listener = Listener(type, values, handler)
            self._listeners.append(listener)
            if self._tasks is not None:
                self._start(listener)
            return handler

        return register

    async def events(self, since: str | None = None) -> AsyncGenerator[Event, None]:
        """Iterate over events behind the cursor `since`, or from now on.

        With the supabase feed nothing is missed, across restarts too: store `data.cursor` and
        go on from there. Some events may come twice; ids and revisions tell. A gap that cannot
        be closed is a `Resync` event. There is no `file_update`, which has no cursor: see `on`.
        Cancelling, as `asyncio.timeout` around `anext` does, ends the iterator, and so does leaving
        the relay; another one goes on from the last cursor.

        Raises:
            RuntimeError: the relay is not entered.
        """
        if self._tasks is None or self._feed is None:
            raise RuntimeError("enter the relay before reading its events")
        following = follow(self.manager.hub, self._feed, since, lambda: self._is_over)
        async with aclosing(following) as events:
            async for event in events:
                yield event

    def health(self) -> tuple[int, dict[str, Any]]:
        """Return HTTP status and body of `/healthz`, from memory."""
        body: dict[str, Any] = {"status": "down"}
        if self._feed is None or self._tasks is None:
            return 503, body
        feed = self._feed.health()
        state = "down" if self._failing else feed.state
        body["feed"] = {
            "kind": feed.kind,
            "state": state,
            "last_event_at": feed.last_event_at.isoformat() if feed.last_event_at else None,
        }
        if feed.error is not None:
            body["feed"]["last_error"] = feed.error
        if feed.unreadable:
            body["feed"]["unreadable"] = feed.unreadable
        ingest = self._ingest_health() if self._ingest_health is not None else None
        if ingest is not None:
            body["ingest"] = dict(ingest)
        body["clients"] = len(self.manager.hub.clients)
        body["handlers"] = {
            name: sum(getattr(listener, name) for listener in self._listeners)
            for name in ("handled", "failed", "dropped")
        }
        if state == "live":
            well = not (feed.unreadable or _in_trouble(ingest or {}))
            body["status"] = "ok" if well else "degraded"
        elif state in ("polling", "connecting"):
            body["status"] = "degraded"
        return (503 if body["status"] == "down" else 200), body

    # Life -----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Start following the feed.

        Raises:
            ConfigError: a setting does not fit, or no feed was given and no Supabase is named.
            RuntimeError: it has been entered, and not left.
        """
        if self._stack is not None:
            raise RuntimeError("this relay runs already")
        settings = self._given or Settings.load(**self._keywords)
        if self._lent is None:
            project_and_key(settings)
        feed = self._lent or SupabaseFeed(settings, session=signed_in(settings))
        if self.metrics is None:
            self.metrics = metrics_of(settings)
        if self.metrics is not None:
            self.metrics.ask(self._readings)
        self.door = Door(settings)
        self.manager.configure(settings, feed)
        async with AsyncExitStack() as stack:
            self._feed = feed
            self._is_over = False
            self._head = asyncio.Event()  # a host's tests may run an application in several loops
            self._tasks = await stack.enter_async_context(asyncio.TaskGroup())
            self.manager.hub.appended.append(self._offer)
            stack.callback(self._cancel)
            self._running = [self._tasks.create_task(self._follow(feed), name="relay feed")]
            for listener in self._listeners:
                self._start(listener)
            stack.push_async_callback(self._stop)
            await self._wait_for_head()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Send `server_shutdown`, close all clients with 1012, then stop following."""
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.aclose()

    async def _stop(self) -> None:
        self.door = self.metrics = None
        try:
            await self.manager.shutdown()
        finally:
            self.manager.hub.appended.remove(self._offer)
            self._tasks = None
            self._failing = True  # what comes until it is entered again is missed

    def _cancel(self) -> None:
        self._is_over = True
        for task in self._running:
            task.cancel()
        for wake in self.manager.hub.iterators:
            wake.set()

    def _start(self, listener: Listener) -> None:
        assert self._tasks is not None
        listener.begin()
        name = f"relay handler {listener.type}"
        work = listener.run(lambda: self._is_over)
        self._running.append(self._tasks.create_task(work, name=name))

    def _offer(self, entry: Entry) -> None:
        for listener in self._listeners:
            listener.offer(entry)

    async def _wait_for_head(self) -> None:
        """Wait a little for the first cursor, so that the first clients get one to go on from."""
        try:
            async with asyncio.timeout(_HEAD_SECONDS):
                await self._head.wait()
        except TimeoutError:
            logger.warning("the feed has not answered yet")

    def _take(self, page: Page) -> None:
        if self._failing:  # it begins anew, at whatever is the head by now
            self._failing = False
            page = replace(page, resync=True)
        self.manager.hub.take(page)
        self._head.set()
        if self.metrics is not None:  # behind what the hub writes at the end of this turn
            asyncio.get_running_loop().call_soon(self._note_told, self.metrics, page)

    def _note_told(self, metrics: Metrics, page: Page) -> None:
        if self.manager.hub.clients:
            for change in page.changes:
                if change.created and isinstance(change.row, Message):
                    metrics.told(change.row.created_at)

    def _readings(self) -> dict[str, float | dict[str, float]]:
        hub = self.manager.hub
        live = self._feed is not None and self._feed.health().state == "live"
        return {
            "frames_delivered": hub.delivered,
            "resyncs": {"too_slow": hub.resyncs, **hub.gaps},
            "clients_evicted": hub.evicted,
            "clients": len(hub.clients),
            "feed_live": live and not self._failing,
        }

    async def _follow(self, feed: Feed) -> None:
        """Run the feed; one that fails against its contract is started again.

        So is one that was cancelled by somebody else than us.
        """
        while True:
            try:
                await feed.run(self._take)
            except ConvRealtimeError as error:
                logger.error("the feed failed: %s", error)
            except (Exception, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and was_cancelled():
                    raise
                logger.exception("the feed failed")
            if self._is_over:
                return
            self._failing = True
            await asyncio.sleep(_RESTART_SECONDS)


def _in_trouble(ingest: Mapping[str, Any]) -> bool:
    """Return whether an ingest misses files or cannot store what it reads."""
    blind = ingest.get("watcher") in ("down", "stopped") or ingest.get("unreadable", 0) > 0
    return blind or ingest.get("last_error") is not None
