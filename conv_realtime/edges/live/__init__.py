"""`connect`: the events of a `/ws`, wherever it is served, through whatever ends a connection.

There is no task in the background. Whoever iterates reads; whoever does not, holds up nothing but
this connection: what waits is bounded by the sockets' buffers and a few frames, and a server that
loses its patience is come back to with the cursor of the last event. Nothing is lost by being slow,
nor by being cancelled.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from conv_realtime.edges.live.client import Live, request_of
from conv_realtime.edges.live.opening import Address, Token
from conv_realtime.events import SubscribeRequest

__all__ = ["Live", "Token", "connect"]


@asynccontextmanager
async def connect(
    url: str,
    *,
    token: Token | None = None,
    subscribe: SubscribeRequest | Mapping[str, Any] | None = None,
) -> AsyncIterator[Live]:
    """Follow a `/ws`: an iterator over its events that goes on for as long as it is read.

        async with connect("ws://127.0.0.1:8787/ws", subscribe={"snapshot": 50}) as live:
            async for event in live:
                ...

    It is subscribed when entered: nothing that happens after that is missed. A server that is away
    is waited for, then and later; `asyncio.timeout` around it says how long. Events are those that
    change rows or files, `Snapshot` if asked for, and `Resync` where there is a gap: a snapshot, if
    asked for, then follows by itself, and everything before it is to be forgotten. `Rows` does so.
    After a lost connection some events may come twice; ids and revisions tell.

    Args:
        url: `ws://` or `wss://`, with the path.
        token: a bearer token, or a function (a coroutine, too) that gives a fresh one; it is
            called before each attempt to connect. What it raises is passed on, but for `OSError`
            and `TimeoutError`: then it is asked again, as a server that is away is.
        subscribe: what `subscribe` says in the protocol: `types`, `conversations`, `projects`,
            `since`, `snapshot`. Default: every event from now on.

    Raises:
        ConfigError: the address or the subscription has no usable form.
        FeedError: the server refuses this client; coming back would not help.
    """
    live = Live(Address(url, token), request_of(subscribe or {}))
    try:
        await live.begin()
        yield live
    finally:
        await live.end()
