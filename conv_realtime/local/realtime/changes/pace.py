"""Waiting for readers, a little: a burst of changes must not overrun who does read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from weakref import WeakKeyDictionary

from conv_realtime.local.realtime.changes.subscriptions import Subscription
from conv_realtime.local.realtime.channels import Subscriber

ENOUGH_BYTES = 2 << 20
PATIENCE_SECONDS = 2.0
_LOOK_SECONDS = 0.01


class Pacer:
    """Waits while sockets have much to read, but never long for one that stands still.

    A socket that is behind for longer than its patience is waited for no more: it either catches
    up, or has more waiting for it than `Rules.max_buffered_bytes` allows and is dropped.
    """

    def __init__(self) -> None:
        self._behind: WeakKeyDictionary[Subscriber, tuple[float, int]] = WeakKeyDictionary()

    async def wait(self, audience: Sequence[Subscription]) -> None:
        """Returns when nobody of the audience has too much waiting, or the patience is over."""
        # A look now and then: transports tell their protocol that they have room, but not us.
        readers = [one.channel.subscriber for one in audience if not one.stay.ended]
        while readers:
            readers = [reader for reader in readers if self._is_worth_waiting(reader)]
            await asyncio.sleep(_LOOK_SECONDS if readers else 0)

    def _is_worth_waiting(self, reader: Subscriber) -> bool:
        waiting = reader.waiting_bytes
        if waiting <= ENOUGH_BYTES:
            self._behind.pop(reader, None)
            return False
        now = time.monotonic()
        since, least = self._behind.get(reader, (now, waiting))
        if waiting < least or reader not in self._behind:
            since, least = now, waiting  # it reads
        self._behind[reader] = since, least
        return now - since < PATIENCE_SECONDS
