"""The Supabase store: on a real one, and with answers that only a fake server gives."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
import respx

from conv_realtime.core.refusals import Refusal, judge
from conv_realtime.edges.store import (
    SupabaseStore,
    advised,
    connect,
    family,
    forget,
    http_client,
)
from conv_realtime.errors import ConfigError, MigrationError, StoreError
from conv_realtime.models import Conversation, Message, Project, Row
from conv_realtime.settings import Settings
from conv_realtime.testing import SupabaseLocal
from tests.project import Owner, SupabaseProject

_AT = datetime(2026, 1, 2, tzinfo=UTC)
URL = "http://127.0.0.1:9"


@asynccontextmanager
async def _store(url: str, key: str) -> AsyncIterator[SupabaseStore]:
    settings = Settings(supabase_url=url, supabase_key=key, request_timeout=5)
    async with http_client(settings.request_timeout) as http:
        yield SupabaseStore(await connect(settings, http))


def _rows(owner: str, count: int = 2) -> tuple[Project, Conversation, list[Message]]:
    who = UUID(owner)
    project = Project(id=uuid4(), owner_id=who, machine="m", path="/p", name="p", updated_at=_AT)
    conversation = Conversation(
        id=uuid4(), owner_id=who, project_id=project.id, source="x", machine="m",
        session_id="s", revision=9, updated_at=_AT,
    )  # fmt: skip
    messages = [
        Message(
            id=uuid4(), owner_id=who, conversation_id=conversation.id, seq=n, revision=n + 1,
            role="user", text=f"é {n} 😀", content=[{"type": "text", "text": "x"}], created_at=_AT,
        )
        for n in range(count)
    ]  # fmt: skip
    return project, conversation, messages


async def _write_all(store: SupabaseStore, rows: Any) -> list[int]:
    project, conversation, messages = rows
    return [
        await store.write("projects", [project]),
        await store.write("conversations", [conversation]),
        await store.write("messages", messages),
    ]


async def test_rows_are_written_once_and_counted(supabase: SupabaseProject, member: Owner) -> None:
    """Writing the same rows again writes none, and says so."""
    rows = _rows(member.id)
    async with _store(supabase.url, supabase.secret_key) as store:
        assert await _write_all(store, rows) == [1, 1, 2]
        assert await _write_all(store, rows) == [0, 0, 0]


async def test_known_says_what_the_database_has(supabase: SupabaseProject, member: Owner) -> None:
    """Revisions by conversation and message, beyond one page, deleted ones apart."""
    project, conversation, messages = _rows(member.id, 1100)
    async with _store(supabase.url, supabase.secret_key) as store:
        await _write_all(store, (project, conversation, messages))
        assert await store.mark_deleted([messages[0].id, uuid4()], 2000, _AT) == 1
        assert await store.mark_deleted([messages[0].id], 2000, _AT) == 0
        known = await store.known([conversation.id, uuid4()])
    (found,) = known.values()
    assert found.revision == 9
    assert found.deleted == {messages[0].id: 2000}
    assert found.live == {row.id: row.revision for row in messages[1:]}
    assert found.highest == 2000


async def test_a_signed_in_user_writes_their_own_rows_only(
    supabase: SupabaseProject, member: Owner
) -> None:
    """With a user's token RLS lets own rows in and names the refusal of others."""
    async with _store(supabase.url, member.token) as store:
        assert await _write_all(store, _rows(member.id)) == [1, 1, 2]
        with pytest.raises(StoreError) as refused:
            await store.write("projects", [_rows(str(uuid4()))[0]])
    assert (refused.value.code, refused.value.retryable) == ("42501", False)


async def test_a_missing_parent_is_named(supabase: SupabaseProject, member: Owner) -> None:
    """A message without its conversation is refused in a way that can be told from others."""
    _, _, messages = _rows(member.id)
    async with _store(supabase.url, supabase.secret_key) as store:
        with pytest.raises(StoreError) as refused:
            await store.write("messages", messages)
    assert refused.value.code == "23503"


async def test_the_database_is_told_from_another(supabase: SupabaseProject) -> None:
    """Its name stays while it is the same database."""
    async with _store(supabase.url, supabase.secret_key) as store:
        assert await store.database() == await store.database() != ""


# Status and code as PostgREST 14 answers them, and what helps. 57014 passes, in smaller requests.
_ANSWERS = [
    # What passes: PostgreSQL is not there, or this transaction lost.
    (503, "57P01", Refusal.PASSES),
    (503, "57P03", Refusal.PASSES),
    (503, "53300", Refusal.PASSES),
    (503, "PGRST000", Refusal.PASSES),
    (503, "PGRST001", Refusal.PASSES),
    (503, "PGRST002", Refusal.PASSES),
    (504, "PGRST003", Refusal.PASSES),
    (500, "40001", Refusal.PASSES),
    (500, "40P01", Refusal.PASSES),
    (500, "55P03", Refusal.PASSES),
    (500, "53100", Refusal.PASSES),
    (503, "08006", Refusal.PASSES),
    (500, "26000", Refusal.PASSES),
    (500, "XX000", Refusal.PASSES),
    (500, "PGRSTX00", Refusal.PASSES),
    (500, "57014", Refusal.HEAVY),
    # What one row says, whatever the status.
    (500, "21000", Refusal.ROW),
    (500, "54001", Refusal.ROW),
    (500, "54000", Refusal.ROW),
    (400, "22P02", Refusal.ROW),
    (400, "22P05", Refusal.ROW),
    (400, "22003", Refusal.ROW),
    (400, "22008", Refusal.ROW),
    (400, "23502", Refusal.ROW),
    (400, "23514", Refusal.ROW),
    (409, "23505", Refusal.ROW),
    (409, "23503", Refusal.PARENT),
    (403, "42501", Refusal.PARENT),
    (401, "42501", Refusal.PARENT),
    # What a project's own triggers raise may be about a row, or about everybody.
    (400, "P0001", Refusal.UNCLEAR),
    (402, "PT402", Refusal.UNCLEAR),
    # What somebody has to put right, also where the code's class speaks of rows.
    (401, "22023", Refusal.HELP),
    (405, "25006", Refusal.HELP),
    (401, "PGRST301", Refusal.HELP),
    (401, "PGRST302", Refusal.HELP),
    (401, "PGRST303", Refusal.HELP),
    (400, "PGRST102", Refusal.HELP),
    (404, "PGRST202", Refusal.HELP),
    (400, "PGRST204", Refusal.HELP),
    (404, "PGRST205", Refusal.HELP),
    (400, "42P10", Refusal.HELP),
    (400, "428C9", Refusal.HELP),
    (404, "42P01", Refusal.HELP),
    (400, "42703", Refusal.HELP),
]


async def _refusal_of(answer: httpx.Response | Exception, row: Row | None = None) -> StoreError:
    with respx.mock(assert_all_called=False) as web:
        effect = (
            {"side_effect": answer} if isinstance(answer, Exception) else {"return_value": answer}
        )
        web.route(host="127.0.0.1").mock(**effect)
        async with _store(URL, "key") as store:
            with pytest.raises(StoreError) as refused:
                await store.write("projects", [row or _rows(str(uuid4()))[0]])
    assert refused.value.table == "projects"
    return refused.value


@pytest.mark.parametrize(("status", "code", "refusal"), _ANSWERS)
async def test_what_helps_is_decided_by_the_code(status: int, code: str, refusal: Refusal) -> None:
    """Every failure that PostgREST was seen to answer: statuses mislead."""
    body = {"code": code, "message": "why", "details": "quotes the row", "hint": None}
    error = await _refusal_of(httpx.Response(status, json=body))
    assert (error.code, judge(error.code)) == (code, refusal)
    assert error.retryable is (refusal is Refusal.PASSES or code == "57014")
    assert "quotes" not in str(error)


@pytest.mark.parametrize(
    ("answer", "code", "retryable", "refusal"),
    [
        (httpx.Response(502, text="<html>bad gateway</html>"), "502", True, Refusal.PASSES),
        (httpx.Response(522, text="<html>timed out</html>"), "522", True, Refusal.PASSES),
        (httpx.Response(544, text="gateway timeout"), "544", True, Refusal.PASSES),
        (httpx.Response(429, text=""), "429", True, Refusal.PASSES),
        (httpx.Response(503, json={"message": "name resolution failed"}), "503", True,
         Refusal.PASSES),
        (httpx.Response(413, text="too large"), "413", False, Refusal.HEAVY),
        (httpx.Response(403, text="<html>blocked</html>"), "403", False, Refusal.UNCLEAR),
        (httpx.Response(401, json={"message": "Invalid API key"}), "401", False, Refusal.HELP),
        (httpx.Response(402, json={"message": "quota exceeded"}), "402", False, Refusal.HELP),
        (httpx.Response(540, text="project paused"), "540", False, Refusal.HELP),
        (httpx.ConnectError("refused"), "ConnectError", True, Refusal.HELP),
        (httpx.ReadTimeout("slow"), "ReadTimeout", True, Refusal.HEAVY),
        (httpx.RemoteProtocolError("cut"), "RemoteProtocolError", True, Refusal.HELP),
        (httpx.UnsupportedProtocol("what"), "UnsupportedProtocol", True, Refusal.HELP),
    ],
)  # fmt: skip
async def test_what_stands_before_postgrest_has_a_code_as_well(
    answer: httpx.Response | Exception, code: str, retryable: bool, refusal: Refusal
) -> None:
    """Gateways answer without a code, then the status is one; networks with an exception."""
    error = await _refusal_of(answer)
    assert (error.code, error.retryable, judge(error.code)) == (code, retryable, refusal)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "99999"}, 900.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Fri, 02 Jan 2026 03:04:25 GMT", "Date": "Fri, 02 Jan 2026 03:04:05 GMT"},
         20.0),
        ({"Retry-After": "Fri, 02 Jan 2026 03:04:05 GMT"}, 0.0),
    ],
)  # fmt: skip
async def test_a_server_says_how_long_to_wait(
    headers: dict[str, str], seconds: float | None
) -> None:
    """supabase-py hides headers; a date counts from the server's own clock, within reason."""
    error = await _refusal_of(httpx.Response(429, headers=headers))
    assert error.retry_after == seconds


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (httpx.Response(503, headers={"Retry-After": "7"}), "503"),
        (httpx.ConnectError("refused"), "ConnectError"),
    ],
)
async def test_a_question_is_asked_once(answer: httpx.Response | Exception, code: str) -> None:
    """supabase-py asks again by itself, for seven seconds: an outage would be told that late."""
    with respx.mock() as web:
        asked = web.get(host="127.0.0.1")
        asked.side_effect = [answer]
        async with _store(URL, "key") as store:
            with pytest.raises(StoreError) as refused:
                await store.known([uuid4()])
    assert (refused.value.code, asked.call_count) == (code, 1)


async def test_a_row_that_is_no_json_is_the_rows_fault() -> None:
    """It never leaves the process, and must not be taken for an outage."""
    bad = "half \ud800 of a pair"
    row = _rows(str(uuid4()))[0].model_copy(update={"metadata": {"x": bad}})
    error = await _refusal_of(httpx.Response(201, headers={"Content-Range": "*/1"}), row)
    assert judge(error.code) is Refusal.ROW
    assert str(bad) not in error.reason


async def test_a_reason_does_not_quote_what_a_row_says() -> None:
    """It is logged and shown; PostgreSQL's class 22 quotes the value."""
    message = 'invalid input syntax for type integer: "my secret"'
    error = await _refusal_of(httpx.Response(400, json={"code": "22P02", "message": message}))
    assert "secret" not in error.reason
    assert "integer" in error.reason


@pytest.mark.parametrize("odd", ["é 😀 \u2028", 2**63, 2**70, -1.5e-7, {"deep": [None, True]}])
async def test_a_row_is_sent_as_it_is(odd: Any) -> None:
    """Also with numbers that are too large for who encodes most rows."""
    project, conversation, messages = _rows(str(uuid4()), 3)
    at = datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=UTC)
    changed = {"content": [{"type": "text", "x": odd}], "created_at": at, "metadata": {"x": odd}}
    rows: list[Row] = [project, conversation, *(m.model_copy(update=changed) for m in messages)]
    with respx.mock(base_url=URL) as server:
        route = server.post(path__regex="/rest/v1/.*").respond(
            201, headers={"content-range": "*/1"}
        )
        async with _store(URL, "key") as store:
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
        async with _store(URL, "key") as store:
            row = _rows(str(uuid4()))[0]
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
        async with _store(URL, "key") as store:
            with pytest.raises(MigrationError, match=says) as refused:
                await store.database()
    assert "conv-realtime migrations" in str(refused.value)


async def test_a_schema_of_a_later_version_is_written_to(supabase_local: SupabaseLocal) -> None:
    """With more files applied, and columns that this version does not know."""
    with psycopg.connect(supabase_local.db_url) as connection:
        connection.execute("insert into conv_realtime.versions values ('99990101000000')")
        connection.execute("alter table messages add column later text not null default 'x'")
    async with _store(supabase_local.url, supabase_local.secret_key) as store:
        stream = await store.database()
        assert await _write_all(store, _rows(supabase_local.owner_id)) == [1, 1, 2]
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
            await connect(Settings(**given), http)
    assert refused.value.name == name


@respx.mock
async def test_a_login_page_acknowledges_nothing() -> None:
    """A captive network answers every request with 200 and a page: rows stay unsent."""
    respx.route().respond(200, html="<html>Welcome to our network</html>")
    project, *_ = _rows(str(uuid4()))
    async with _store(URL, "sb_secret_x") as store:
        for ask in (
            lambda: store.write("projects", [project]),
            lambda: store.mark_deleted([uuid4()], 1, _AT),
            lambda: store.known([uuid4()]),
            store.database,
        ):
            with pytest.raises(StoreError, match="no Supabase project") as caught:
                await ask()
            assert caught.value.retryable


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("PGRST301", "SUPABASE_SECRET_KEY"),
        ("42501", "SUPABASE_SECRET_KEY"),
        ("404", "SUPABASE_URL"),
    ],
)
def test_a_first_refusal_names_the_setting_to_put_right(code: str, name: str) -> None:
    """Codes of PostgREST and HTTP tell a user nothing."""
    error = advised(StoreError("schema_version", code, "refused", retryable=False))
    assert isinstance(error, ConfigError)
    assert error.name == name


async def test_a_long_conversation_is_forgotten_in_pieces(
    supabase: SupabaseProject, member: Owner
) -> None:
    """Thousands of messages are more than one statement's time; nothing is left in the end."""
    project, conversation, messages = _rows(member.id, 1150)
    child = conversation.model_copy(
        update={"id": uuid4(), "parent_id": conversation.id, "agent_id": "a", "title": "below"}
    )
    settings = Settings(supabase_url=supabase.url, supabase_key=supabase.secret_key)
    async with http_client(30) as http:
        client = await connect(settings, http)
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


async def test_copies_of_a_session_are_forgotten_with_it(
    supabase: SupabaseProject, member: Owner
) -> None:
    """Under the name that another machine has for it; a short name is another session there."""
    settings = Settings(supabase_url=supabase.url, supabase_key=supabase.secret_key)
    async with http_client(30) as http:
        client = await connect(settings, http)
        store = SupabaseStore(client)
        for session, count in ((str(uuid4()), 2), ("main", 1)):
            project, conversation, _ = _rows(member.id)
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
