"""The store at a real Data API, and what a request of it says."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import weakref
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
import respx

from conv_realtime.edges.store import (
    SupabaseStore,
    family,
    forget,
    http_client,
)
from conv_realtime.errors import ConfigError, MigrationError, StoreError
from conv_realtime.models import Row
from conv_realtime.settings import Settings
from conv_realtime.supabase_client import new_client
from conv_realtime.testing import SupabaseLocal
from tests.ingest.storing import AT, URL, rows_of_one, supabase_store
from tests.project import Owner, SupabaseProject


async def _write_all(store: SupabaseStore, rows: Any) -> list[int]:
    project, conversation, messages = rows
    return [
        await store.write("projects", [project]),
        await store.write("conversations", [conversation]),
        await store.write("messages", messages),
    ]


async def test_rows_are_written_once_and_counted(supabase: SupabaseProject, member: Owner) -> None:
    """Writing the same rows again writes none, and says so."""
    rows = rows_of_one(member.id)
    async with supabase_store(supabase.url, supabase.secret_key) as store:
        assert await _write_all(store, rows) == [1, 1, 2]
        assert await _write_all(store, rows) == [0, 0, 0]


async def test_a_beginning_leaves_a_conversation_as_it_is(
    supabase: SupabaseProject, member: Owner
) -> None:
    """Also one that only began so far, and has another title: it counts where it is new."""
    project, row, _ = rows_of_one(member.id)
    first, again = (row.model_copy(update={"revision": 0, "title": title}) for title in "ab")
    async with supabase_store(supabase.url, member.token) as store:
        await store.write("projects", [project])
        wrote = [await store.write("conversations", [one]) for one in (first, again, row, again)]
    assert wrote == [1, 0, 1, 0]


async def test_known_says_what_the_database_has(supabase: SupabaseProject, member: Owner) -> None:
    """Revisions by conversation and message, beyond one page, deleted ones apart."""
    project, conversation, messages = rows_of_one(member.id, 1100)
    async with supabase_store(supabase.url, supabase.secret_key) as store:
        await _write_all(store, (project, conversation, messages))
        assert await store.mark_deleted([messages[0].id, uuid4()], 2000, AT) == 1
        assert await store.mark_deleted([messages[0].id], 2000, AT) == 0
        known = await store.known([conversation.id, uuid4()])
    (found,) = known.values()
    assert found.revision == 9
    assert found.deleted == {messages[0].id: 2000}
    assert found.live == {row.id: row.revision for row in messages[1:]}
    assert found.highest == 2000


async def test_nothing_of_a_request_stays_once_it_is_answered(
    supabase: SupabaseProject, member: Owner
) -> None:
    """What was sent, and the answer, go by themselves: the collector comes after hundreds."""
    asked: list[weakref.ref[Any]] = []

    async def note(response: httpx.Response) -> None:
        asked.extend([weakref.ref(response), weakref.ref(response.request)])

    settings = Settings(supabase_url=supabase.url, supabase_key=supabase.secret_key)
    gc.disable()
    try:
        async with http_client(30) as http:
            http.event_hooks["response"].append(note)
            store = SupabaseStore(await new_client(settings, http))
            await _write_all(store, rows_of_one(member.id))
            await store.known([uuid4()])
            assert len(asked) >= 8
            assert [of for of in asked if of() is not None] == []
    finally:
        gc.enable()


async def test_a_signed_in_user_writes_their_own_rows_only(
    supabase: SupabaseProject, member: Owner
) -> None:
    """With a user's token RLS lets own rows in and names the refusal of others."""
    async with supabase_store(supabase.url, member.token) as store:
        assert await _write_all(store, rows_of_one(member.id)) == [1, 1, 2]
        with pytest.raises(StoreError) as refused:
            await store.write("projects", [rows_of_one(str(uuid4()))[0]])
    assert (refused.value.code, refused.value.retryable) == ("42501", False)


async def test_a_missing_parent_is_named(supabase: SupabaseProject, member: Owner) -> None:
    """A message without its conversation is refused in a way that can be told from others."""
    _, _, messages = rows_of_one(member.id)
    async with supabase_store(supabase.url, supabase.secret_key) as store:
        with pytest.raises(StoreError) as refused:
            await store.write("messages", messages)
    assert refused.value.code == "23503"


async def test_the_database_is_told_from_another(supabase: SupabaseProject) -> None:
    """Its name stays while it is the same database."""
    async with supabase_store(supabase.url, supabase.secret_key) as store:
        assert await store.database() == await store.database() != ""


@pytest.mark.parametrize("odd", ["é 😀 \u2028", 2**63, 2**70, -1.5e-7, {"deep": [None, True]}])
async def test_a_row_is_sent_as_it_is(odd: Any) -> None:
    """Also with numbers that are too large for who encodes most rows."""
    project, conversation, messages = rows_of_one(str(uuid4()), 3)
    at = datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=UTC)
    changed = {"content": [{"type": "text", "x": odd}], "created_at": at, "metadata": {"x": odd}}
    rows: list[Row] = [project, conversation, *(m.model_copy(update=changed) for m in messages)]
    with respx.mock(base_url=URL) as server:
        route = server.post(path__regex="/rest/v1/.*").respond(
            201, headers={"content-range": "*/1"}
        )
        async with supabase_store(URL, "key") as store:
            for row in rows:
                assert await store.write(row.table, [row]) == 1
    for row, call in zip(rows, route.calls, strict=True):
        (sent,) = json.loads(call.request.content)
        assert sent.keys() == row.to_row().keys() == row.columns().keys()
        assert type(row).model_validate(sent).to_row() == row.to_row()


async def test_history_is_marked_in_the_request() -> None:
    """Triggers read the header and send no row by itself for history."""
    with respx.mock() as web:
        answer = {"Content-Range": "*/1"}
        route = web.post(f"{URL}/rest/v1/projects").respond(201, headers=answer)
        async with supabase_store(URL, "key") as store:
            row = rows_of_one(str(uuid4()))[0]
            await store.write("projects", [row], history=True)
            await store.write("projects", [row])
    headers = [call.request.headers.get("x-conv-realtime-history") for call in route.calls]
    assert headers == ["1", None]
    prefer = route.calls[0].request.headers["prefer"]
    assert {"return=minimal", "resolution=merge-duplicates"} <= set(prefer.split(","))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (httpx.Response(404, json={"code": "PGRST202", "message": "no function"}), "not in this"),
        (httpx.Response(200, json="20200101000000"), "too old"),
    ],
)
async def test_a_database_without_our_schema_is_told(answer: httpx.Response, says: str) -> None:
    """The error names the command that writes the migrations."""
    with respx.mock() as web:
        web.route(host="127.0.0.1").mock(return_value=answer)
        async with supabase_store(URL, "key") as store:
            with pytest.raises(MigrationError, match=says) as refused:
                await store.database()
    assert "conv-realtime migrations" in str(refused.value)


async def test_a_schema_of_a_later_version_is_written_to(supabase_local: SupabaseLocal) -> None:
    """With more files applied, and columns that this version does not know."""
    with psycopg.connect(supabase_local.db_url) as connection:
        connection.execute("insert into conv_realtime.versions values ('99990101000000')")
        connection.execute("alter table messages add column later text not null default 'x'")
    async with supabase_store(supabase_local.url, supabase_local.secret_key) as store:
        stream = await store.database()
        assert await _write_all(store, rows_of_one(supabase_local.owner_id)) == [1, 1, 2]
        assert await store.database() == stream


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "SUPABASE_URL"),
        ({"supabase_url": "http://x"}, "SUPABASE_SECRET_KEY"),
        ({"supabase_url": "not a url", "supabase_key": "k"}, "SUPABASE_URL"),
    ],
)
async def test_what_is_not_configured_is_named(
    given: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user learns which variable to set, and of the local Supabase."""
    for variable in (
        "SUPABASE_URL",
        "SUPABASE_SECRET_KEY",
        "SUPABASE_SERVICE_ROLE_KEY",
        "SUPABASE_KEY",
    ):
        monkeypatch.delenv(variable, raising=False)
    async with httpx.AsyncClient() as http:
        with pytest.raises(ConfigError) as refused:
            await new_client(Settings(**given), http)
    assert refused.value.name == name


async def test_a_long_conversation_is_forgotten_in_pieces(
    supabase: SupabaseProject, member: Owner
) -> None:
    """Thousands of messages are more than one statement's time; nothing is left in the end."""
    project, conversation, messages = rows_of_one(member.id, 1150)
    child = conversation.model_copy(
        update={"id": uuid4(), "parent_id": conversation.id, "agent_id": "a", "title": "below"}
    )
    settings = Settings(supabase_url=supabase.url, supabase_key=supabase.secret_key)
    async with http_client(30) as http:
        client = await new_client(settings, http)
        store = SupabaseStore(client)
        await _write_all(store, (project, conversation, messages))
        await store.write("conversations", [child])
        assert await family(client, conversation.id, uuid4()) is None
        found = await family(client, conversation.id, UUID(member.id))
        assert found is not None
        assert (list(found.ids), found.already) == ([conversation.id, child.id], False)
        await forget(client, found)
        again = await family(client, conversation.id)
        assert again is not None and again.already
        gone = await store.forgotten(UUID(member.id), conversation.machine)
        digests = await store.digests(found.ids)
        texts = [message.deleted async for message in store.stored_messages(conversation.id)]
    assert set(gone) == set(found.ids)
    assert (digests[conversation.id].messages, digests[conversation.id].deleted) == (0, 1150)
    assert texts == [True] * 1150


async def test_who_forgets_gives_way_to_who_writes(
    supabase: SupabaseProject, member: Owner
) -> None:
    """PostgreSQL ends one of two that wait for each other; who forgets begins again.

    A writer that has a subagent's row locked waits for that of the conversation above it.
    """
    project, conversation, messages = rows_of_one(member.id, 1)
    below = {"id": uuid4(), "parent_id": conversation.id, "agent_id": "a"}
    child = conversation.model_copy(update=below)
    lock = "select from public.conversations where id = %s for key share"
    waits = "select exists (select from pg_stat_activity"
    waits += " where pg_backend_pid() = any (pg_blocking_pids(pid)))"
    settings = Settings(supabase_url=supabase.url, supabase_key=supabase.secret_key)
    async with (
        http_client(30) as http,
        await psycopg.AsyncConnection.connect(supabase.db_url) as writer,
    ):
        client = await new_client(settings, http)
        store = SupabaseStore(client)
        await _write_all(store, (project, conversation, messages))
        await store.write("conversations", [child])
        found = await family(client, conversation.id, UUID(member.id))
        assert found is not None
        await writer.execute(lock, [child.id])
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(forget(client, found))
            while not await _first(writer, waits):  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.01)
            # Who has waited longer is ended; on a machine that is very busy, now and then, this.
            with contextlib.suppress(psycopg.errors.DeadlockDetected):
                await writer.execute(lock, [conversation.id])
            await writer.rollback()
        again = await family(client, conversation.id)
    assert again is not None and again.already


async def _first(connection: psycopg.AsyncConnection[Any], query: str) -> Any:
    row = await (await connection.execute(query)).fetchone()
    return row and row[0]


async def test_copies_of_a_session_are_forgotten_with_it(
    supabase: SupabaseProject, member: Owner
) -> None:
    """Under the name that another machine has for it; a short name is another session there."""
    settings = Settings(supabase_url=supabase.url, supabase_key=supabase.secret_key)
    async with http_client(30) as http:
        client = await new_client(settings, http)
        store = SupabaseStore(client)
        for session, count in ((str(uuid4()), 2), ("main", 1)):
            project, conversation, _ = rows_of_one(member.id)
            one = conversation.model_copy(update={"session_id": session})
            copy = one.model_copy(update={"id": uuid4(), "machine": "elsewhere"})
            await store.write("projects", [project])
            await store.write("conversations", sorted([one, copy], key=lambda row: row.id))
            found = await family(client, one.id, UUID(member.id))
            assert found is not None
            assert len(found.ids) == count
            await forget(client, found)
            assert (await family(client, one.id) or found).already
            assert (copy.id in await store.forgotten(copy.owner_id, "elsewhere")) is (count == 2)
