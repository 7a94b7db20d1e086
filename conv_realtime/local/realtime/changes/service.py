"""`postgres_changes` for channels: to subscribe, to change the token, to leave.

A channel is told ``Subscribed to PostgreSQL`` only when its changes are certain to come: the
stream is connected, the bindings have been checked, and it is on the list that the stream asks.
The same words come again whenever something has changed under it: a new token, a publication with
other tables, or a stream that broke and is back. In the last case changes may have been missed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg

from conv_realtime.local.realtime import replies
from conv_realtime.local.realtime.changes.admission import (
    Published,
    admit,
    not_published,
    published,
)
from conv_realtime.local.realtime.changes.bindings import Binding, BindingRefused, read_binding
from conv_realtime.local.realtime.changes.checks import Checks
from conv_realtime.local.realtime.changes.feed import Feed
from conv_realtime.local.realtime.changes.pace import Pacer
from conv_realtime.local.realtime.changes.subscriptions import (
    Stay,
    Subscription,
    Subscriptions,
    subscription,
)
from conv_realtime.local.realtime.channels import Channel
from conv_realtime.local.realtime.connections import RETRY_SECONDS, Away, Connections
from conv_realtime.local.realtime.frames import encode

log = logging.getLogger("conv_realtime.local.realtime")

EXTENSION = "postgres_changes"
SUBSCRIBED = "Subscribed to PostgreSQL"
MAX_BINDINGS = 1_000
ADMISSION_SECONDS = 10.0
_ADMISSIONS = 2


class Changes:
    """What all sockets of a server share for `postgres_changes`.

    Args:
        dsn: of a role that may replicate; checks are made as ``authenticator``, and everything
            else as ``postgres``.
        statement_seconds: after which PostgreSQL ends a check.
        publication_seconds: between two looks at which tables are published.
    """

    def __init__(self, dsn: str, statement_seconds: float, publication_seconds: float) -> None:
        self._publication_seconds = publication_seconds
        self._checks = Checks(dsn, statement_seconds)
        self._admission = Connections(
            dsn, "postgres", limit=_ADMISSIONS, statement_seconds=statement_seconds
        )
        self._all = Subscriptions()
        self._of: dict[Channel, Subscription] = {}
        self._asked: dict[Channel, tuple[Sequence[Mapping[str, Any]], bool]] = {}
        self._confirming: dict[Channel, asyncio.Task[None]] = {}
        self._streaming = asyncio.Event()
        self._missed = False
        self._tables: Published = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._feed = Feed(
            dsn,
            self._all,
            self._checks,
            report=self._report,
            pace=Pacer().wait,
            statement_seconds=statement_seconds,
            stall_seconds=statement_seconds + 1,
            connected=self._on_stream,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serves channels for as long as the context lasts."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                feeding = tasks.create_task(self._feed.run(), name="conv_realtime.local.feed")
                watching = tasks.create_task(
                    self._watch_publication(), name="conv_realtime.local.publication"
                )
                try:
                    yield
                finally:
                    self._tasks = None
                    for task in (feeding, watching, *self._confirming.values()):
                        task.cancel()
        finally:
            await self._checks.close()
            await self._admission.close()

    def subscribe(
        self, channel: Channel, asked: Sequence[Mapping[str, Any]], *, is_legacy: bool
    ) -> None:
        """Subscribes a joined channel; the outcome comes to it as a ``system`` frame.

        Args:
            channel: whose token counts.
            asked: its bindings as the client sent them, each with an ``id``.
            is_legacy: whether it wants the old form of events.
        """
        if asked:
            self._asked[channel] = asked, is_legacy
            self._begin(channel)

    def refresh(self, channel: Channel) -> None:
        """Takes a channel's new token. What is written from now on is checked under that."""
        if channel in self._asked:
            earlier = self._of.get(channel)
            if earlier is not None:
                self._all.discard(earlier)
                self._live(channel, earlier.bindings, earlier.stay)
            self._begin(channel)

    def discard(self, channel: Channel) -> None:
        """Ends a channel's subscription, if it has one: nothing is sent to it any more."""
        self._asked.pop(channel, None)
        task = self._confirming.pop(channel, None)
        if task is not None:
            task.cancel()
        self._end(channel)
        self._feed.want(wanted=bool(self._asked))

    def _begin(self, channel: Channel) -> None:
        if self._tasks is None:
            return
        task = self._confirming.pop(channel, None)
        if task is not None:
            task.cancel()
        self._feed.want(wanted=True)
        self._confirming[channel] = self._tasks.create_task(
            self._confirm(channel), name="conv_realtime.local.subscribe"
        )

    def _live(self, channel: Channel, bindings: Sequence[Binding], stay: Stay) -> None:
        one = subscription(channel, bindings, stay, is_legacy=self._asked[channel][1])
        self._of[channel] = one
        self._all.add(one)

    def _end(self, channel: Channel) -> None:
        one = self._of.pop(channel, None)
        if one is not None:
            one.stay.ended = True
            self._all.discard(one)

    async def _confirm(self, channel: Channel) -> None:
        """Checks a subscription, makes it live, and tells what became of it."""
        refused, bindings, tables = "", [], {}
        try:
            asked = self._asked[channel][0]
            if len(asked) > MAX_BINDINGS:
                raise BindingRefused(f"Too many bindings, at most {MAX_BINDINGS}")
            bindings = [read_binding(one) for one in asked]
            bindings.reverse()  # real servers begin with the last, and name the first that fails
            tables = await self._admitted(channel, bindings)
        except BindingRefused as refusal:
            refused = str(refusal)
        except Exception as error:
            log.error("changes_not_subscribed: %s", type(error).__name__)
            refused = f"Unable to subscribe to changes: {type(error).__name__}"
        if self._confirming.get(channel) is not asyncio.current_task():
            return  # the channel has left or asks anew: a driver may keep a cancellation to itself
        del self._confirming[channel]
        if refused:
            self._end(channel)
            self._tell(channel, "error", refused)
            return
        if not self._all:
            self._tables = tables
        if channel not in self._of:
            self._live(channel, bindings, Stay())
        self._tell(channel, "ok", SUBSCRIBED)

    async def _admitted(self, channel: Channel, bindings: Sequence[Binding]) -> Published:
        """Returns while the stream is connected; waits for as long as there is no database."""
        while True:
            try:
                async with self._admission.take() as connection:
                    tables = await _in_time(admit(connection, channel.token.role, bindings))
            except Away:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if self._streaming.is_set():
                return tables
            await self._streaming.wait()

    def _on_stream(self, connected: bool) -> None:
        if not connected:
            self._streaming.clear()
            self._missed = len(self._all) > 0
            return
        self._streaming.set()
        if self._missed:
            self._missed = False
            for one in self._all:
                self._tell(one.channel, "ok", SUBSCRIBED)

    async def _watch_publication(self) -> None:
        """Tells channels when the publication has other tables for them than before."""
        while True:
            await asyncio.sleep(self._publication_seconds)
            if not self._all:
                continue
            try:
                async with self._admission.take() as connection:
                    tables = await published(connection)
            except (Away, psycopg.Error) as error:
                log.debug("the publication could not be read: %s", error)
                continue
            before, self._tables = self._tables, tables
            for one in self._all:
                self._tell_of_tables(one, before, tables)

    def _tell_of_tables(self, one: Subscription, before: Published, now: Published) -> None:
        changed = False
        for binding in one.bindings:
            had, has = (
                {oid for name, oid in tables.items() if binding.wants(*name)}
                for tables in (before, now)
            )
            if had and not has:
                self._tell(one.channel, "error", str(not_published(binding)))
                return
            changed = changed or not has <= had
        if changed:
            self._tell(one.channel, "ok", SUBSCRIBED)

    def _report(self, one: Subscription, message: str) -> None:
        if not one.stay.ended:
            self._tell(one.channel, "error", message)

    def _tell(self, channel: Channel, status: str, message: str) -> None:
        frame = replies.system(channel, EXTENSION, status, message)
        channel.subscriber.push(encode(channel.subscriber.version, frame))


async def _in_time(admission: Awaitable[Published]) -> Published:
    try:
        async with asyncio.timeout(ADMISSION_SECONDS):
            return await admission
    except TimeoutError as error:
        raise BindingRefused("Too many database timeouts") from error
