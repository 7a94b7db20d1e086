"""Supabase as a store: idempotent upserts through supabase-py, every foreign error mapped.

postgrest-py never repeats a POST, and its errors carry no status; PostgREST answers some
permanent errors with 500. So what to do with a failure is decided by its code alone, and
repeating is safe because every write is idempotent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from postgrest import APIResponse, CountMethod, ReturnMethod

from conv_realtime.core.digest import text_sha256
from conv_realtime.edges.store.answers import mapped, stranger
from conv_realtime.edges.store.encoding import encoded
from conv_realtime.edges.store.queries import call, chunks, rows
from conv_realtime.errors import MigrationError, StoreError
from conv_realtime.models import Row, Table, is_beginning
from conv_realtime.ports import Digest, KnownConversation, StoredMessage
from conv_realtime.sql import latest_version

if TYPE_CHECKING:
    from supabase import AsyncClient

HISTORY_HEADER = "x-conv-realtime-history"
MORE_HEADER = "x-conv-realtime-more"
_TEXTS = 200  # messages a page whose whole text is read


class SupabaseStore:
    """Writes rows to a Supabase project through a client that the caller lends.

    Args:
        client: an async client whose key may write: a secret key, or a signed-in user's.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    @property
    def destination(self) -> str:
        """The project's URL."""
        return str(self._client.supabase_url)

    async def database(self) -> str:
        """Return the stream that the database's cursors belong to.

        Raises:
            StoreError: it cannot be asked now.
            MigrationError: the schema is missing or older than this library.
        """
        advice = (
            "write the migrations with `conv-realtime migrations supabase/migrations`"
            " and apply them with `supabase db push`"
        )
        try:
            version = await call(self._client, "schema_version")
        except StoreError as error:
            if error.code in ("PGRST202", "42883"):
                raise MigrationError("schema", f"is not in this database; {advice}") from error
            raise
        if not str(version).isdigit():
            raise stranger("schema_version")
        if str(version) < latest_version():
            raise MigrationError("schema", f"is of {version}, too old; {advice}")
        page = await call(self._client, "changes_since")
        if not isinstance(page, dict) or "cursor" not in page:
            raise stranger("changes_since")
        return str(page["cursor"]).partition(".")[0]

    async def write(
        self, table: Table, rows: Sequence[Row], *, history: bool = False, more: bool = False
    ) -> int:
        """Upsert `rows` in one request, which is one transaction.

        Raises:
            StoreError: nothing was written; see `retryable`.
        """
        if not rows:
            return 0
        with mapped(table):
            columns: Any = [row.columns() for row in rows]
            query: Any = self._client.table(table).upsert(
                columns,
                on_conflict="id,owner_id",
                ignore_duplicates=all(map(is_beginning, rows)),
                returning=ReturnMethod.minimal,
                count=CountMethod.exact,
            )
            for header, wanted in ((HISTORY_HEADER, history), (MORE_HEADER, more)):
                if wanted:
                    query.request.headers[header] = "1"
            query.request = encoded(query.request, columns)
            return _counted(table, await query.execute())

    async def known(self, conversations: Collection[UUID]) -> Mapping[UUID, KnownConversation]:
        """Return the revisions that the database has, by conversation and message.

        Raises:
            StoreError: it cannot be asked now.
        """
        client = self._client
        found: dict[UUID, KnownConversation] = {}
        for ids in chunks(conversations):
            async for row in rows(client, "conversations", "id,revision", within=("id", ids)):
                found[UUID(row["id"])] = KnownConversation(row["revision"], {}, {})
        columns = "id,conversation_id,revision,deleted_at"
        for ids in chunks(found):
            async for row in rows(client, "messages", columns, within=("conversation_id", ids)):
                known = found[UUID(row["conversation_id"])]
                group: Any = known.live if row["deleted_at"] is None else known.deleted
                group[UUID(row["id"])] = row["revision"]
        return found

    async def mark_deleted(self, messages: Collection[UUID], revision: int, at: datetime) -> int:
        """Set `deleted_at` and `revision` of `messages`; return how many rows changed.

        Raises:
            StoreError: not all of them were written; repeating is safe.
        """
        changed = 0
        for ids in chunks(messages):
            with mapped("messages"):
                answer = await (
                    self._client.table("messages")
                    .update(
                        {"deleted_at": at.isoformat(), "revision": revision},
                        count=CountMethod.exact,
                        returning=ReturnMethod.minimal,
                    )
                    .in_("id", ids)
                    .execute()
                )
            changed += _counted("messages", answer)
        return changed

    async def forgotten(self, owner: UUID, machine: str) -> Collection[UUID]:
        """Return the conversations of a machine that were erased for good.

        Raises:
            StoreError: it cannot be asked now.
        """
        equal = {"change_forgotten": "true", "owner_id": str(owner), "machine": machine}
        found = rows(self._client, "conversations", "id", equal=equal)
        return [UUID(row["id"]) async for row in found]

    async def digests(self, conversations: Collection[UUID]) -> Mapping[UUID, Digest]:
        """Return what the database has of those of `conversations` that it has, in short.

        Raises:
            StoreError: it cannot be asked now.
        """
        found: dict[UUID, Digest] = {}
        for ids in chunks(conversations):
            answer = await call(self._client, "conversation_digests", {"ids": ids})
            names = [field.name for field in fields(Digest)]
            try:
                for id, says in answer.items():
                    found[UUID(id)] = Digest(**{name: says[name] for name in names})
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise stranger("conversation_digests") from error
        return found

    async def stored_messages(self, conversation: UUID) -> AsyncIterator[StoredMessage]:
        """Yield every message of a conversation, deleted ones too, in the order of their ids.

        Raises:
            StoreError: it cannot be asked now.
        """
        columns, of = "id,seq,revision,role,text,deleted_at", {"conversation_id": str(conversation)}
        found = rows(self._client, "messages", columns, _TEXTS, equal=of)
        async for row in found:
            yield StoredMessage(
                UUID(row["id"]), row["seq"], row["revision"], row["role"],
                text_sha256(row["text"]), row["deleted_at"] is not None,
            )  # fmt: skip


def _counted(what: str, answer: APIResponse) -> int:
    """Return how many rows were written. Only PostgREST says it: without a count, none was.

    The login page of a network and a proxy's apology come with status 200 as well.

    Raises:
        StoreError: the answer is not PostgREST's.
    """
    if answer.count is None:
        raise stranger(what)
    return int(answer.count)
