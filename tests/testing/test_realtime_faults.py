"""What Realtime's clients see of a faulty project."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import psycopg
import pytest
from websockets.exceptions import ConnectionClosedError, InvalidHandshake

from conv_realtime.testing import SupabaseLocal
from tests.local.realtime_client import Received, Socket, socket
from tests.relay.serving import eventually

READERS = """
create policy "signed in users hear rooms" on realtime.messages for select to authenticated
  using (realtime.topic() like 'room:%');
"""


@pytest.fixture
async def db(
    supabase_local: SupabaseLocal,
) -> AsyncIterator[psycopg.AsyncConnection[tuple[object, ...]]]:
    """A connection as `postgres`; every signed-in user may listen to rooms."""
    connection = await psycopg.AsyncConnection.connect(supabase_local.db_url, autocommit=True)
    async with connection:
        await connection.execute(READERS.encode())
        yield connection


async def say(supabase: SupabaseLocal, topic: str, *events: str) -> None:
    """Broadcasts on a public topic, by HTTP."""
    messages = [{"topic": topic, "event": event, "payload": {}} for event in events]
    async with httpx.AsyncClient(headers={"apikey": supabase.secret_key}) as client:
        url = f"{supabase.url}/realtime/v1/api/broadcast"
        assert (await client.post(url, json={"messages": messages})).status_code == 202


def heard(listener: Socket) -> list[str]:
    """The events of the broadcasts so far."""
    return [str(f.payload["event"]) for f in listener.received if f.event == "broadcast"]


def is_end(frame: Received) -> bool:
    """Whether it is the broadcast that ends a test's talk."""
    return frame.event == "broadcast" and frame.payload["event"] == "end"


async def test_every_nth_message_is_lost(supabase_local: SupabaseLocal) -> None:
    """On the topics that are meant, until the block ends."""
    async with socket(supabase_local) as listener:
        await listener.join("meant")
        await listener.join("other")
        with supabase_local.faults.lose_messages(every=3, topic="me*") as fault:
            await say(supabase_local, "meant", *"abcdef")
            await say(supabase_local, "other", *"ghi")
        await say(supabase_local, "meant", "end")
        await listener.wait(is_end)
        assert heard(listener) == [*"abde", *"ghi", "end"]
        assert fault.hits == 2


async def test_messages_come_twice(supabase_local: SupabaseLocal) -> None:
    """So many of them."""
    async with socket(supabase_local) as listener:
        await listener.join("room")
        supabase_local.faults.duplicate_messages(times=2)
        await say(supabase_local, "room", "a", "b", "c", "end")
        await listener.wait(is_end)
        assert heard(listener) == ["a", "a", "b", "b", "c", "end"]


async def test_messages_come_late_and_are_overtaken(supabase_local: SupabaseLocal) -> None:
    """Late ones keep their order; what is sent after the fault passes them by."""
    async with socket(supabase_local) as listener:
        await listener.join("room")
        with supabase_local.faults.delay_messages(0.3):
            await say(supabase_local, "room", "a", "b", "c")
        await listener.wait(lambda _: heard(listener) == ["a", "b", "c"])
        with supabase_local.faults.delay_messages(3600):
            await say(supabase_local, "room", "overtaken")
        await say(supabase_local, "room", "end")
        await listener.wait(is_end)
        assert heard(listener) == ["a", "b", "c", "end"]


async def test_losses_and_doubles_add_up(supabase_local: SupabaseLocal) -> None:
    """A message that is lost does not come twice."""
    async with socket(supabase_local) as listener:
        await listener.join("room")
        with supabase_local.faults.duplicate_messages():
            with supabase_local.faults.lose_messages(every=2):
                await say(supabase_local, "room", "a", "b", "c")
        await say(supabase_local, "room", "end")
        await listener.wait(is_end)
        assert heard(listener) == ["a", "a", "c", "c", "end"]


async def test_joins_are_refused(supabase_local: SupabaseLocal) -> None:
    """As a server says it; channels that are joined stay so; the next attempt succeeds."""
    async with socket(supabase_local) as listener:
        await listener.join("before")
        supabase_local.faults.refuse_joins(times=1, topic="room:*")
        _, reply = await listener.join("other")
        assert reply["status"] == "ok"
        _, reply = await listener.join("room:1")
        assert reply["response"]["reason"].startswith("Unauthorized: ")
        _, reply = await listener.join("room:1")
        assert reply["status"] == "ok"
        await say(supabase_local, "before", "end")
        await listener.wait(is_end)


async def test_channels_are_closed_with_an_error(supabase_local: SupabaseLocal) -> None:
    """Those on a topic; the socket and its other channels go on, and it may be joined again."""
    async with socket(supabase_local) as listener:
        await listener.join("room")
        await listener.join("other")
        assert supabase_local.faults.close_channels("room") == 1
        closed = await listener.wait(lambda frame: frame.event == "phx_close")
        assert closed.topic == "realtime:room"
        told = next(f for f in listener.received if f.event == "system")
        assert told.payload["status"] == "error"
        assert told.payload["message"] == "Too many messages per second"
        await say(supabase_local, "room", "missed")
        _, reply = await listener.join("room")
        assert reply["status"] == "ok"
        await say(supabase_local, "other", "end")
        await listener.wait(is_end)
        assert heard(listener) == ["end"]


async def test_sockets_break_without_a_word(supabase_local: SupabaseLocal) -> None:
    """Those on a topic, or all; others and new ones go on."""
    async with socket(supabase_local) as on_topic, socket(supabase_local) as elsewhere:
        await on_topic.join("room")
        await elsewhere.join("other")
        assert supabase_local.faults.drop_sockets("nobody's") == 0
        assert supabase_local.faults.drop_sockets("room") == 1
        with pytest.raises(ConnectionClosedError) as broken:
            while True:
                await on_topic.connection.ping()
                await asyncio.sleep(0.01)
        assert broken.value.rcvd is None
        await elsewhere.settle()
        assert supabase_local.faults.drop_sockets() == 1
        await elsewhere.connection.wait_closed()
    async with socket(supabase_local) as again:
        _, reply = await again.join("room")
        assert reply["status"] == "ok"


async def test_offline_is_all_of_it(supabase_local: SupabaseLocal) -> None:
    """Open sockets break, new ones and requests fail; afterwards all is well."""
    async with socket(supabase_local) as listener:
        with supabase_local.faults.offline():
            await listener.connection.wait_closed()
            with pytest.raises(httpx.TransportError):
                await say(supabase_local, "room", "end")
            with pytest.raises((OSError, EOFError, InvalidHandshake)):
                async with socket(supabase_local):
                    pass
    async with socket(supabase_local) as listener:
        await listener.join("room")
        await say(supabase_local, "room", "end")
        await listener.wait(is_end)


async def test_tokens_expire_at_once(
    supabase_local: SupabaseLocal, db: psycopg.AsyncConnection[tuple[object, ...]]
) -> None:
    """Their channels close and requests with them fail; keys and new tokens hold."""
    token = supabase_local.token()

    async def status(bearer: str) -> tuple[int, str | None]:
        headers = {"apikey": supabase_local.publishable_key, "Authorization": f"Bearer {bearer}"}
        async with httpx.AsyncClient(headers=headers) as client:
            answer = await client.get(f"{supabase_local.url}/rest/v1/messages")
        said = answer.json()
        return answer.status_code, said["code"] if isinstance(said, dict) else None

    async with socket(supabase_local) as listener:
        await listener.join("room:1", token=token, private=True)
        await listener.join("public")
        with supabase_local.faults.expire_tokens() as fault:
            told = await listener.event("realtime:room:1", "system")
            assert told.payload["message"].startswith("Token has expired ")
            await listener.event("realtime:room:1", "phx_close")
            assert await status(token) == (401, "PGRST303")
            _, reply = await listener.join("room:1", token=token, private=True)
            assert "Token has expired" in reply["response"]["reason"]
            fresh = supabase_local.token()
            assert await status(fresh) == (200, None)
            _, reply = await listener.join("room:1", token=fresh, private=True)
            assert reply["status"] == "ok"
            assert fault.hits >= 3
        assert await status(token) == (200, None)
        await say(supabase_local, "public", "end")
        await listener.wait(is_end)


async def test_tokens_of_ones_own_making_expire_once_they_were_shown(
    supabase_local: SupabaseLocal,
) -> None:
    """A backend that signs with the project's secret is not spared."""
    import jwt

    claims = {"role": "authenticated", "sub": supabase_local.owner_id, "exp": 2**33}
    token = jwt.encode(claims, supabase_local.jwt_secret, algorithm="HS256")
    headers = {"apikey": token}
    async with httpx.AsyncClient(headers=headers, base_url=supabase_local.url) as client:
        assert (await client.get("/rest/v1/messages")).status_code == 200
        supabase_local.faults.expire_tokens()
        assert (await client.get("/rest/v1/messages")).status_code == 401


@pytest.mark.parametrize("kill", [False, True])
async def test_after_a_restart_it_is_silent_until_somebody_joins(
    supabase_local: SupabaseLocal,
    db: psycopg.AsyncConnection[tuple[object, ...]],
    kill: bool,
) -> None:
    """The socket stays open and hears nothing of the database, as on the hosted server."""
    token = supabase_local.token()
    async with socket(supabase_local) as listener, socket(supabase_local) as newcomer:
        await listener.join("room:1", token=token, private=True)
        fault = supabase_local.faults.silence_after_restart()
        async with supabase_local.faults.postgres_down(kill=kill):
            pass
        assert fault.hits == 1
        for _ in range(10):
            await from_database(supabase_local, "lost")
            await asyncio.sleep(0.05)
        await listener.settle()
        assert database_events(listener) == []
        _, reply = await newcomer.join("room:2")
        assert reply["status"] == "ok"
        await from_database_until_heard(supabase_local, listener, "found")
        assert set(database_events(listener)) == {"found"}


async def test_by_itself_it_goes_on_after_a_restart(
    supabase_local: SupabaseLocal, db: psycopg.AsyncConnection[tuple[object, ...]]
) -> None:
    """The silence is a fault: without it broadcasts from the database come again."""
    async with socket(supabase_local) as listener:
        await listener.join("room:1", token=supabase_local.token(), private=True)
        await asyncio.to_thread(supabase_local.faults.restart_postgres, kill=True)
        await from_database_until_heard(supabase_local, listener, "found")


async def test_the_data_api_says_503_while_postgres_is_away(supabase_local: SupabaseLocal) -> None:
    """And 200 soon after, with the rows that were there."""
    headers = {"apikey": supabase_local.secret_key}
    with psycopg.connect(supabase_local.db_url) as connection:
        connection.execute("create table kept as select 1 as id")
    async with httpx.AsyncClient(headers=headers, base_url=supabase_local.url) as client:

        async def until(status: int) -> httpx.Response:
            async with asyncio.timeout(20):
                answer = await client.get("/rest/v1/kept")
                while answer.status_code != status:
                    await asyncio.sleep(0.01)
                    answer = await client.get("/rest/v1/kept")
            return answer

        await until(200)
        with supabase_local.faults.postgres_down(kill=True):
            assert (await until(503)).headers["retry-after"] == "0"
        assert (await until(200)).json() == [{"id": 1}]


async def from_database(supabase: SupabaseLocal, event: str) -> None:
    """Broadcasts to the private room from SQL, on a connection of its own."""
    async with await psycopg.AsyncConnection.connect(supabase.db_url) as connection:
        await connection.execute("select realtime.send('{}', %s, 'room:1', true)", (event,))


async def from_database_until_heard(supabase: SupabaseLocal, listener: Socket, event: str) -> None:
    """Broadcasts again and again: nobody knows when replication begins anew."""
    async with asyncio.timeout(20):
        while not database_events(listener):
            await from_database(supabase, event)
            await asyncio.sleep(0.05)


def database_events(listener: Socket) -> list[str]:
    """The events of broadcasts from the database so far: binary frames of protocol 2."""
    frames = [f.payload for f in listener.received if f.event == "binary"]
    return [data[5 + data[1] : 5 + data[1] + data[2]].decode() for data in frames]


def test_payloads_pass_unchanged(supabase_local: SupabaseLocal) -> None:
    """With faults in force that strike nothing, answers are what they were."""
    headers = {"apikey": supabase_local.secret_key}
    url = f"{supabase_local.url}/rest/v1/rpc/schema_version"
    plain = httpx.post(url, headers=headers, json={})
    supabase_local.faults.answer(503, path="/elsewhere")
    faulty = httpx.post(url, headers=headers, json={})
    assert json.loads(plain.content) == json.loads(faulty.content)
    assert set(plain.headers) == set(faulty.headers)


async def test_changes_of_tables_are_messages_too(
    supabase_local: SupabaseLocal, db: psycopg.AsyncConnection[tuple[object, ...]]
) -> None:
    """`postgres_changes` get lost, doubled and late as broadcasts do."""
    await db.execute("create table seen (id int primary key)")
    await db.execute("alter publication supabase_realtime add table seen")
    wanted = [{"event": "INSERT", "schema": "public", "table": "seen"}]

    def ids() -> list[int]:
        frames = [f.payload for f in listener.received if f.event == "postgres_changes"]
        return [payload["data"]["record"]["id"] for payload in frames]

    async with socket(supabase_local, key=supabase_local.secret_key) as listener:
        await listener.join("changes", postgres_changes=wanted)
        await listener.wait(
            lambda frame: frame.event == "system" and frame.payload["status"] == "ok"
        )
        with supabase_local.faults.lose_messages(every=2) as lost:
            await db.execute("insert into seen values (1), (2), (3)")
            await eventually(lambda: lost.hits and ids() == [1, 3], "the second was lost")
        with supabase_local.faults.duplicate_messages():
            await db.execute("insert into seen values (4)")
            await eventually(lambda: ids() == [1, 3, 4, 4], "the fourth came twice")
        with supabase_local.faults.delay_messages(0.3):
            await db.execute("insert into seen values (5)")
            await eventually(lambda: ids() == [1, 3, 4, 4, 5], "the fifth came late")
        with supabase_local.faults.delay_messages(3600) as late:
            await db.execute("insert into seen values (6)")
            await eventually(lambda: late.hits, "the sixth is on its way")
        await db.execute("insert into seen values (7)")
        await eventually(lambda: ids() == [1, 3, 4, 4, 5, 7], "the seventh overtook the sixth")
