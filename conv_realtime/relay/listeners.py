"""Events for code in this process: `on` handlers and `events()`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from conv_realtime.background import was_cancelled
from conv_realtime.core.envelope import event_of
from conv_realtime.core.log import Entry
from conv_realtime.core.pauses import pauses_between_attempts
from conv_realtime.errors import ConvRealtimeError
from conv_realtime.events import Event, FileUpdate, Resync, ResyncData
from conv_realtime.events.matching import matches
from conv_realtime.ports import Feed
from conv_realtime.relay.hub import Hub

logger = logging.getLogger("conv_realtime.relay")

HANDLER_QUEUE = 1000
"""Events that wait for one handler; beyond, they are dropped and counted."""

HANDLER_BYTES = 64 * 2**20
"""About how many bytes they may take in memory; see `weight_of`."""

_STEP = 200

EventHandler = Callable[[Any], Awaitable[None]]


@dataclass(eq=False, slots=True)
class Listener:
    """One handler, the events it asked for, and what became of them."""

    type: str
    match: Mapping[str, Any]
    handler: EventHandler
    queue: asyncio.Queue[tuple[Event, int]] = field(default_factory=asyncio.Queue)
    waiting_bytes: int = 0
    handled: int = 0
    failed: int = 0
    dropped: int = 0

    def begin(self) -> None:
        """Forget what still waited when it ran before."""
        self.queue = asyncio.Queue(HANDLER_QUEUE)
        self.waiting_bytes = 0

    def offer(self, entry: Entry) -> None:
        """Queue the event of `entry` if it is asked for. Never raises."""
        if entry.late or entry.subject is None or entry.subject.type != self.type:
            return
        event = entry.event
        if not matches(event.data, self.match):
            return
        if self.queue.full() or self.waiting_bytes > HANDLER_BYTES:
            self.dropped += 1
            if self.dropped == 1:
                logger.warning("a handler of %s is too slow: events are dropped", self.type)
        else:
            self.waiting_bytes += entry.weight
            self.queue.put_nowait((event, entry.weight))

    async def run(self, is_over: Callable[[], bool]) -> None:
        """Call the handler with one event after the other, until cancelled.

        `is_over` tells of that where a handler keeps it to itself.
        """
        while not is_over():
            event, weight = await self.queue.get()
            self.waiting_bytes -= weight
            try:
                await self.handler(event)
                self.handled += 1
            except (Exception, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and was_cancelled():
                    raise
                self.failed += 1
                logger.exception("a handler of %s failed", self.type)


async def follow(
    hub: Hub, feed: Feed, since: str | None, is_over: Callable[[], bool]
) -> AsyncGenerator[Event, None]:
    """Iterate over events behind the cursor `since`, or from now on, without a gap.

    Slow iteration costs nothing: what has left the memory is read from the feed again. Where
    that has a gap, a `Resync` event says so. Pings are not shown, nor is `file_update`, which has
    no cursor. Ends when `is_over`, which those in `hub.iterators` are woken to see.
    """
    wake = asyncio.Event()

    def hear(entry: Entry) -> None:
        wake.set()

    hub.appended.append(hear)
    hub.iterators.add(wake)
    try:
        index = hub.log.head if since is None else hub.log.find(since)
        cursor = hub.log.cursor if since is None else since
        while True:
            if index is None or index < hub.log.first:
                index = hub.log.head
                async for place, event in _catch_up(feed, cursor, is_over):
                    cursor = place
                    yield event
                if is_over():
                    return
                continue
            wake.clear()
            for entry in hub.log.read(index, min(index + _STEP, hub.log.head)):
                index += 1
                cursor = entry.cursor
                if entry.erased or entry.late or isinstance(entry.event, FileUpdate):
                    continue
                if entry.subject is not None or isinstance(entry.event, Resync):
                    yield entry.event
                    if index < hub.log.first:
                        break
            if index >= hub.log.head:
                if is_over():
                    return
                await wake.wait()
    finally:
        hub.iterators.remove(wake)
        hub.appended.remove(hear)


async def _catch_up(
    feed: Feed, cursor: str, is_over: Callable[[], bool]
) -> AsyncIterator[tuple[str, Event]]:
    """Yield what the feed has behind `cursor`, each event with the place to go on from."""
    pauses = pauses_between_attempts()
    told, more = False, True
    while more and not is_over():
        try:
            page = await feed.since(cursor)
        except ConvRealtimeError as error:
            if not told:
                logger.warning("events cannot be read: %s", error)
            told = True
            await asyncio.sleep(next(pauses))
            continue
        pauses, told = pauses_between_attempts(), False
        if page.resync:
            yield page.cursor, Resync(data=ResyncData(reason="unknown_cursor", cursor=page.cursor))
            return
        for change, place in page.placed(cursor):
            yield place, event_of(change, place)
        cursor, more = page.cursor, page.more
