"""Realtime as an alarm clock: a private topic that says when to read the database.

realtime-py stops in several ways without a word, so nothing here trusts a connection: each one
is used until the first sign of trouble and then thrown away, together with its client, and a new
one is built after a pause. Its own reconnecting is off. Callbacks only set flags: one that raised
would end its listen task silently. Connections are renewed before the 24 hours after which
Supabase ends them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Literal

from realtime import AsyncRealtimeChannel, AsyncRealtimeClient, RealtimeSubscribeStates

from conv_realtime.core.pauses import pauses_between_attempts

logger = logging.getLogger("conv_realtime.feed")

LinkState = Literal["connecting", "joined", "refused", "lost"]

MAX_AGE_SECONDS = 23 * 3600.0
CONNECT_SECONDS = 10
STEADY_SECONDS = 30.0
"""What a connection has to last for the next pause to be short again: Realtime may admit and end
one at once, for as long as too many messages come or one that is too large for the client."""

_REFUSALS = ("Unauthorized", "ChannelNotAllowed", "RealtimeDisabledForTenant", "InvalidJWT")
_CLOSE_SECONDS = 3.0


class WakeUps:
    """Keeps one private topic joined for as long as it runs.

    Args:
        url: of Realtime, as supabase-py has it (`…/realtime/v1`).
        key: of the project; it opens the connection.
        topic: gives the topic, without the `realtime:` before it.
        access_token: gives the token to join with; None stands for the key.
        wake: called with the payload of each broadcast, and with None after each join.

    Attributes:
        state: how the topic stands.
        reason: why it is not joined, as far as somebody said so.
    """

    def __init__(
        self,
        url: str,
        key: str,
        topic: Callable[[], Awaitable[str]],
        access_token: Callable[[], Awaitable[str | None]],
        wake: Callable[[Any], None],
    ) -> None:
        self.state: LinkState = "connecting"
        self.reason: str | None = None
        self._url = url
        self._key = key
        self._topic = topic
        self._access_token = access_token
        self._wake = wake
        self._trouble = asyncio.Event()
        self._refused = False
        self._client: AsyncRealtimeClient | None = None
        self._channel: AsyncRealtimeChannel | None = None
        self._token: str | None = None

    async def run(self) -> None:
        """Join, and join again after every trouble, until cancelled. Never raises."""
        pauses = pauses_between_attempts()
        loop = asyncio.get_running_loop()
        while True:
            self._trouble = asyncio.Event()
            began = loop.time()
            joined = False
            try:
                joined = await self._join()
                if joined:
                    await self._watch()
            except Exception as error:
                # websockets, realtime-py and the network raise too many things to name.
                logger.info("no wake-ups from Realtime: %s", type(error).__name__)
                self.state, self.reason = "lost", self._told(error)
            finally:
                await self._drop()
            if joined and self.state == "joined":
                self.state = "connecting"  # renewed because of its age
                continue
            if joined and loop.time() - began >= STEADY_SECONDS:
                pauses = pauses_between_attempts()
            await asyncio.sleep(next(pauses))

    def distrust(self) -> None:
        """Say that something came without a wake-up: the connection may be dead."""
        if self.state == "joined":
            logger.info("a change came without a wake-up; joining Realtime again")
            self._trouble.set()

    async def set_token(self, token: str | None) -> None:
        """Give the connection a user's token if it is another than it has."""
        if self._client is not None and token is not None and token != self._token:
            await self._client.set_auth(token)
            self._token = token

    async def _join(self) -> bool:
        client = self._client = AsyncRealtimeClient(
            self._url, self._key, auto_reconnect=False, timeout=CONNECT_SECONDS
        )
        trouble = self._trouble
        async with asyncio.timeout(2 * CONNECT_SECONDS):
            # Whose topic it is may follow from the token, which may be one that has to be fetched.
            token = self._token = await self._access_token()
            topic = await self._topic()
            if token is not None:
                await client.set_auth(token)
            channel = client.channel(topic, {"config": {"private": True}})  # type: ignore[arg-type]
            channel.on_broadcast("*", self._tell)
            self._channel = channel  # a client forgets a channel that was closed

            def told(state: RealtimeSubscribeStates, error: Exception | None) -> None:
                self._on_state(trouble, topic, state, error)

            await client.connect()
            _at_end_of_listening(client, trouble.set)
            await channel.subscribe(told)
        return channel.is_joined

    async def _watch(self) -> None:
        """Return when the connection is due for renewal, or shows trouble."""
        with suppress(TimeoutError):
            async with asyncio.timeout(MAX_AGE_SECONDS):
                await self._trouble.wait()
                if self.state == "joined":
                    self.state = "lost"

    async def _drop(self) -> None:
        client, self._client = self._client, None
        channel, self._channel = self._channel, None
        if client is None:
            return
        end_at_once = _ending(client)
        try:
            with suppress(Exception):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await client.close()
        finally:
            end_at_once()
            if channel is not None:
                _end_timers(channel)

    def _tell(self, payload: Any) -> None:
        try:
            self._wake(payload)
        except Exception:
            logger.exception("a wake-up failed")

    def _told(self, error: Exception | None) -> str | None:
        """Return what an error says, without the key, which stands in the connection's URL."""
        if error is None:
            return None
        said = (str(error) or type(error).__name__).replace(self._key, "…")
        return said.splitlines()[0][:200]

    def _on_state(
        self,
        trouble: asyncio.Event,
        topic: str,
        state: RealtimeSubscribeStates,
        error: Exception | None,
    ) -> None:
        if trouble is not self._trouble:
            return  # a connection that was dropped already
        if state == RealtimeSubscribeStates.SUBSCRIBED:
            self.state, self.reason = "joined", None
            self._refused = False
            self._tell(None)
            return
        self.reason = self._told(error) or state.value
        refused = any(sign in str(error) for sign in _REFUSALS)
        if refused and not self._refused:
            logger.warning("Realtime refuses the topic %s; polling instead", topic)
        self.state = "refused" if refused else "lost"
        self._refused = refused
        trouble.set()


def _at_end_of_listening(client: AsyncRealtimeClient, act: Callable[[], None]) -> None:
    """Call `act` when realtime-py stops reading, of which it does not always tell.

    Anything that is raised in its listen task ends that task: a deprecation warning under
    `-W error` is enough. Its name is private, so it may be missing; then reading without
    wake-ups finds out, later.
    """
    listening = getattr(client, "_listen_task", None)

    def ended(task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and task.exception() is not None:
            # Not its text: that may quote what it was about to tell.
            logger.info("realtime-py stopped listening: %s", type(task.exception()).__name__)
        act()

    if isinstance(listening, asyncio.Task):
        listening.add_done_callback(ended)


def _ending(client: AsyncRealtimeClient) -> Callable[[], None]:
    """Return what ends the connection of `client` without asking the other side.

    Over a link that passes nothing, closing takes longer than we wait, and realtime-py's tasks
    would live on until then. `close` forgets the names, so they are looked up before; they are
    private, so they may be missing.
    """
    tasks = [getattr(client, name, None) for name in ("_listen_task", "_heartbeat_task")]
    socket = getattr(client, "_ws_connection", None)

    def end() -> None:
        for task in tasks:
            if isinstance(task, asyncio.Task):
                task.cancel()
        if socket is not None:
            with suppress(Exception):
                socket.transport.abort()

    return end


def _end_timers(channel: AsyncRealtimeChannel) -> None:
    """End what a thrown-away channel would still do by the clock."""
    with suppress(Exception):
        channel.rejoin_timer.reset()
    # Among them the join, and tokens that were pushed: a server does not acknowledge those.
    for push in [channel.join_push, *channel.messages_waiting_for_ack.values()]:
        with suppress(Exception):
            push.destroy()
