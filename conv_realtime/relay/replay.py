"""What a client missed, and the state it starts from: `since` and `snapshot`.

The client is held meanwhile: its live events wait from the moment at which the answer to its
request was queued, so whatever a source is asked after that, nothing falls between. What is in
both comes twice, and clients drop lower revisions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator

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

logger = logging.getLogger("conv_realtime.relay")

_LOG_STEP, _FEED_STEP = 200, 500
_ROOM = MAX_FRAME_BYTES - 4096


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
    """Return whether the log had everything; if not, what it had was sent all the same.

    The last event has the cursor of the end: what stands behind it was told of before.
    """
    since, last = index, list[Entry]()
    end = hub.log.read(until - 1, until)[0].cursor if index < until else ""
    while index < until:
        if index < hub.log.first:
            _send_entries(hub, client, last)
            return False
        stop = min(index + _LOG_STEP, until)
        told = [*last, *_wanted(client, hub.log.told_once(index, stop, since, until))]
        last = told[-1:]
        _send_entries(hub, client, told[:-1])
        index = stop
        if not await hub.drained(client):
            return True
    _send_entries(hub, client, [entry.up_to(end) for entry in last])
    await hub.drained(client)
    return True


async def _replay_feed(hub: Hub, feed: Feed, client: Client, since: str) -> None:
    while True:
        try:
            page = await feed.since(since, _FEED_STEP)
        except ConvRealtimeError as error:
            logger.info("client %s gets resync: %s", client.id, error)
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
    """Send a held client the state of what it selects, in frames of at most 512 KB.

    A frame leaves when it is full and the client has read what was sent before, so that a
    large state is never in memory as a whole.
    """
    selection = client.selection
    if feed is None:
        hub.send(client, error("unavailable", "there is no feed to take a snapshot from"))
        return
    parts = feed.snapshot(
        owner=selection.owner,
        conversations=selection.conversations,
        projects=selection.projects,
        messages=messages,
    )
    frames = _Frames(hub.log.cursor)
    try:
        async for part in parts:
            for frame in frames.add(part):
                hub.send(client, frame)
                if not await hub.drained(client):
                    return
            await asyncio.sleep(0)  # others hear of news between two parts
    except ConvRealtimeError as failed:
        logger.info("client %s gets no snapshot: %s", client.id, failed)
        hub.send(client, error("unavailable", "the source of snapshots does not answer"))
        return
    hub.send(client, frames.rest(more=False))
    await hub.drained(client)


def _send_entries(hub: Hub, client: Client, entries: Iterable[Entry]) -> None:
    for entry in _wanted(client, entries):
        hub.send_text(client, entry.payload(client.stamped))


def _wanted(client: Client, entries: Iterable[Entry]) -> Iterator[Entry]:
    for entry in entries:
        if entry.subject is not None and entry.is_for(client.selection):
            yield entry


def _entries_of(page: Page, before: str) -> list[Entry]:
    at_ms = now_ms()
    entries = []
    for change, cursor in page.placed(before):
        project = change.row.project_id if isinstance(change.row, Message) else None
        entries.append(Entry(subject_of(change, project), cursor, at_ms, change=change))
    return entries


def _resync(hub: Hub, client: Client, reason: str, cursor: str) -> None:
    hub.gaps[reason] += 1
    hub.send(client, Resync(data=ResyncData(reason=reason, cursor=cursor)))


class _Frames:
    """Fills frames with rows up to what fits; every frame but the last says `more`."""

    def __init__(self, head: str) -> None:
        self._cursor = head
        self._conversations: list[ConversationData] = []
        self._messages: list[MessageData] = []
        self._size = 0

    def add(self, part: SnapshotPart) -> Iterator[Snapshot]:
        """Take a part, yield the frames that became full."""
        self._cursor = part.cursor
        for row in _rows(part):
            length = len(as_json(row))
            if length > _ROOM:
                row = cut(row, _ROOM)
                length = len(as_json(row))
            if self._size and self._size + length > _ROOM:
                yield self.rest(more=True)
            if isinstance(row, MessageData):
                self._messages.append(row)
            else:
                self._conversations.append(row)
            self._size += length + 1

    def rest(self, *, more: bool) -> Snapshot:
        """Return the frame with what was taken since the last one."""
        data = SnapshotData.model_construct(
            conversations=self._conversations,
            messages=self._messages,
            more=more,
            cursor=self._cursor,
        )
        self._conversations, self._messages, self._size = [], [], 0
        return Snapshot(data=data)


def _rows(part: SnapshotPart) -> Iterator[ConversationData | MessageData]:
    for conversation in part.conversations:
        yield conversation_data(conversation, part.cursor)
    for message in part.messages:
        yield message_data(message, part.cursor)
