"""Where a test takes a hand in what a Realtime server does; others have no policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from conv_realtime.local.realtime.join import JoinRefused


class Policy(Protocol):
    """Decides what becomes of joins, of messages and of replication.

    Called in the server's event loop; `name` is a topic without its ``realtime:`` prefix.
    """

    def refusal(self, name: str) -> JoinRefused | None:
        """Returns with which error to refuse a join of the topic, or None to go on."""

    def joined(self, name: str) -> None:
        """Hears that a socket has joined the topic."""

    def deliveries(self, name: str) -> Sequence[float]:
        """Returns after how many seconds to deliver a message; none is a loss, two are a double."""

    def replicates(self, connected: bool) -> None:
        """Hears that the stream of the database's broadcasts began, or broke."""

    async def may_replicate(self) -> None:
        """Returns when the server may connect to the database's stream of broadcasts."""
