"""A client of /ws that comes back with its cursor."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any
from uuid import UUID

import websockets
from websockets.asyncio.client import ClientConnection

from conv_realtime.errors import ConfigError, FeedError

logger = logging.getLogger("conv_realtime.tail")

Frame = dict[str, Any]

_QUIET = frozenset({"connection_established", "subscribed", "unsubscribed", "ping", "pong"})
_SILENT_SECONDS = 60.0
"""The server pings three times in this; one that says nothing has gone."""


async def frames(
    url: str, *, since: str | None, conversations: Sequence[UUID] = (), token: str | None = None
) -> AsyncIterator[Frame]:
    """Iterate over the data events of /ws for ever, with `resync` where there is a gap.

    Raises:
        FeedError: the server refuses this client; coming back would not help.
        ConfigError: `url` is not that of a WebSocket.
    """
    cursor = since
    waits = _waits()
    told = False
    while True:
        try:
            async with websockets.connect(
                url,
                additional_headers={"Authorization": f"Bearer {token}"} if token else None,
                max_size=None,
                proxy=None,
                close_timeout=1,  # what nobody reads any more stands before the goodbye
            ) as client:
                told = False
                async for frame in _session(client, cursor, conversations):
                    waits = _waits()
                    cursor = frame["data"].get("cursor", cursor)
                    if frame["type"] not in _QUIET:
                        yield frame
        except websockets.InvalidStatus as error:
            if error.response.status_code in (401, 403, 404):
                status = error.response.status_code
                raise FeedError(url, f"refused with HTTP {status}; see --url and --help") from error
        except websockets.InvalidURI as error:
            raise ConfigError("--url", f"{url} is no address of /ws: ws://host:port/ws") from error
        except (OSError, TimeoutError, websockets.WebSocketException) as error:
            if not told:
                logger.warning("no connection to %s (%s); trying again", url, type(error).__name__)
            told = True
        await asyncio.sleep(next(waits))


async def _session(
    client: ClientConnection, cursor: str | None, conversations: Sequence[UUID]
) -> AsyncIterator[Frame]:
    """Iterate over the frames of one connection, answering pings."""
    wanted: Frame = {} if cursor is None else {"since": cursor}
    if conversations:
        wanted["conversations"] = [str(conversation) for conversation in conversations]
    if wanted:
        await client.send(json.dumps({"type": "subscribe", "data": wanted}))
    while True:
        async with asyncio.timeout(_SILENT_SECONDS):
            frame: Frame = json.loads(await client.recv())
        if wanted and frame["type"] == "connection_established":
            continue  # its cursor is the head; ours is older until the replay is through
        yield frame
        if frame["type"] == "ping":
            await client.send(json.dumps({"type": "pong", "data": {}}))


def _waits() -> Iterator[float]:
    """Yield seconds to wait before each attempt to come back: 0.1 doubling to 10, spread."""
    wait = 0.1
    while True:
        yield wait * random.uniform(0.5, 1.0)  # not secret: it only spreads clients out
        wait = min(wait * 2, 10.0)
