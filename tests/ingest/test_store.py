"""The Supabase store: on a real one, and with answers that only a fake server gives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import respx

from conv_realtime.edges.store import SupabaseStore, advised, connect
from conv_realtime.errors import ConfigError, MigrationError, StoreError
from conv_realtime.models import Conversation, Message, Project
from conv_realtime.settings import Settings
from tests.project import Owner, SupabaseProject

_AT = datetime(2026, 1, 2, tzinfo=UTC)
URL = "http://127.0.0.1:9"


@asynccontextmanager
async def _store(url: str, key: str) -> AsyncIterator[SupabaseStore]:
    settings = Settings(supabase_url=url, supabase_key=key, request_timeout=5)
    async with httpx.AsyncClient(timeout=settings.request_timeout) as http:
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


@pytest.mark.parametrize(
    ("answer", "code", "retryable"),
    [
        (httpx.Response(503, json={"code": "PGRST002", "message": "cache"}), "PGRST002", True),
        (httpx.Response(500, json={"code": "57014", "message": "timeout"}), "57014", True),
        (httpx.Response(500, json={"code": "21000", "message": "twice"}), "21000", False),
        (httpx.Response(500, json={"code": "54001", "message": "too deep"}), "54001", False),
        (httpx.Response(400, json={"code": "22P05", "message": "bad text"}), "22P05", False),
        (httpx.Response(401, json={"code": "PGRST301", "message": "JWT"}), "PGRST301", False),
        (httpx.Response(502, text="<html>bad gateway</html>"), "502", True),
        (httpx.Response(429, text=""), "429", True),
        (httpx.Response(403, text="<html>who are you</html>"), "403", False),
        (httpx.ConnectError("refused"), "ConnectError", True),
        (httpx.ReadTimeout("slow"), "ReadTimeout", True),
        (httpx.RemoteProtocolError("cut"), "RemoteProtocolError", True),
        (httpx.UnsupportedProtocol("what"), "UnsupportedProtocol", True),
    ],
)  # fmt: skip
async def test_every_failure_has_a_code_and_says_whether_it_passes(
    answer: httpx.Response | Exception, code: str, retryable: bool
) -> None:
    """What to do is decided by the code, because statuses mislead."""
    with respx.mock(assert_all_called=False) as web:
        effect = (
            {"side_effect": answer} if isinstance(answer, Exception) else {"return_value": answer}
        )
        web.route(host="127.0.0.1").mock(**effect)
        async with _store(URL, "key") as store:
            with pytest.raises(StoreError) as refused:
                await store.write("projects", [_rows(str(uuid4()))[0]])
    assert (refused.value.code, refused.value.retryable) == (code, retryable)
    assert refused.value.table == "projects"


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
