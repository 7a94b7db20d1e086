"""The state of conversations as it stands in the database, read through the Data API.

PostgREST cuts an answer after 1,000 rows without a word, so everything is read in pages.
Conversations of which no more is wanted are read side by side; of others a page is held at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

from conv_realtime.edges.feed.access import no_json
from conv_realtime.edges.feed.unreadable import Unreadable
from conv_realtime.models import Conversation, ConversationSummary, Message
from conv_realtime.ports import SnapshotPart

if TYPE_CHECKING:
    from supabase import AsyncClient

_PAGE = 1000
_IDS_A_REQUEST = 100  # ids travel in the URL
_AT_ONCE = 4


async def read_snapshot(
    client: AsyncClient,
    cursor: str,
    *,
    owner: UUID | None,
    conversations: Collection[UUID] | None,
    projects: Collection[UUID] | None,
    messages: int,
    unreadable: Unreadable,
) -> AsyncIterator[SnapshotPart]:
    """Yield a part for each selected conversation, oldest first, all at `cursor`."""
    yield SnapshotPart((), (), cursor)
    rows = await _conversations(client, owner, conversations, projects)
    names = await _project_names(client, {row["project_id"] for row in rows} - {None}, owner)
    rows.sort(key=_age)
    for start in range(0, len(rows), _AT_ONCE):
        # Not all at once: of tens of thousands the loop would hear nothing else meanwhile.
        read = (
            unreadable.read(
                Conversation, row, project_name=names.get((row["project_id"], row["owner_id"]))
            )
            for row in rows[start : start + _AT_ONCE]
        )
        group = [row for row in read if row is not None]
        if not messages:
            yield SnapshotPart(group, (), cursor)
            continue
        if messages > _PAGE:
            for row in group:
                yield SnapshotPart((row,), (), cursor)
                async for page in _pages_of_messages(client, row, messages, unreadable):
                    yield SnapshotPart((), page, cursor)
            continue
        async with _first_error(), asyncio.TaskGroup() as turn:
            reads = [
                (
                    row,
                    turn.create_task(
                        _last_messages(client, row, messages, unreadable), name="snapshot"
                    ),
                )
                for row in group
            ]
        for row, last in reads:
            yield SnapshotPart((row,), last.result(), cursor)


async def _conversations(
    client: AsyncClient,
    owner: UUID | None,
    conversations: Collection[UUID] | None,
    projects: Collection[UUID] | None,
) -> list[dict[str, Any]]:
    if conversations is not None:
        groups = _groups("id", conversations)
    elif projects is not None:
        groups = _groups("project_id", projects)
    else:
        groups = [None]
    wanted = None if projects is None else {str(id) for id in projects}
    rows: list[dict[str, Any]] = []
    for group in groups:
        rows += await _select(client, "conversations", "*", group, owner)
    live = [row for row in rows if row["deleted_at"] is None]
    return [row for row in live if wanted is None or row["project_id"] in wanted]


def _age(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return what sorts rows by age as they come: all their times are written in one zone."""
    return row["updated_at"] or "", row["id"]


async def _project_names(
    client: AsyncClient, ids: Collection[str], owner: UUID | None
) -> dict[tuple[str, str], str]:
    """Return names by id and owner: anybody may give a project of theirs another's id."""
    names: dict[tuple[str, str], str] = {}
    for group in _groups("id", ids):
        for row in await _select(client, "projects", "id,owner_id,name", group, owner):
            names[row["id"], row["owner_id"]] = row["name"]
    return names


async def _last_messages(
    client: AsyncClient, row: Conversation, count: int, unreadable: Unreadable
) -> list[Message]:
    """Return the last `count` messages, at most a page."""
    query = _messages_of(client, row, "*").order("seq", desc=True).order("id", desc=True)
    found = _rows("messages", (await query.limit(count).execute()).data)
    return _read(row, reversed(found), unreadable)


async def _pages_of_messages(
    client: AsyncClient, row: Conversation, count: int, unreadable: Unreadable
) -> AsyncIterator[list[Message]]:
    """Yield the last `count` messages in pages, oldest first; what comes meanwhile may be left."""
    query = _messages_of(client, row, "seq,id").order("seq", desc=True).order("id", desc=True)
    first = _rows("messages", (await query.range(count - 1, count - 1).execute()).data)
    after = f"gte.{first[0]['id']}" if first else ""
    seq = first[0]["seq"] if first else None
    while count > 0:
        query = _messages_of(client, row, "*").order("seq").order("id").limit(min(count, _PAGE))
        if seq is not None:
            query = query.gte("seq", seq).or_(f"seq.gt.{seq},id.{after}")
        found = _rows("messages", (await query.execute()).data)
        yield _read(row, found, unreadable)
        if len(found) < _PAGE:
            return
        count -= len(found)
        seq, after = found[-1]["seq"], f"gt.{found[-1]['id']}"


def _messages_of(client: AsyncClient, row: Conversation, columns: str) -> Any:
    query = _query(client, "messages", columns).eq("conversation_id", str(row.id))
    return query.eq("owner_id", str(row.owner_id)).is_("deleted_at", "null")


def _query(client: AsyncClient, table: str, columns: str) -> Any:
    # postgrest would ask again for seven seconds in silence, whatever Retry-After says.
    return client.table(table).select(columns).retry(False)


def _read(row: Conversation, found: Iterable[Any], unreadable: Unreadable) -> list[Message]:
    shown = {"conversation": ConversationSummary.of(row), "project_id": row.project_id}
    read = (unreadable.read(Message, item) for item in found)
    return [message.model_copy(update=shown) for message in read if message is not None]


async def _select(
    client: AsyncClient,
    table: str,
    columns: str,
    group: tuple[str, list[str]] | None,
    owner: UUID | None,
) -> list[dict[str, Any]]:
    """Return every matching row, read in pages by ascending id."""
    rows: list[dict[str, Any]] = []
    while True:
        query = _query(client, table, columns)
        if group is not None:
            query = query.in_(*group)
        if owner is not None:
            query = query.eq("owner_id", str(owner))
        if rows:
            query = query.gt("id", rows[-1]["id"])
        page = _rows(table, (await query.order("id").limit(_PAGE).execute()).data)
        rows += page
        if len(page) < _PAGE:
            return rows


def _rows(table: str, data: Any) -> list[dict[str, Any]]:
    """Return the rows of an answer.

    Raises:
        StoreError: it is none of PostgREST's, such as a captive portal's page.
    """
    if not isinstance(data, list):
        raise no_json(table)
    return data


def _groups(column: str, ids: Collection[UUID | str]) -> list[tuple[str, list[str]] | None]:
    ordered = sorted(map(str, ids))
    return [
        (column, ordered[start : start + _IDS_A_REQUEST])
        for start in range(0, len(ordered), _IDS_A_REQUEST)
    ]


@asynccontextmanager
async def _first_error() -> AsyncIterator[None]:
    """Raise what a task of a group has raised as itself: who maps errors looks at one."""
    try:
        yield
    except ExceptionGroup as group:
        raise group.exceptions[0] from group
