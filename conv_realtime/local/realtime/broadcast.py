"""Broadcasts from the database: every row inserted into ``realtime.messages`` goes to its topic."""

from __future__ import annotations

import logging

import orjson

from conv_realtime.local.realtime.channels import PREFIX, Topics
from conv_realtime.local.realtime.frames import UserBroadcast
from conv_realtime.local.wal.pgoutput import Change, Transaction

log = logging.getLogger("conv_realtime.local.realtime")

PUBLICATION = "supabase_realtime_messages_publication"


def publish_transaction(transaction: Transaction, topics: Topics, max_bytes: int) -> int:
    """Publishes the rows of one transaction that are broadcasts.

    The payload is what the row holds, byte for byte, so numbers keep their exact form. A row's
    ``private`` must match the kind of the channel, else nobody hears it. A payload of more than
    `max_bytes` is dropped, as on the hosted platform.

    Returns:
        On how many sockets messages were queued.
    """
    return sum(_publish(change, topics, max_bytes) for change in transaction.changes)


def _publish(change: Change, topics: Topics, max_bytes: int) -> int:
    row = change.new
    is_message = (change.relation.schema, change.relation.name) == ("realtime", "messages")
    if not is_message or change.kind != "INSERT" or row.get("extension") != "broadcast":
        return 0
    topic, event = row.get("topic"), row.get("event")
    text, binary = row.get("payload"), row.get("binary_payload")
    if topic is None or event is None or (text is None and binary is None):
        log.debug("a broadcast row without topic, event or payload is not sent")
        return 0
    payload = text.encode() if text is not None else _bytes(binary or "")
    if len(payload) > max_bytes:
        log.warning("a broadcast of %d bytes from the database is too large to send", len(payload))
        return 0
    message = UserBroadcast(
        PREFIX + topic,
        event,
        payload,
        is_json=text is not None,
        metadata=orjson.dumps({"id": row.get("id")}),
        row_id=row.get("id"),
    )
    return topics.publish(message.topic, message, private=row.get("private") == "t")


def _bytes(text: str) -> bytes:
    """Reads PostgreSQL's ``\\x0aff``, the form that a walsender's session starts with."""
    return bytes.fromhex(text.removeprefix("\\x"))
