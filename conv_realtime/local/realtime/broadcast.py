"""Broadcasts from the database: every row inserted into ``realtime.messages`` goes to its topic."""

from __future__ import annotations

import logging

import orjson

from conv_realtime.local.realtime.channels import PREFIX, Topics
from conv_realtime.local.realtime.frames import UserBroadcast
from conv_realtime.local.wal.pgoutput import Change, Transaction

log = logging.getLogger("conv_realtime.local.realtime")

PUBLICATION = "supabase_realtime_messages_publication"


def publish_transaction(transaction: Transaction, topics: Topics) -> int:
    """Publishes the rows of one transaction that are broadcasts.

    The payload is what the row holds, byte for byte, so numbers keep their exact form. A row's
    ``private`` must match the kind of the channel, else nobody hears it.

    Returns:
        On how many sockets messages were queued.
    """
    return sum(_publish(change, topics) for change in transaction.changes)


def _publish(change: Change, topics: Topics) -> int:
    row = change.new
    is_message = (change.relation.schema, change.relation.name) == ("realtime", "messages")
    if not is_message or change.kind != "INSERT" or row.get("extension") != "broadcast":
        return 0
    topic, event, payload = row.get("topic"), row.get("event"), row.get("payload")
    if topic is None or event is None or payload is None:
        log.debug("a broadcast row without topic, event or payload is not sent")
        return 0
    message = UserBroadcast(
        PREFIX + topic,
        event,
        payload.encode(),
        metadata=orjson.dumps({"id": row.get("id")}),
        row_id=row.get("id"),
    )
    return topics.publish(message.topic, message, private=row.get("private") == "t")
