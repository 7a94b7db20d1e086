"""Whatever answers the store is understood: refusals, pages of HTML, times to wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import UUID, uuid4

import httpx
import pytest
import respx

from conv_realtime.core.refusals import Refusal, judge
from conv_realtime.edges.store import SupabaseStore, advised, http_client, mapped
from conv_realtime.errors import ConfigError, StoreError
from conv_realtime.models import Row
from conv_realtime.settings import Settings
from conv_realtime.supabase_client import new_client
from tests.ingest.storing import AT, URL, rows_of_one, supabase_store

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
        async with supabase_store(URL, "key") as store:
            with pytest.raises(StoreError) as refused:
                await store.write("projects", [row or rows_of_one(str(uuid4()))[0]])
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
        ({"Retry-After": "²".encode("latin-1")}, None),
        ({"Retry-After": "Fri, 02 Jan 2026 03:04:25 +99999999999999999999"}, None),
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
    assert (error.code, error.retry_after) == ("429", seconds)


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
        async with supabase_store(URL, "key") as store:
            with pytest.raises(StoreError) as refused:
                await store.known([uuid4()])
    assert (refused.value.code, asked.call_count) == (code, 1)


async def test_a_row_that_is_no_json_is_the_rows_fault() -> None:
    """It never leaves the process, and must not be taken for an outage."""
    bad = "half \ud800 of a pair"
    row = rows_of_one(str(uuid4()))[0].model_copy(update={"metadata": {"x": bad}})
    error = await _refusal_of(httpx.Response(201, headers={"Content-Range": "*/1"}), row)
    assert judge(error.code) is Refusal.ROW
    assert str(bad) not in error.reason


async def test_a_reason_does_not_quote_what_a_row_says() -> None:
    """It is logged and shown; PostgreSQL's class 22 quotes the value."""
    message = 'invalid input syntax for type integer: "my secret"'
    error = await _refusal_of(httpx.Response(400, json={"code": "22P02", "message": message}))
    assert "secret" not in error.reason
    assert "integer" in error.reason


@respx.mock
@pytest.mark.parametrize("body", ["<html>Welcome to our network</html>", "[]", "{}", "null"])
async def test_a_login_page_acknowledges_nothing(body: str) -> None:
    """A captive network answers every request with 200: rows stay unsent, and none is missing."""
    respx.route().respond(200, text=body)
    project, *_ = rows_of_one(str(uuid4()))
    async with supabase_store(URL, "sb_secret_x") as store:
        for ask in (
            lambda: store.write("projects", [project]),
            lambda: store.mark_deleted([uuid4()], 1, AT),
            lambda: store.known([uuid4()]),
            store.database,
        ):
            with pytest.raises(StoreError, match="no Supabase project") as caught:
                await ask()
            assert caught.value.retryable


@respx.mock
@pytest.mark.parametrize("body", ['{"error": "sign in"}', f'{{"{UUID(int=1)}": "sign in"}}', "[]"])
async def test_a_login_page_says_nothing_of_what_the_database_has(body: str) -> None:
    """`verify` ended with a traceback."""
    respx.route().respond(200, text=body)
    async with supabase_store(URL, "sb_secret_x") as store:
        with pytest.raises(StoreError, match="no Supabase project") as caught:
            await store.digests([uuid4()])
    assert caught.value.retryable


@respx.mock
async def test_a_login_page_acknowledges_nothing_to_a_lent_client() -> None:
    """What was written is counted there, too, for all that its answers do not show."""
    respx.route().respond(200, text="[]")
    project, *_ = rows_of_one(str(uuid4()))
    settings = Settings(supabase_url=URL, supabase_key="sb_secret_x")
    async with httpx.AsyncClient() as http:
        store = SupabaseStore(await new_client(settings, http))
        for ask in (
            lambda: store.write("projects", [project]),
            lambda: store.mark_deleted([uuid4()], 1, AT),
            store.database,
        ):
            with pytest.raises(StoreError, match="no Supabase project"):
                await ask()


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


@asynccontextmanager
async def _answering(part: bytes, pause: float, parts: int) -> AsyncIterator[str]:
    """Give the address of a server that answers in parts, and waits for who leaves before."""
    gone = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(part) * parts))
        with suppress(ConnectionError):
            for _ in range(parts):
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause)
                if writer.is_closing():
                    break
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        gone.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        await gone.wait()


async def test_an_answer_that_does_not_end_is_asked_for_again() -> None:
    """A byte now and then kept the time to the next one from ever running out."""
    async with asyncio.timeout(20), _answering(b" ", 0.01, 1_000_000) as address:
        async with http_client(0.3) as http:
            with pytest.raises(StoreError, match="does not end") as caught, mapped("messages"):
                await http.get(address)
    assert caught.value.retryable


async def test_an_answer_over_a_slow_line_is_taken_whole() -> None:
    """What goes on coming comes in the end."""
    async with asyncio.timeout(20), _answering(bytes(16_384), 0.1, 10) as address:
        async with http_client(0.3) as http:
            assert len((await http.get(address)).content) == 163_840
