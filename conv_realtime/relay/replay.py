"""What a client missed, and the state it starts from: `since` and `snapshot`.

The client is held meanwhile: its live events wait from the moment at which the answer to its
request was queued, so whatever a source is asked after that, nothing falls between. What is in
both comes twice, and clients drop lower revisions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from conv_realtime.core.envelope import (
    MAX_FRAME_BYTES,
    as_json,
    conversation_data,
    cut,
    message_data,
    subject_of,
)
from conv_realtime.core.log import Entry
from conv_realtime.core.requests import error
from conv_realtime.errors import ConvRealtimeError
from conv_realtime.events import (
    ConversationData,
    MessageData,
    Resync,
    ResyncData,
    Snapshot,
    SnapshotData,
)
from conv_realtime.models import Message
from conv_realtime.ports import Feed, Page, SnapshotPart
from conv_realtime.relay.client import Client
from conv_realtime.relay.hub import Hub
from conv_realtime.relay.intake import now_ms

_LOG_STEP, _FEED_STEP = 200, 500
_FRAME_MARGIN = 4096


async def replay(hub: Hub, feed: Feed | None, client: Client, since: str, until: int) -> None:
    """Send a held client what came after the cursor `since`, up to index `until` of the log."""
    index = hub.log.find(since)
    if index is not None and await _replay_log(hub, client, index, until):
        return
    if feed is None:
        _resync(hub, client, "unknown_cursor", hub.log.cursor)
    else:
        await _replay_feed(hub, feed, client, since)


async def _replay_log(hub: Hub, client: Client, index: int, until: int) -> bool:
    """Return whether the log had everything; if not, what it had was sent all the same."""
    while index < until:
        if index < hub.log.first:
            return False
        entries = hub.log.read(index, min(index + _LOG_STEP, until))
        index += len(entries)
        _send_entries(hub, client, entries)
        if not await hub.drained(client):
            return True
    return True


async def _replay_feed(hub: Hub, feed: Feed, client: Client, since: str) -> None:
    while True:
        try:
            page = await feed.since(since, _FEED_STEP)
        except ConvRealtimeError:
            _resync(hub, client, "unavailable", hub.log.cursor)
            return
        if page.resync:
            _resync(hub, client, "unknown_cursor", page.cursor)
            return
        _send_entries(hub, client, _entries_of(page, since))
        if not await hub.drained(client) or not page.more:
            return
        since = page.cursor


async def snapshot(hub: Hub, feed: Feed | None, client: Client, messages: int) -> None:
    """Send a held client the state of what it selects, in frames of at most 512 KB."""
    selection = client.selection
    if feed is None:
        hub.send(client, error("unavailable", "there is no feed to take a snapshot from"))
        return
    try:
        parts = await feed.snapshot(
            owner=selection.owner,
            conversations=selection.conversations,
            projects=selection.projects,
            messages=messages,
        )
    except ConvRealtimeError:
        hub.send(client, error("unavailable", "the source of snapshots does not answer"))
        return
    for frame in _frames(parts, hub.log.cursor):
        hub.send(client, frame)
        if not await hub.drained(client):
            return


def _send_entries(hub: Hub, client: Client, entries: Sequence[Entry]) -> None:
    for entry in entries:
        if entry.subject is not None and client.selection.wants(entry.subject):
            hub.send_text(client, entry.payload(client.stamped))


def _entries_of(page: Page, before: str) -> list[Entry]:
    at_ms = now_ms()
    last = len(page.changes) - 1
    entries = []
    for number, change in enumerate(page.changes):
        project = change.row.project_id if isinstance(change.row, Message) else None
        cursor = page.cursor if number == last else before
        entries.append(Entry(subject_of(change, project), cursor, at_ms, change=change))
    return entries


def _resync(hub: Hub, client: Client, reason: str, cursor: str) -> None:
    hub.send(client, Resync(data=ResyncData(reason=reason, cursor=cursor)))


def _frames(parts: Sequence[SnapshotPart], head: str) -> Iterator[Snapshot]:
    """Split parts into frames that fit; every frame but the last says `more`."""
    limit = MAX_FRAME_BYTES - _FRAME_MARGIN
    cursor = parts[0].cursor if parts else head
    conversations: list[ConversationData] = []
    messages: list[MessageData] = []
    size = 0
    for row in _rows(parts):
        length = len(as_json(row))
        if isinstance(row, MessageData) and length > limit:
            row = cut(row, limit)
            length = len(as_json(row))
        if size and size + length > limit:
            yield _snapshot(conversations, messages, cursor, more=True)
            conversations, messages, size = [], [], 0
        if isinstance(row, MessageData):
            messages.append(row)
        else:
            conversations.append(row)
        size += length + 1
    yield _snapshot(conversations, messages, cursor, more=False)


def _rows(parts: Sequence[SnapshotPart]) -> Iterator[ConversationData | MessageData]:
    for part in parts:
        for conversation in part.conversations:
            yield conversation_data(conversation, part.cursor)
        for message in part.messages:
            yield message_data(message, part.cursor)


def _snapshot(
    conversations: list[ConversationData], messages: list[MessageData], cursor: str, *, more: bool
) -> Snapshot:
    data = SnapshotData.model_construct(
        conversations=conversations, messages=messages, more=more, cursor=cursor
    )
    return Snapshot(data=data)
