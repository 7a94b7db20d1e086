"""`Live`: the iterator over events, one step after the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Self

from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from conv_realtime.core.following import Follower, check
from conv_realtime.core.pauses import Returns, pause_before
from conv_realtime.edges.live import opening
from conv_realtime.edges.live.opening import Address, Unreachable
from conv_realtime.errors import ConfigError, FeedError
from conv_realtime.events import Event, SubscribeRequest

logger = logging.getLogger("conv_realtime.live")

PAUSES = (0.25, 15.0)
"""Seconds before coming back: at first, and at most."""

_SILENT_HEARTBEATS = 2.5
_CALM_SECONDS = 10.0  # between two gaps, or the second one waits
_EXPIRED, _TOO_LONG = 4401, 1009


class Live:
    """Iterates over events; made by `connect`.

    One task iterates at a time. Cancelling it, as `asyncio.timeout` does, loses nothing: iterate
    again, and the next event comes. An attempt to connect begins anew then, so a time limit has to
    be longer than one takes.
    """

    def __init__(self, address: Address, request: SubscribeRequest) -> None:
        self._address = address
        self._told = address.told
        self._follower = Follower(request)
        self._connection: ClientConnection | None = None
        self._returns = Returns(*PAUSES)
        self._opened_at = 0.0
        self._back_at = 0.0  # in loop seconds: whoever gives up waiting goes on waiting later
        self._gap_at = float("-inf")
        self._gaps = 0
        self._ask_at = 0.0
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
        self._follower.change(request_of(request))
        if self._connection is not None:
            with suppress(ConnectionClosed):  # whoever iterates finds out, and comes back
                await self._say(self._connection)

    async def begin(self) -> None:
        """Return when the server has confirmed the subscription."""
        while not self._follower.subscribed:
            await self._step()

    async def end(self) -> None:
        """Close what is open."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close()
            except BaseException:  # cancelled, above all: nobody waits for the goodbye any more
                connection.transport.abort()
                raise

    # One step -------------------------------------------------------------------------------

    async def _step(self) -> None:
        """Take one frame, or come one step closer to the next one."""
        if self._connection is None:
            return await self._connect()
        if self._follower.due:
            await _until(self._ask_at)
            self._follower.ask()
        try:
            await self._say(self._connection)
            async with asyncio.timeout(self._patience()):
                text = await self._connection.recv()
        except TimeoutError:
            logger.info("%s says nothing any more", self._told)
            return await self._lose(None)
        except ConnectionClosed:
            return await self._lose(self._connection.close_code)
        try:
            self._follower.hear(text)
        except ValueError as error:
            raise FeedError(self._told, f"says what is not understood: {error}") from error
        if self._follower.refusal is not None:
            raise FeedError(self._told, f"refuses the subscription: {self._follower.refusal}")
        if self._follower.due:
            self._note_gap()

    async def _say(self, connection: ClientConnection) -> None:
        saying = self._follower.saying
        while saying:
            await connection.send(saying.popleft())

    def _patience(self) -> float:
        if not self._follower.subscribed:
            return opening.OPEN_SECONDS
        return max(_SILENT_HEARTBEATS * self._follower.heartbeat_seconds, 1.0)

    def _note_gap(self) -> None:
        """Decide when to ask: later where gaps follow each other, for others want answers, too."""
        now = asyncio.get_running_loop().time()
        self._gaps = self._gaps + 1 if now - self._gap_at < _CALM_SECONDS else 0
        self._gap_at = now
        self._ask_at = now + (pause_before(self._gaps - 1, *PAUSES) if self._gaps else 0.0)

    # Connections ----------------------------------------------------------------------------

    async def _connect(self) -> None:
        await _until(self._back_at)
        loop = asyncio.get_running_loop()
        try:
            self._connection = await self._address.open()
        except Unreachable as error:
            self._back_at = loop.time() + self._returns.after(None, 0.0)
            self._tell(error.__cause__)
            return
        self._opened_at = loop.time()
        self._follower.connected()
        self._told_of_trouble = False

    async def _lose(self, code: int | None) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.transport.abort()  # a dead line has no goodbye
        if code == _EXPIRED and not self._address.renews:
            raise FeedError(self._told, "the token has expired; give a function that renews it")
        if code == _TOO_LONG:
            raise FeedError(self._told, "a frame is too long for the other side")
        now = asyncio.get_running_loop().time()
        lived = now - self._opened_at if self._follower.subscribed else 0.0
        self._back_at = now + self._returns.after(code, lived, self._follower.reconnect_after)

    def _tell(self, error: BaseException | None) -> None:
        if not self._told_of_trouble:
            logger.warning(
                "no connection to %s (%s); trying again", self._told, type(error).__name__
            )
            self._told_of_trouble = True


async def _until(at: float) -> None:
    await asyncio.sleep(max(at - asyncio.get_running_loop().time(), 0.0))


def request_of(subscribe: SubscribeRequest | Mapping[str, Any]) -> SubscribeRequest:
    """Return a subscription that a server can take.

    Raises:
        ConfigError: it has no usable form.
    """
    try:
        return check(SubscribeRequest.model_validate(subscribe))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError("subscribe", f"{where}: {first['msg']}") from None
    except ValueError as error:
        raise ConfigError("subscribe", str(error)) from None
