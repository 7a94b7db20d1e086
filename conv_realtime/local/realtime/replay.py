"""Past broadcasts from the database, for a private channel that asks for them at its join.

Only what came from the database is stored, and only for as long as its day's partition lives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from conv_realtime.local.realtime.connections import Connections, asking

MAX_MESSAGES = 25

_NEWEST = """
    select id::text, event, coalesce(payload::text, 'null') from realtime.messages
    where topic = %s and private and extension = 'broadcast'
      and (payload is not null or binary_payload is not null)
      and inserted_at >= to_timestamp(%s) at time zone 'utc'
    order by inserted_at desc, id desc
    limit %s
"""


@dataclass(frozen=True, slots=True)
class Replay:
    """What a join asks for: at most so many messages since a time in seconds since 1970."""

    since: float
    limit: int


@dataclass(frozen=True, slots=True)
class PastMessage:
    """A stored broadcast; `payload` is its JSON text, null where opaque bytes were sent."""

    id: str
    event: str | None
    payload: str

    def body(self) -> dict[str, Any]:
        """The payload of the frame, marked as replayed."""
        return {
            "event": self.event,
            "meta": {"id": self.id, "replayed": True},
            "payload": orjson.Fragment(self.payload),
            "type": "broadcast",
        }


class History:
    """Reads stored broadcasts.

    Args:
        connections: of a role that reads ``realtime.messages`` past its policies; whoever
            asks must have been admitted to the topic.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def messages(self, name: str, replay: Replay) -> list[PastMessage]:
        """Returns the newest messages of a private topic since a time, oldest first.

        Args:
            name: the topic without its prefix.
            replay: since when and how many.

        Raises:
            Away: the database cannot be asked.
        """
        async with asking(self._connections) as connection:
            cursor = await connection.execute(_NEWEST, (name, replay.since, replay.limit))
            rows = await cursor.fetchall()
        return [PastMessage(*row) for row in reversed(rows)]
