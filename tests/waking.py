"""Waking a Realtime server that has had no clients: until then it keeps no broadcasts."""

from __future__ import annotations

import json
import time
import uuid
from urllib.parse import urlencode

import psycopg
import pytest
from websockets.sync.client import connect

_PATIENCE = 60.0
_PROBE = (
    "insert into realtime.messages (topic, extension, event, payload, private)"
    " values ('conv_realtime:probe', 'broadcast', 'probe', '{}', true)"
)


def wake_realtime(url: str, key: str, db_url: str) -> None:
    """Joins a channel, and waits until there is a partition for today's broadcasts.

    A hosted project makes them when a client connects; before that `realtime.send` only warns.

    Raises:
        pytest.UsageError: it does not come.
    """
    query = urlencode({"apikey": key, "vsn": "1.0.0"})
    address = f"{url.replace('http', 'ws', 1)}/realtime/v1/websocket?{query}"
    join = {
        "topic": f"realtime:conv-realtime-tests:{uuid.uuid4()}",
        "event": "phx_join",
        "payload": {"config": {}, "access_token": key},
        "ref": "1",
        "join_ref": "1",
    }
    with connect(address, open_timeout=_PATIENCE) as socket:
        socket.send(json.dumps(join))
        until = time.monotonic() + _PATIENCE
        while not _kept(db_url):
            if time.monotonic() > until:
                raise pytest.UsageError("realtime.messages has no partition for today")
            time.sleep(0.5)


def _kept(db_url: str) -> bool:
    with psycopg.connect(db_url) as connection:
        try:
            connection.execute(_PROBE.encode())
        except psycopg.errors.CheckViolation:  # no partition of the table for this row
            return False
        finally:
            connection.rollback()
    return True
