"""Erasing a conversation for good, under the rights of whoever asks.

The database does the work: `metadata` {"forgotten": true} blanks the row, its messages and its
subagents, and drops whatever is written of them later. Here it is only fed in pieces that fit
into a statement's time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from postgrest import CountMethod, ReturnMethod

from conv_realtime.core.ownership import is_subagent
from conv_realtime.edges.store.answers import mapped, stranger
from conv_realtime.edges.store.queries import chunks, rows
from conv_realtime.edges.store.supabase import HISTORY_HEADER
from conv_realtime.errors import StoreError
from conv_realtime.models import Table

if TYPE_CHECKING:
    from supabase import AsyncClient

_SESSION_LENGTH = 32  # shorter names of sessions are not the same everywhere
_DEADLOCK = "40P01"
_AT_ONCE = 500  # messages that are erased together with their conversation


@dataclass(frozen=True, slots=True)
class Family:
    """A conversation and all that is erased with it, itself first: what is below, and copies.

    `already` says that it is erased; `messages` counts its prompts and responses.
    """

    ids: Sequence[UUID]
    owner_id: UUID
    title: str | None
    messages: int
    already: bool


async def family(
    client: AsyncClient, conversation: UUID, owner: UUID | None = None
) -> Family | None:
    """Return what `forget` would erase, None where the caller sees no such conversation.

    `owner` is whose it is meant to be; a secret key sees those of all.

    Raises:
        StoreError: the database cannot be asked.
    """
    columns = (
        "id,owner_id,parent_id,source,session_id,agent_id,title,message_count,metadata,"
        "change_forgotten"
    )
    equal = {"id": str(conversation)} | ({"owner_id": str(owner)} if owner else {})
    own = [row async for row in rows(client, "conversations", columns, equal=equal)]
    if not own:
        return None
    first = own[0]
    found = {UUID(first["id"]): first}
    if len(first["session_id"]) >= _SESSION_LENGTH:  # its copies on other machines
        same = {name: first[name] for name in ("owner_id", "source", "session_id")}
        async for row in rows(client, "conversations", columns, equal=same):
            if row["agent_id"] == first["agent_id"]:
                found[UUID(row["id"])] = row
    new = set(found)
    while new:
        children: set[UUID] = set()
        for ids in chunks(new):
            async for row in rows(client, "conversations", columns, within=("parent_id", ids)):
                below = is_subagent(row["agent_id"], row["metadata"] or {})
                mine = below and row["owner_id"] == first["owner_id"]
                if mine and UUID(row["id"]) not in found:
                    found[UUID(row["id"])] = row
                    children.add(UUID(row["id"]))
        new = children
    return Family(
        ids=list(found),
        owner_id=UUID(first["owner_id"]),
        title=first["title"],
        messages=sum(row["message_count"] for row in found.values()),
        already=all(row["change_forgotten"] for row in found.values()),
    )


async def forget(client: AsyncClient, erased: Family) -> None:
    """Erase a conversation and all below it for good.

    Raises:
        StoreError: not all of it is erased; repeating is safe.
    """
    for id in erased.ids:
        await _forget_many_messages(client, id, erased.owner_id)
    mark = _update(client, "conversations").eq("id", str(erased.ids[0]))
    await _done("conversations", mark.eq("owner_id", str(erased.owner_id)))


async def _forget_many_messages(client: AsyncClient, conversation: UUID, owner: UUID) -> None:
    """Erase messages that are too many to go with their conversation in one statement."""
    of = {"conversation_id": str(conversation), "owner_id": str(owner)}
    found = rows(client, "messages", "id,metadata", equal=of)
    there = [UUID(row["id"]) async for row in found if not row["metadata"].get("forgotten")]
    if len(there) <= _AT_ONCE:
        return
    for ids in chunks(there):
        update = _update(client, "messages").in_("id", ids).eq("owner_id", str(owner))
        # What is told of each would be more than Realtime carries: `changed` alone.
        update.request.headers[HISTORY_HEADER] = "1"
        await _done("messages", update)


def _update(client: AsyncClient, table: Table) -> Any:
    return client.table(table).update(
        {"metadata": {"forgotten": True}},
        count=CountMethod.exact,
        returning=ReturnMethod.minimal,
    )


async def _done(table: Table, update: Any) -> None:
    for left in (2, 1, 0):
        try:
            with mapped(table):
                answer = await update.execute()
            break
        except StoreError as error:
            # A batch may lock what is below first, and wait for what is above.
            if not left or error.code != _DEADLOCK:
                raise
    if answer.count is None:
        raise stranger(table)
