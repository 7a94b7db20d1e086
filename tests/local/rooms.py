"""Topics of a test's own, public and private, and what is said in them."""

from __future__ import annotations

import uuid

import psycopg

from tests.conftest import Owner
from tests.local.realtime_client import Received, Socket

POLICIES = """
create policy "rt test members read" on realtime.messages for select to authenticated
  using (realtime.topic() like 'rt-room:' || auth.uid()::text || '%' and extension = 'broadcast');
create policy "rt test members write" on realtime.messages for insert to authenticated
  with check (realtime.topic() like 'rt-room:' || auth.uid()::text || '%');
create policy "rt test all read" on realtime.messages for select to authenticated
  using (realtime.topic() like 'rt-readonly:%');
"""


def room(owner: Owner) -> str:
    """A private topic that only this owner may read and write."""
    return f"rt-room:{owner.id}"


def fresh() -> str:
    """A public topic of this test alone."""
    return f"rt-public:{uuid.uuid4()}"


async def from_database(
    db: psycopg.AsyncConnection[object], name: str, event: str, *, private: bool
) -> None:
    """Broadcasts a small payload from SQL."""
    await db.execute("select realtime.send('{\"n\": 1.50}', %s, %s, %s)", (event, name, private))


def user_event(frame: Received) -> str | None:
    """The event name of a broadcast in any of its forms, else None."""
    if frame.event == "binary":
        topic, event = frame.payload[1], frame.payload[2]
        name: bytes = frame.payload[5 + topic : 5 + topic + event]
        return name.decode()
    if frame.event == "broadcast":
        return str(frame.payload.get("event"))
    return None


async def heard(listener: Socket, event: str) -> Received:
    """Waits until a socket has a broadcast of this name."""
    return await listener.wait(lambda frame: user_event(frame) == event)
