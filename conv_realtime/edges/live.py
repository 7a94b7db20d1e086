"""`connect`: the events of a `/ws`, wherever it is served, through whatever ends a connection.

There is no task in the background. Whoever iterates reads; whoever does not, holds up nothing but
this connection: what waits is bounded by the sockets' buffers and a few frames, and a server that
loses its patience is come back to with the cursor of the last event. Nothing is lost by being slow,
nor by being cancelled.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Self
from urllib.parse import urlsplit

import websockets
from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, WebSocketException

from conv_realtime.core.following import Follower
from conv_realtime.core.pauses import pauses_between_attempts
from conv_realtime.errors import ConfigError, FeedError
from conv_realtime.events import Event, SubscribeRequest

logger = logging.getLogger("conv_realtime.live")

Token = str | Callable[[], str | None] | Callable[[], Awaitable[str | None]]

MAX_FRAME_BYTES = 4 * 2**20
"""A longer frame ends the connection; the server sends at most 512 KB."""

_OPEN_SECONDS = 15.0
_SILENT_HEARTBEATS = 2.5
_STEADY_SECONDS = 10.0  # a connection that lived so long was no failure
_CALM_SECONDS = 10.0  # between two gaps, or the second one waits
_PAUSES = (0.25, 15.0)
_PAUSES_AFTER_OVERLOAD = (5.0, 15.0)
_CLOSE_SECONDS = 1.0  # what nobody reads any more stands before the goodbye
_EXPIRED, _FLOOD, _TOO_LONG, _TOO_SLOW = 4401, 1008, 1009, 1013


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
            called before each attempt to connect.
        subscribe: what `subscribe` says in the protocol: `types`, `conversations`, `projects`,
            `since`, `snapshot`. Default: every event from now on.

    Raises:
        ConfigError: the address or the subscription has no usable form.
        FeedError: the server refuses this client; coming back would not help.
    """
    with _understood():
        live = Live(url, token, SubscribeRequest.model_validate(subscribe or {}))
    try:
        await live._begin()
        yield live
    finally:
        await live._end()


class Live:
    """Iterates over events; made by `connect`.

    One task iterates at a time. Cancelling it, as `asyncio.timeout` does, loses nothing: iterate
    again, and the next event comes.
    """

    def __init__(self, url: str, token: Token | None, request: SubscribeRequest) -> None:
        self._url = url
        self._token = token
        self._follower = Follower(request)
        self._connection: ClientConnection | None = None
        self._pauses = pauses_between_attempts(*_PAUSES)
        self._pause: float | None = None
        self._refused = False
        self._opened_at = 0.0
        self._gap_at = float("-inf")
        self._gap_pauses = pauses_between_attempts(*_PAUSES)
        self._told_of_trouble = False

    @property
    def cursor(self) -> str | None:
        """The place behind the last event, for `since`; None while a snapshot is under way."""
        return None if self._follower.told else self._follower.cursor

    @property
    def connected(self) -> bool:
        """Whether the server has confirmed the subscription, as far as is known."""
        return self._connection is not None and self._follower.subscribed

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Return the next event.

        Raises:
            FeedError: the server refuses this client; coming back would not help.
        """
        told = self._follower.told
        while not told:
            await self._step()
        return told.popleft()

    async def subscribe(self, request: SubscribeRequest | Mapping[str, Any]) -> None:
        """Follow something else from now on; it replaces everything that was asked for before.

        Without `since` and `snapshot` the events go on from the present cursor.

        Raises:
            ConfigError: it has no usable form.
        """
        with _understood():
            self._follower.change(SubscribeRequest.model_validate(request))
        if self._connection is not None:
            with suppress(ConnectionClosed):  # whoever iterates finds out, and comes back
                await self._say(self._connection)

    # One step -------------------------------------------------------------------------------

    async def _begin(self) -> None:
        while not self._follower.subscribed:
            await self._step()

    async def _step(self) -> None:
        """Take one frame, or come one step closer to the next one."""
        if self._connection is None:
            return await self._connect()
        if self._follower.due:
            await self._wait_after_gap()
            self._follower.ask()
        try:
            await self._say(self._connection)
            async with asyncio.timeout(self._patience()):
                text = await self._connection.recv()
        except TimeoutError:
            logger.info("%s says nothing any more", self._url)
            return await self._lose(None)
        except ConnectionClosed:
            return await self._lose(self._connection.close_code)
        try:
            self._follower.hear(text)
        except ValueError as error:
            raise FeedError(self._url, f"says what is not understood: {error}") from error
        if self._follower.refusal is not None:
            raise FeedError(self._url, f"refuses the subscription: {self._follower.refusal}")

    async def _say(self, connection: ClientConnection) -> None:
        saying = self._follower.saying
        while saying:
            await connection.send(saying.popleft())

    def _patience(self) -> float:
        if not self._follower.subscribed:
            return _OPEN_SECONDS
        return max(_SILENT_HEARTBEATS * self._follower.heartbeat_seconds, 1.0)

    async def _wait_after_gap(self) -> None:
        """Wait where gaps follow each other: others want to be served, too."""
        now = asyncio.get_running_loop().time()
        if now - self._gap_at > _CALM_SECONDS:
            self._gap_pauses = pauses_between_attempts(*_PAUSES)
        else:
            await asyncio.sleep(next(self._gap_pauses))
        self._gap_at = asyncio.get_running_loop().time()

    # Connections ----------------------------------------------------------------------------

    async def _connect(self) -> None:
        if self._pause is not None:
            await asyncio.sleep(self._pause)
            self._pause = None
        self._opened_at = asyncio.get_running_loop().time()
        try:
            self._connection = await self._open(await self._fresh_token())
            self._follower.connected()
            self._refused = self._told_of_trouble = False
        except InvalidStatus as error:
            self._refuse(error)
            self._come_back(None, error)
        except InvalidURI as error:
            raise ConfigError("url", f"{self._url} is no ws://host:port/ws") from error
        except (OSError, TimeoutError, WebSocketException) as error:
            self._come_back(None, error)

    async def _fresh_token(self) -> str | None:
        token = self._token() if callable(self._token) else self._token
        if not inspect.isawaitable(token):
            return token
        async with asyncio.timeout(_OPEN_SECONDS):
            return await token

    async def _open(self, token: str | None) -> ClientConnection:
        local = urlsplit(self._url).hostname in ("localhost", "127.0.0.1", "::1")
        return await websockets.connect(
            self._url,
            additional_headers={"Authorization": f"Bearer {token}"} if token else None,
            open_timeout=_OPEN_SECONDS,
            ping_interval=None,  # the server pings, and pings again
            close_timeout=_CLOSE_SECONDS,
            max_size=MAX_FRAME_BYTES,
            proxy=None if local else True,
        )

    def _refuse(self, error: InvalidStatus) -> None:
        """Raise if the server will not think otherwise; a fresh token is tried once."""
        status = error.response.status_code
        renewed = status == 401 and callable(self._token) and not self._refused
        self._refused = status == 401
        if status in (401, 403, 404) and not renewed:
            raise FeedError(self._url, f"refused with HTTP {status}") from error

    async def _lose(self, code: int | None) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.transport.abort()  # a dead line has no goodbye
        if code == _EXPIRED and not callable(self._token):
            raise FeedError(self._url, "the token has expired; give a function that renews it")
        if code == _TOO_LONG:
            raise FeedError(self._url, "a frame is too long for the other side")
        if asyncio.get_running_loop().time() - self._opened_at > _STEADY_SECONDS:
            self._pauses = pauses_between_attempts(*_PAUSES)
        self._come_back(code, None)

    def _come_back(self, code: int | None, error: Exception | None) -> None:
        if code in (_FLOOD, _TOO_SLOW):
            self._pauses = pauses_between_attempts(*_PAUSES_AFTER_OVERLOAD)
        self._pause = next(self._pauses)
        if self._follower.reconnect_after is not None:
            self._pause += self._follower.reconnect_after
        if error is not None and not self._told_of_trouble:
            logger.warning(
                "no connection to %s (%s); trying again", self._url, type(error).__name__
            )
            self._told_of_trouble = True

    async def _end(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


@contextmanager
def _understood() -> Iterator[None]:
    """Raise `ConfigError` for a subscription that no server would take."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError("subscribe", f"{where}: {first['msg']}") from None
    except ValueError as error:
        raise ConfigError("subscribe", str(error)) from None
