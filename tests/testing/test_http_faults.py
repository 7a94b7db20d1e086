"""What HTTP clients of a faulty project see, and what was done all the same."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from itertools import permutations

import httpx
import psycopg
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, InvalidStatus

from conv_realtime.testing import Fault, Faults, SupabaseLocal
from tests.relay.serving import eventually

TODOS = "/rest/v1/todos"


@pytest.fixture
def supabase(supabase_local: SupabaseLocal) -> SupabaseLocal:
    """A project with a table."""
    with psycopg.connect(supabase_local.db_url) as connection:
        connection.execute("create table todos (id int primary key, text text)")
    return supabase_local


@pytest.fixture
def client(supabase: SupabaseLocal) -> Iterator[httpx.Client]:
    """A client of it that does not wait long."""
    headers = {"apikey": supabase.secret_key}
    with httpx.Client(base_url=supabase.url, headers=headers, timeout=30) as made:
        yield made


@pytest.fixture
async def async_client(supabase: SupabaseLocal) -> AsyncIterator[httpx.AsyncClient]:
    """The same for tests with a loop."""
    headers = {"apikey": supabase.secret_key}
    async with httpx.AsyncClient(base_url=supabase.url, headers=headers, timeout=30) as made:
        yield made


def websocket_url(supabase: SupabaseLocal) -> str:
    """Where Realtime is."""
    base = supabase.url.replace("http", "ws")
    return f"{base}/realtime/v1/websocket?apikey={supabase.publishable_key}&vsn=1.0.0"


def written(supabase: SupabaseLocal) -> list[int]:
    """What is in the table, whatever anybody was told."""
    with psycopg.connect(supabase.db_url) as connection:
        return [id for (id,) in connection.execute("select id from todos order by id")]


@pytest.mark.parametrize("status", [429, 503, 504])
def test_some_requests_are_answered_by_a_gateway(
    supabase: SupabaseLocal, client: httpx.Client, status: int
) -> None:
    """So many get the status and the advice to wait; nothing was done; the next one succeeds."""
    fault = supabase.faults.answer(status, times=2, retry_after=1.5)
    for number in (1, 2):
        answer = client.post(TODOS, json={"id": number})
        assert (answer.status_code, answer.headers["retry-after"]) == (status, "1.5")
        assert answer.json()["message"]
    assert client.post(TODOS, json={"id": 3}).status_code == 201
    assert (fault.hits, written(supabase)) == (2, [3])


def test_a_fault_strikes_what_it_is_meant_for(
    supabase: SupabaseLocal, client: httpx.Client
) -> None:
    """Path and method choose; other requests never notice; it ends with its block."""
    with supabase.faults.answer(503, path="/rest/v1/to*", method="post") as fault:
        assert client.post(TODOS, json={"id": 1}).status_code == 503
        assert client.get(TODOS).status_code == 200
        assert client.post("/rest/v1/messages", json={}).status_code != 503
    assert client.post(TODOS, json={"id": 1}).status_code == 201
    assert fault.hits == 1


def test_calls_are_undone_one_by_one_or_together(
    supabase: SupabaseLocal, client: httpx.Client
) -> None:
    """The newest answer counts; undoing twice does nothing."""
    older = supabase.faults.answer(503, body="older")
    newer = supabase.faults.answer(500, body={"code": "57014"}, headers={"X-Said": "so"})
    answer = client.get(TODOS)
    assert (answer.status_code, answer.json(), answer.headers["x-said"]) == (
        500,
        {"code": "57014"},
        "so",
    )
    newer.undo()
    newer.undo()
    assert client.get(TODOS).text == "older"
    supabase.faults.undo()
    assert client.get(TODOS).status_code == 200
    assert (older.hits, newer.hits) == (1, 1)


def test_a_captive_portal_says_200_and_html(supabase: SupabaseLocal, client: httpx.Client) -> None:
    """To every request, also to one that writes, with a large body."""
    with supabase.faults.captive_portal():
        answer = client.post(TODOS, json=[{"id": n, "text": "x" * 100} for n in range(5000)])
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert written(supabase) == []


def test_a_delay_is_of_the_answer(supabase: SupabaseLocal, client: httpx.Client) -> None:
    """The row is there while the client still waits, and gives up."""
    with supabase.faults.delay(30):
        with pytest.raises(httpx.ReadTimeout):
            client.post(TODOS, json={"id": 1}, timeout=0.3)
        assert written(supabase) == [1]
    with supabase.faults.delay(0.2, times=1):
        began = time.monotonic()
        assert client.get(TODOS).json() == [{"id": 1, "text": None}]
        assert time.monotonic() - began >= 0.2


async def test_what_is_held_back_goes_on_when_the_fault_ends(
    supabase: SupabaseLocal, async_client: httpx.AsyncClient
) -> None:
    """A delayed answer comes at once; a request that hung sees its connection break."""
    with supabase.faults.delay(60, times=1) as delay:
        late = asyncio.create_task(async_client.get(TODOS))
        await eventually(lambda: delay.hits, "the request is there")
        assert not late.done()
    assert (await late).status_code == 200
    hang = supabase.faults.hang(times=1)
    hung = asyncio.create_task(async_client.post(TODOS, json={"id": 1}))
    await eventually(lambda: hang.hits, "the request is there")
    assert (await async_client.get(TODOS)).json() == []
    assert not hung.done()
    hang.undo()
    with pytest.raises(httpx.TransportError):
        await hung
    assert written(supabase) == []


def test_a_hang_may_have_done_its_work(supabase: SupabaseLocal, client: httpx.Client) -> None:
    """The client runs into its time limit."""
    with supabase.faults.hang(done=True), pytest.raises(httpx.ReadTimeout):
        client.post(TODOS, json={"id": 1}, timeout=0.3)
    assert written(supabase) == [1]


@pytest.mark.parametrize(("done", "rows"), [(False, []), (True, [1])])
def test_an_acknowledgement_is_lost(
    supabase: SupabaseLocal, client: httpx.Client, done: bool, rows: list[int]
) -> None:
    """The connection breaks before or after the work: the client cannot know."""
    with supabase.faults.disconnect(method="POST", times=1, done=done):
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            client.post(TODOS, json={"id": 1})
        assert written(supabase) == rows
        assert client.get(TODOS).status_code == 200


def test_an_answer_is_cut_short(supabase: SupabaseLocal, client: httpx.Client) -> None:
    """The head promises more than comes; an answer without a body does not come at all."""
    client.post(TODOS, json=[{"id": n} for n in range(100)])
    with supabase.faults.cut(20, times=2):
        with client.stream("GET", TODOS) as answer:
            assert answer.status_code == 200
            assert int(answer.headers["content-length"]) > 1000
            with pytest.raises(httpx.RemoteProtocolError, match="received 20 bytes"):
                answer.read()
        with pytest.raises(httpx.RemoteProtocolError):
            client.patch(TODOS, params={"id": "eq.1"}, json={"text": "done"})
    assert client.get(TODOS, params={"text": "eq.done"}).json() == [{"id": 1, "text": "done"}]


def test_faults_add_up(
    supabase: SupabaseLocal, client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    """An invented answer is delayed and cut as a real one, in whatever order they were made."""
    faults = supabase.faults
    makers: list[Callable[[], Fault]] = [
        lambda: faults.cut(3),
        lambda: faults.answer(503),
        lambda: faults.delay(0.2),
    ]
    for order in permutations(makers):
        with ExitStack() as stack:
            for make in order:
                stack.enter_context(make())
            began = time.monotonic()
            with client.stream("GET", TODOS) as answer:
                assert answer.status_code == 503
                assert time.monotonic() - began >= 0.2
                with pytest.raises(httpx.RemoteProtocolError, match="received 3 bytes"):
                    answer.read()
    assert caplog.text == ""


@pytest.mark.parametrize("late", [lambda faults: faults.delay(0.01), lambda faults: faults.cut(3)])
def test_a_connection_breaks_under_other_faults(
    supabase: SupabaseLocal, client: httpx.Client, late: Callable[[Faults], Fault]
) -> None:
    """There is no answer that could be late or cut, and nothing else goes wrong."""
    with supabase.faults.disconnect(), late(supabase.faults):
        with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
            client.get(TODOS)
    with late(supabase.faults), supabase.faults.hang() as hang:
        with pytest.raises(httpx.ReadTimeout):
            client.get(TODOS, timeout=0.2)
        assert hang.hits == 1


async def test_handshakes_of_realtime_fail_on_demand(supabase: SupabaseLocal) -> None:
    """Refused, late, or broken; requests of other kinds do not use a fault of theirs up."""
    url = websocket_url(supabase)
    faults = supabase.faults
    with faults.answer(503):
        async with connect(url):
            pass
    with faults.answer(429, method="WEBSOCKET", times=1, retry_after=7):
        with pytest.raises(InvalidStatus) as refused:
            await connect(url)
        assert refused.value.response.status_code == 429
        assert refused.value.response.headers["Retry-After"] == "7"
        async with connect(url):
            pass
    with faults.disconnect(method="websocket"), pytest.raises((OSError, InvalidHandshake)):
        await connect(url)
    with faults.cut(method="*"), pytest.raises((OSError, InvalidHandshake)):
        await connect(url)
    with faults.hang(method="WEBSOCKET"), pytest.raises(TimeoutError):
        await connect(url, open_timeout=0.2)
    with faults.delay(0.1, method="WEBSOCKET"):
        async with connect(url):
            pass


def test_hanging_requests_do_not_hold_up_the_end(supabase: SupabaseLocal) -> None:
    """A test may end in the middle of everything: faults, requests, open connections."""
    supabase.faults.hang(times=1)
    headers = {"apikey": supabase.secret_key}
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"{supabase.url}{TODOS}", headers=headers, timeout=0.1)
