"""Channels: who is on which topic, and what they may do there.

A topic is joined as a public or as a private channel; the two of one name never hear each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from conv_realtime.local.realtime.access import Access
from conv_realtime.local.realtime.frames import Outgoing, Ref, Version, Wire
from conv_realtime.local.realtime.policy import Policy
from conv_realtime.local.realtime.tokens import Token

PREFIX = "realtime:"


class Subscriber(Protocol):
    """The socket behind a channel."""

    @property
    def version(self) -> Version:
        """The protocol version that it speaks."""

    @property
    def waiting_bytes(self) -> int:
        """How much it has not read yet."""

    def push(self, wire: Wire) -> None:
        """Queues one encoded frame."""

    def delays(self, name: str) -> Sequence[float]:
        """After how many seconds a message of a topic goes on its way; see `Policy`."""

    def drop(self) -> None:
        """Ends the socket without a close frame, as a network does."""

    def recheck(self) -> None:
        """Closes the channels whose token no longer holds."""

    def shut(self, topic: str | None, message: str) -> int:
        """Ends one channel, or all, with an error; returns how many."""


@dataclass(eq=False, slots=True)
class Channel:
    """One topic that one socket has joined.

    Attributes:
        topic: as on the wire, with its ``realtime:`` prefix.
        join_ref: of the join that made it; frames of an earlier join are stale.
        subscriber: the socket.
        private: whether it is the private channel of that name.
        token: what its holder showed last.
        access: what the policies allow; a public channel allows everything.
        ack: whether the client wants its broadcasts acknowledged.
        echo: whether the client wants its own broadcasts back.
        replayed: ids of stored messages that it was given at its join; they are not sent again.
    """

    topic: str
    join_ref: Ref
    subscriber: Subscriber
    private: bool
    token: Token
    access: Access = field(default_factory=lambda: Access(read=True, write=True))
    ack: bool = False
    echo: bool = False
    replayed: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The topic as policies and `realtime.send` know it."""
        return self.topic.removeprefix(PREFIX)


class Topics:
    """All joined channels by topic, and the way to reach them.

    Args:
        policy: what a test lets happen to messages on their way.
    """

    def __init__(self, policy: Policy | None = None) -> None:
        self._policy = policy
        # A dict as an ordered set: delivery in the order of joining.
        self._channels: dict[tuple[str, bool], dict[Channel, None]] = {}

    def add(self, channel: Channel) -> None:
        """Lets a channel hear its topic from now on."""
        self._channels.setdefault((channel.topic, channel.private), {})[channel] = None

    def discard(self, channel: Channel) -> None:
        """Takes a channel off its topic, if it is there."""
        key = (channel.topic, channel.private)
        members = self._channels.get(key, {})
        members.pop(channel, None)
        if not members:
            self._channels.pop(key, None)

    def subscribers(self, topic: str) -> set[Subscriber]:
        """Returns the sockets that have joined a topic, as either kind of channel."""
        kinds = (self._channels.get((topic, private), ()) for private in (False, True))
        return {channel.subscriber for channels in kinds for channel in channels}

    def publish(
        self, topic: str, message: Outgoing, *, private: bool, besides: Channel | None = None
    ) -> int:
        """Queues a message on every channel of a topic, encoded once per protocol version.

        Args:
            topic: with its ``realtime:`` prefix.
            message: what to send.
            private: of which of the two channels of that name.
            besides: a channel that is left out: the sender's own.

        Returns:
            On how many sockets it was queued.
        """
        if self._policy is None:
            return self._queue(topic, message, private, besides)
        queued = 0
        for delay in self._policy.deliveries(topic.removeprefix(PREFIX)):
            if delay > 0:
                loop = asyncio.get_running_loop()
                loop.call_later(delay, self._queue, topic, message, private, besides)
            else:
                queued += self._queue(topic, message, private, besides)
        return queued

    def _queue(self, topic: str, message: Outgoing, private: bool, besides: Channel | None) -> int:
        queued = 0
        row_id = message.row_id
        for channel in self._channels.get((topic, private), ()):
            if channel is besides or row_id in channel.replayed:
                continue
            subscriber = channel.subscriber
            wire = message.wire(subscriber.version)
            if wire is not None:
                subscriber.push(wire)
                queued += 1
        return queued
