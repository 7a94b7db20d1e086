"""One WebSocket connection: the frames that a client sends, and what they do.

Frames of one socket are handled one after the other, so a reply never overtakes the reply to an
earlier frame. What does not parse, what nobody knows, and what carries a stale ``join_ref`` is
ignored without an answer, as on a real server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import orjson

from conv_realtime.local.realtime import replies
from conv_realtime.local.realtime.access import Access
from conv_realtime.local.realtime.channels import PREFIX, Channel
from conv_realtime.local.realtime.connections import Away
from conv_realtime.local.realtime.frames import (
    Frame,
    Outgoing,
    Push,
    Ref,
    TextBroadcast,
    UserBroadcast,
    Version,
    Wire,
    decode,
    encode,
)
from conv_realtime.local.realtime.join import JoinRefused, JoinRequest, read_join
from conv_realtime.local.realtime.outbox import Outbox
from conv_realtime.local.realtime.replay import PastMessage
from conv_realtime.local.realtime.rules import Surroundings
from conv_realtime.local.realtime.tokens import Token, TokenRefused, expired, read_token


class Session:
    """The state of one socket: its protocol version, its key, its channels."""

    def __init__(
        self, outbox: Outbox, version: Version, token: Token, surroundings: Surroundings
    ) -> None:
        self._outbox = outbox
        self._version = version
        self._token = token
        self._around = surroundings
        self._channels: dict[str, Channel] = {}
        self._expiries: dict[Channel, asyncio.TimerHandle] = {}

    @property
    def version(self) -> Version:
        """The protocol version of this socket."""
        return self._version

    @property
    def waiting_bytes(self) -> int:
        """How much the client has not read yet."""
        return self._outbox.waiting_bytes

    def push(self, wire: Wire) -> None:
        """Queues one encoded frame for this socket."""
        self._outbox.push(wire)

    def delays(self, name: str) -> Sequence[float]:
        """What a test lets happen to a message, else at once and once; see `Subscriber`."""
        policy = self._around.policy
        return policy.deliveries(name) if policy else (0.0,)

    def drop(self) -> None:
        """Ends the socket without a close frame; see `Subscriber`."""
        self._outbox.abort()

    def recheck(self) -> None:
        """Closes the channels whose token no longer holds; see `Subscriber`."""
        for channel in list(self._channels.values()):
            try:
                read_token(channel.token.text, self._around.verify, self._around.now())
            except TokenRefused as refusal:
                self._shut(channel, refusal.in_channel)

    def shut(self, topic: str | None, message: str) -> int:
        """Ends one channel, or all, with an error; see `Subscriber`."""
        meant = [one for one in self._channels.values() if topic in (None, one.topic)]
        for channel in meant:
            self._shut(channel, message)
        return len(meant)

    def end(self) -> None:
        """Takes the socket off all its topics; nothing is delivered to it from here on."""
        for channel in list(self._channels.values()):
            self._forget(channel)

    async def receive(self, data: str | bytes) -> None:
        """Handles one frame of the client.

        Cancelling it leaves no channel half joined.
        """
        message = decode(self._version, data)
        if message is not None:
            # JSON may be read deeper than it can be written: no frame can carry that on.
            with suppress(orjson.JSONEncodeError):
                await self._dispatch(message, len(data))

    async def _dispatch(self, message: Frame | Push, size: int) -> None:
        channel = self._channels.get(message.topic)
        if isinstance(message, Frame) and message.event == "phx_join":
            await self._join(message, channel)
        elif channel is None:
            self._answer_unjoined(message)
        elif message.join_ref not in (None, channel.join_ref):
            return
        elif isinstance(message, Push):
            body = UserBroadcast(
                message.topic, message.event, message.payload, message.is_json, message.metadata
            )
            self._broadcast(channel, message.ref, body, size)
        else:
            await self._handle(message, channel, size)

    async def _handle(self, frame: Frame, channel: Channel, size: int) -> None:
        match frame.event:
            case "broadcast":
                body = TextBroadcast(frame.topic, orjson.dumps(frame.payload))
                self._broadcast(channel, frame.ref, body, size)
            case "access_token":
                await self._refresh(channel, frame.payload)
            case "phx_leave":
                self._forget(channel)
                self._send(
                    replies.reply(frame.topic, frame.ref, channel.join_ref, "ok", {}),
                    replies.closed(channel),
                )
            case _:
                pass  # presence and what no server knows

    def _answer_unjoined(self, message: Frame | Push) -> None:
        heartbeat = message.topic == "phoenix" and message.event == "heartbeat"
        if isinstance(message, Frame) and (heartbeat or message.event == "phx_leave"):
            self._send(replies.reply(message.topic, message.ref, None, "ok", {}))
        else:
            self._send(replies.unmatched(message.topic, message.ref))

    async def _join(self, frame: Frame, earlier: Channel | None) -> None:
        if not frame.topic.startswith(PREFIX):
            self._answer_unjoined(frame)
            return
        try:
            request, channel = await self._admit(frame)
            past = await self._past(request, channel)
        except (JoinRefused, TokenRefused, Away) as refusal:
            await asyncio.sleep(self._around.rules.join_error_seconds)
            response = {"reason": replies.reason(refusal)}
            self._send(replies.reply(frame.topic, frame.ref, frame.join_ref, "error", response))
        else:
            if earlier is not None:
                self._forget(earlier)
            self._remember(channel)
            bindings = {"postgres_changes": list(request.bindings)}
            self._send(replies.reply(frame.topic, frame.ref, frame.join_ref, "ok", bindings))
            self._tell_extras(request, channel)
            for message in past:
                body = message.body()
                self._send(Frame(frame.topic, "broadcast", body, None, channel.join_ref))
        # The new join is answered first. A client that matches topics instead of refs would now
        # take its new channel for closed: so it is on real servers.
        if earlier is not None:
            self._forget(earlier)
            self._send(replies.closed(earlier))

    async def _admit(self, frame: Frame) -> tuple[JoinRequest, Channel]:
        """Raises JoinRefused, TokenRefused or Away where a join is refused."""
        rules = self._around.rules
        name = frame.topic.removeprefix(PREFIX)
        if self._around.policy and (refused := self._around.policy.refusal(name)):
            raise refused
        if len(self._channels) >= rules.max_channels and frame.topic not in self._channels:
            raise JoinRefused("ChannelRateLimitReached", "Too many channels")
        request = read_join(name, frame.payload)
        token = self._token_of(request.access_token)
        channel = Channel(
            frame.topic,
            frame.join_ref,
            self,
            request.private,
            token,
            await self._access(name, token) if request.private else Access(read=True, write=True),
            request.ack,
            request.echo,
        )
        if not channel.access.read:
            raise JoinRefused("Unauthorized", replies.forbidden(name))
        return request, channel

    async def _past(self, request: JoinRequest, channel: Channel) -> list[PastMessage]:
        """Reads what is to be replayed, and marks it so that it does not come twice."""
        if request.replay is None:
            return []
        past = await self._around.history.messages(channel.name, request.replay)
        channel.replayed = frozenset(message.id for message in past)
        return past

    def _token_of(self, asked: object) -> Token:
        """Returns the token of a join; without one, or with an API key, the connection's."""
        if asked is None or (isinstance(asked, str) and asked.startswith("sb_")):
            asked = self._token.text
        return read_token(asked, self._around.verify, self._around.now())

    async def _access(self, name: str, token: Token) -> Access:
        return await self._around.access.check(name, token)

    def _tell_extras(self, request: JoinRequest, channel: Channel) -> None:
        self._around.changes.subscribe(channel, request.bindings, is_legacy=request.is_legacy)
        if request.replication_ready and self._around.replicating():
            ready = "Replication connection established"
            self._send(replies.system(channel, "system", "ok", ready))

    async def _refresh(self, channel: Channel, payload: Any) -> None:
        """Takes a new token; a bad one, or one that may no longer read, closes the channel."""
        text = payload.get("access_token") if isinstance(payload, dict) else None
        if not isinstance(text, str) or text.startswith("sb_") or text == channel.token.text:
            return
        try:
            token = read_token(text, self._around.verify, self._around.now())
            if channel.private:
                channel.access = await self._access(channel.name, token)
        except TokenRefused as refusal:
            self._shut(channel, refusal.in_channel)
            return
        except Away:
            self._shut(channel, replies.DATABASE_AWAY)
            return
        if not channel.access.read:
            self._shut(channel, replies.forbidden(channel.name))
            return
        if self._has(channel):
            channel.token = token
            self._watch_expiry(channel)
            self._around.changes.refresh(channel)

    def _broadcast(self, channel: Channel, ref: Ref, message: Outgoing, size: int) -> None:
        if size > self._around.rules.max_payload_bytes:
            if channel.ack:
                # A bare string where every other response is an object: as captured.
                refusal = "payload_size_exceeded"
                self._send(replies.reply(channel.topic, ref, channel.join_ref, "error", refusal))
            return
        if not channel.access.write:
            return  # without a word, even where an acknowledgement was asked for
        besides = None if channel.echo else channel
        self._around.topics.publish(
            channel.topic, message, private=channel.private, besides=besides
        )
        if channel.ack:
            self._send(replies.reply(channel.topic, ref, channel.join_ref, "ok", {}))

    def _remember(self, channel: Channel) -> None:
        self._channels[channel.topic] = channel
        self._around.topics.add(channel)
        self._watch_expiry(channel)
        if self._around.policy:
            self._around.policy.joined(channel.name)

    def _has(self, channel: Channel) -> bool:
        """Whether a channel is joined still: it may end while the policies are asked."""
        return self._channels.get(channel.topic) is channel

    def _forget(self, channel: Channel) -> None:
        self._around.topics.discard(channel)
        self._around.changes.discard(channel)
        if self._has(channel):
            del self._channels[channel.topic]
        timer = self._expiries.pop(channel, None)
        if timer is not None:
            timer.cancel()

    def _watch_expiry(self, channel: Channel) -> None:
        timer = self._expiries.pop(channel, None)
        if timer is not None:
            timer.cancel()
        # asyncio refuses timers beyond its horizon; a key that lives for years is looked at daily
        delay = min(max(0.0, channel.token.expires_at - self._around.now()), 86_400.0)
        loop = asyncio.get_running_loop()
        self._expiries[channel] = loop.call_later(delay, self._on_expiry, channel)

    def _on_expiry(self, channel: Channel) -> None:
        now = self._around.now()
        if channel.token.expires_at > now:
            self._watch_expiry(channel)
        else:
            self._shut(channel, expired(channel.token.expires_at, now).in_channel)

    def _shut(self, channel: Channel, message: str) -> None:
        """Ends a channel from our side, if it has not ended; the socket lives on."""
        if not self._has(channel):
            return
        self._forget(channel)
        self._send(replies.system(channel, "system", "error", message), replies.closed(channel))

    def _send(self, *frames: Frame) -> None:
        for frame in frames:
            self.push(encode(self._version, frame))
