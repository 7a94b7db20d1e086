"""Supabase as a store: idempotent upserts through supabase-py, every foreign error mapped.

postgrest-py never repeats a POST, and its errors carry no status; PostgREST answers some
permanent errors with 500. So what to do with a failure is decided by its code alone, and
repeating is safe because every write is idempotent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
from postgrest import APIError, APIResponse, CountMethod, ReturnMethod

from conv_realtime.errors import ConfigError, ConvRealtimeError, MigrationError, StoreError
from conv_realtime.models import Row, Table
from conv_realtime.ports import KnownConversation
from conv_realtime.settings import Settings
from conv_realtime.sql import latest_version

if TYPE_CHECKING:
    from supabase import AsyncClient

HISTORY_HEADER = "x-conv-realtime-history"
MORE_HEADER = "x-conv-realtime-more"
_PAGE = 1000  # PostgREST cuts longer answers without a word
_IDS_A_REQUEST = 100  # ids travel in the URL, which httpx refuses above 64 KB

# SQLSTATE classes, PostgREST codes and HTTP statuses of trouble that passes by itself.
_PASSING_CLASSES = frozenset({"08", "40", "53", "55", "57", "58", "XX"})
_PASSING = frozenset(
    {
        "PGRST000", "PGRST001", "PGRST002", "PGRST003",
        "408", "425", "429", "500", "502", "503", "504", "520", "521", "522",
    }
)  # fmt: skip


_KEY_REFUSED = frozenset({"PGRST300", "PGRST301", "PGRST302", "PGRST303", "401", "403", "42501"})


def advised(error: StoreError) -> ConvRealtimeError:
    """Return what a user has to put right where a project refuses its first question."""
    if error.code in _KEY_REFUSED:
        return ConfigError(
            "SUPABASE_SECRET_KEY",
            f"is refused by the project ({error.reason}); take a secret key from its dashboard"
            " (Project Settings, API Keys), or the token of a signed-in user",
        )
    if error.code.isdigit() and len(error.code) == 3:
        return ConfigError(
            "SUPABASE_URL",
            f"leads to no Supabase project (HTTP {error.code}); its dashboard shows the URL"
            " (Project Settings, Data API)",
        )
    return error


def _passes(code: str) -> bool:
    return code in _PASSING or (len(code) == 5 and code[:2] in _PASSING_CLASSES)


@contextmanager
def mapped(what: str) -> Iterator[None]:
    """Turn what supabase-py and httpx raise into a `StoreError` about `what`."""
    try:
        yield
    except APIError as error:
        code = str(error.code or "unknown")
        # Only the first line: details and hints may quote the row.
        reason = (error.message or "no message").splitlines()[0][:200]
        raise StoreError(what, code, reason, retryable=_passes(code)) from error
    except (httpx.TransportError, httpx.TimeoutException, OSError) as error:
        reason = str(error) or "no answer"
        raise StoreError(what, type(error).__name__, reason, retryable=True) from error
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise StoreError(what, type(error).__name__, str(error)[:200], retryable=False) from error


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
            version = await self._call("schema_version")
        except StoreError as error:
            if error.code in ("PGRST202", "42883"):
                raise MigrationError("schema", f"is not in this database; {advice}") from error
            raise
        if not str(version).isdigit():
            raise _stranger("schema_version")
        if str(version) < latest_version():
            raise MigrationError("schema", f"is of {version}, too old; {advice}")
        page = await self._call("changes_since")
        if not isinstance(page, dict) or "cursor" not in page:
            raise _stranger("changes_since")
        return str(page["cursor"]).partition(".")[0]

    async def _call(self, function: str) -> Any:
        with mapped(function):
            return (await self._client.rpc(function, {}).execute()).data

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
            query = self._client.table(table).upsert(
                [row.to_row() for row in rows],
                on_conflict="id,owner_id",
                returning=ReturnMethod.minimal,
                count=CountMethod.exact,
            )
            for header, wanted in ((HISTORY_HEADER, history), (MORE_HEADER, more)):
                if wanted:
                    query.request.headers[header] = "1"
            return _counted(table, await query.execute())

    async def known(self, conversations: Collection[UUID]) -> Mapping[UUID, KnownConversation]:
        """Return the revisions that the database has, by conversation and message.

        Raises:
            StoreError: it cannot be asked now.
        """
        found: dict[UUID, KnownConversation] = {}
        for ids in _chunks(conversations):
            for row in await self._select("conversations", "id,revision", "id", ids):
                found[UUID(row["id"])] = KnownConversation(row["revision"], {}, {})
        columns = "id,conversation_id,revision,deleted_at"
        for ids in _chunks(found):
            for row in await self._select("messages", columns, "conversation_id", ids):
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
        for ids in _chunks(messages):
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

    async def _select(
        self, table: Table, columns: str, key: str, ids: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Return every matching row, read in pages by ascending id."""
        rows: list[dict[str, Any]] = []
        while True:
            query = self._client.table(table).select(columns).in_(key, ids)
            if rows:
                query = query.gt("id", rows[-1]["id"])
            with mapped(table):
                page: Any = (await query.order("id").limit(_PAGE).execute()).data
            if not isinstance(page, list):
                raise _stranger(table)
            rows.extend(page)
            if len(page) < _PAGE:
                return rows


def _counted(what: str, answer: APIResponse) -> int:
    """Return how many rows were written. Only PostgREST says it: without a count, none was.

    The login page of a network and a proxy's apology come with status 200 as well.

    Raises:
        StoreError: the answer is not PostgREST's.
    """
    if answer.count is None:
        raise _stranger(what)
    return int(answer.count)


def _stranger(what: str) -> StoreError:
    reason = "what answers is no Supabase project; see SUPABASE_URL and the network"
    return StoreError(what, "unknown", reason, retryable=True)


def _chunks(ids: Collection[UUID]) -> Iterator[list[str]]:
    ordered = sorted(str(id) for id in ids)
    for start in range(0, len(ordered), _IDS_A_REQUEST):
        yield ordered[start : start + _IDS_A_REQUEST]


async def connect(settings: Settings, http: httpx.AsyncClient) -> AsyncClient:
    """Return a Supabase client of our own over `http`, which the caller closes.

    HTTP/1.1 on purpose: over HTTP/2 an idle connection that the server has dropped fails the
    next request (supabase-py#1064).

    Raises:
        ConfigError: no project is configured; it says what to set.
    """
    from supabase import AsyncClientOptions, acreate_client

    if not settings.supabase_url:
        raise ConfigError(
            "SUPABASE_URL",
            "is not set; set it and a key, or run `conv-realtime local` for a local Supabase",
        )
    if settings.supabase_key is None:
        raise ConfigError(
            "SUPABASE_SECRET_KEY",
            "is not set; it is in the project's dashboard under API keys"
            " (or run `conv-realtime local`)",
        )
    options = AsyncClientOptions(httpx_client=http, auto_refresh_token=False, persist_session=False)
    try:
        return await acreate_client(
            settings.supabase_url, settings.supabase_key.get_secret_value(), options=options
        )
    except Exception as error:  # supabase-py raises several unrelated types for a bad URL or key
        raise ConfigError("SUPABASE_URL", str(error) or "no client can be made") from error
