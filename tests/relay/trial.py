"""A feed on trial, at a project of its own.

After each fault: nothing is lost, rows come in their order and no revision falls, `/healthz` told
the truth meanwhile, and no task, socket or thread is left behind.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import SecretStr
from supabase import AsyncClient

from conv_realtime.edges.feed import SupabaseFeed
from conv_realtime.models import Message, Project
from conv_realtime.ports import Page, PageHandler
from conv_realtime.relay import Relay
from conv_realtime.testing.threads import InThread, LoopThread
from tests.relay.proxy import Proxy
from tests.relay.rows import conversation, message, project
from tests.relay.serving import eventually, settings
from tests.relay.test_supabase_feed import client_of, write

CHANGES = "conv_realtime:changes"
NEVER = 60.0
SOON = 0.2


class Recorded(SupabaseFeed):
    """Keeps the pages that it gives."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.pages: list[Page] = []

    async def run(self, on_page: PageHandler) -> None:
        """Keep each page before it is handled."""

        def both(page: Page) -> None:
            self.pages.append(page)
            on_page(page)

        await super().run(both)


class Trial:
    """A relay that follows a Supabase, and somebody who writes there."""

    def __init__(self, relay: Relay, feed: Recorded, writer: AsyncClient, me: UUID) -> None:
        self.relay = relay
        self.feed = feed
        self.me = me
        self.written: list[str] = []
        self._writer = writer
        self._talk = conversation(owner=me)

    @property
    def state(self) -> str:
        """The feed's state, as `/healthz` has it."""
        feed = self.relay.health()[1]["feed"]
        assert isinstance(feed, dict)
        return str(feed["state"])

    async def until(self, state: str) -> None:
        """Wait until `/healthz` says so, in all that it says."""
        await eventually(lambda: self.state == state, f"the feed is {state}")
        status, body = self.relay.health()
        meant = {"live": (200, "ok"), "down": (503, "down")}.get(state, (200, "degraded"))
        assert (status, body["status"]) == meant

    async def say(self, count: int = 1) -> None:
        """Write messages, one request each."""
        if not self.written:
            await write(self._writer, project(owner=self.me), self._talk)
        for _ in range(count):
            seq = len(self.written) + 1
            await write(self._writer, message(str(seq), seq, of=self._talk))
            self.written.append(str(seq))

    async def hears_all(self) -> None:
        """Wait until all that was written came, in its order; no revision fell."""
        await eventually(lambda: len(self.texts()) >= len(self.written), "all is told")
        assert self.texts() == self.written
        revisions: dict[Any, int] = {}
        for page in self.feed.pages:
            for change in page.changes:
                if isinstance(row := change.row, Project):
                    continue  # has none
                assert row.revision >= revisions.get(row.id, 0)
                revisions[row.id] = row.revision

    def texts(self) -> list[str]:
        """Return what messages came, each where it came first."""
        rows = [change.row for page in self.feed.pages for change in page.changes]
        return list(dict.fromkeys(row.text for row in rows if isinstance(row, Message)))


@asynccontextmanager
async def trial(local: Any, feed: Recorded, me: UUID | None = None) -> AsyncIterator[Trial]:
    """Follow with `feed` until left; then nothing may be left behind."""
    before = left()
    async with client_of(local, local.secret_key) as writer:
        relay = Relay(feed=feed, settings=feed._given or settings())
        async with relay:
            yield Trial(relay, feed, writer, me or UUID(local.owner_id))
    await eventually(lambda: left() <= before, f"{left() - before} has ended")


def left() -> set[Any]:
    """Return what runs and what is open in this loop: tasks, sockets, threads."""
    selector: Any = asyncio.get_running_loop()
    threads = {thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")}
    return {*asyncio.all_tasks(), *selector._selector.get_map(), *threads}


def feed_of(local: Any, url: str | None = None, **values: Any) -> Recorded:
    """Return a feed with a project's secret key."""
    values = {"reconcile_interval": SOON, "request_timeout": 5.0, **values}
    key = SecretStr(local.secret_key)
    return Recorded(settings(supabase_url=url or local.url, supabase_key=key, **values))


@asynccontextmanager
async def live(local: Any, url: str | None = None, **values: Any) -> AsyncIterator[Trial]:
    """Follow with a project's secret key; it is live on entering."""
    async with trial(local, feed_of(local, url, **values)) as tried:
        await tried.until("live")
        yield tried


class Link:
    """A proxy in another thread."""

    def __init__(self, proxy: Proxy, thread: LoopThread) -> None:
        self.proxy = proxy
        self._thread = thread

    def cut(self) -> None:
        """End every connection."""
        self._thread.ask(self.proxy.cut)


@asynccontextmanager
async def proxied(local: Any, **values: Any) -> AsyncIterator[tuple[Link, Trial]]:
    """Follow through a proxy, live on entering; what writes needs none."""
    parts = urlsplit(local.url)
    # In a loop of its own: its connections are none that the feed has left.
    with LoopThread("proxy") as thread:
        passing = Proxy.to(parts.hostname or "", parts.port or 0)
        async with InThread(thread, passing) as proxy:
            async with live(local, f"http://127.0.0.1:{proxy.port}", **values) as tried:
                yield Link(proxy, thread), tried
