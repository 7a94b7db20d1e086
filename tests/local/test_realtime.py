"""The Realtime server as a bare client sees it, frame by frame, in both versions."""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psycopg
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from conv_realtime.local import LocalSupabase
from conv_realtime.local.keys import mint
from conv_realtime.local.realtime.frames import Version
from tests.conftest import Owner
from tests.local.realtime_client import PATIENCE, Received, Socket, socket, with_policies

BOTH = pytest.mark.parametrize("version", list(Version))

POLICIES = """
create policy "rt test members read" on realtime.messages for select to authenticated
  using (realtime.topic() like 'rt-room:' || auth.uid()::text || '%' and extension = 'broadcast');
create policy "rt test members write" on realtime.messages for insert to authenticated
  with check (realtime.topic() like 'rt-room:' || auth.uid()::text || '%');
create policy "rt test all read" on realtime.messages for select to authenticated
  using (realtime.topic() like 'rt-readonly:%');
"""


@pytest.fixture
async def db(local_supabase: LocalSupabase) -> AsyncIterator[psycopg.AsyncConnection[object]]:
    """A connection as `postgres`, with the policies of these tests in place."""
    async with with_policies(local_supabase, POLICIES) as connection:
        yield connection


def room(owner: Owner) -> str:
    """A private topic that only this owner may read and write."""
    return f"rt-room:{owner.id}"


def fresh() -> str:
    """A public topic of this test alone."""
    return f"rt-public:{uuid.uuid4()}"


async def from_database(
    db: psycopg.AsyncConnection[object], name: str, event: str, *, private: bool
) -> None:
    """Broadcasts a small payload from SQL."""
    await db.execute("select realtime.send('{\"n\": 1.50}', %s, %s, %s)", (event, name, private))


def user_event(frame: Received) -> str | None:
    """The event name of a broadcast in any of its forms, else None."""
    if frame.event == "binary":
        topic, event = frame.payload[1], frame.payload[2]
        name: bytes = frame.payload[5 + topic : 5 + topic + event]
        return name.decode()
    if frame.event == "broadcast":
        return str(frame.payload.get("event"))
    return None


async def heard(listener: Socket, event: str) -> Received:
    """Waits until a socket has a broadcast of this name."""
    return await listener.wait(lambda frame: user_event(frame) == event)


@BOTH
async def test_a_broadcast_reaches_the_others_and_the_sender_only_on_request(
    local_supabase: LocalSupabase, version: Version
) -> None:
    """`self` and `ack` are the sender's own choice."""
    name = fresh()
    async with socket(local_supabase, version) as a, socket(local_supabase, version) as b:
        join_a, _ = await a.join(name)
        join_b, _ = await b.join(name, broadcast={"ack": True, "self": True})
        body = {"type": "broadcast", "event": "quiet", "payload": {"s": "é"}}
        await a.send(f"realtime:{name}", "broadcast", body, join_ref=join_a)
        assert (await heard(b, "quiet")).payload == body
        loud = body | {"event": "loud"}
        ref = await b.send(f"realtime:{name}", "broadcast", loud, join_ref=join_b)
        assert await b.reply(ref) == {"status": "ok", "response": {}}
        assert (await heard(a, "loud")).payload == loud
        assert (await heard(b, "loud")).ref is None
        await a.settle()
        assert [user_event(frame) for frame in a.received if user_event(frame)] == ["loud"]
        assert [frame.event for frame in a.received].count("phx_reply") == 2  # join, heartbeat


@BOTH
async def test_an_owner_hears_the_database_on_a_private_channel(
    local_supabase: LocalSupabase,
    owner: Owner,
    db: psycopg.AsyncConnection[object],
    version: Version,
) -> None:
    """`realtime.send` arrives in the form of the version, with meta and the exact number."""
    async with socket(local_supabase, version) as member:
        _, reply = await member.join(room(owner), token=owner.token, private=True)
        assert reply == {"status": "ok", "response": {"postgres_changes": []}}
        await from_database(db, room(owner), "said", private=True)
        frame = await heard(member, "said")
    if version is Version.V2:
        sizes = frame.payload[1:4]
        head, end = 5 + sizes[0] + sizes[1], 5 + sum(sizes)
        meta, payload = json.loads(frame.payload[head:end]), frame.payload[end:]
    else:
        assert frame.payload["type"] == "broadcast"
        meta, payload = frame.payload["meta"], json.dumps(frame.payload["payload"]).encode()
    assert json.loads(payload) == {"id": meta["id"], "n": 1.5}


@BOTH
async def test_another_user_is_refused_by_the_policies(
    local_supabase: LocalSupabase,
    owner: Owner,
    db: psycopg.AsyncConnection[object],
    version: Version,
) -> None:
    """The words of a real server, for a stranger, for anon, and for a role that is not there."""
    secret = local_supabase.jwt_secret
    tokens = [local_supabase.token(sub=uuid.uuid4()), None, mint(secret, "nobody_here", 60)]
    async with socket(local_supabase, version) as stranger:
        for token in tokens:
            _, reply = await stranger.join(room(owner), token=token, private=True)
            assert reply == {
                "status": "error",
                "response": {
                    "reason": "Unauthorized: You do not have permissions to read from this "
                    f"Channel topic: {room(owner)}"
                },
            }


async def test_the_secret_key_joins_any_private_channel(
    local_supabase: LocalSupabase, owner: Owner, db: psycopg.AsyncConnection[object]
) -> None:
    """service_role bypasses row level security."""
    async with socket(local_supabase, key=local_supabase.secret_key) as server:
        _, reply = await server.join(room(owner), private=True)
        assert reply["status"] == "ok"


async def test_public_and_private_channels_of_one_name_do_not_hear_each_other(
    local_supabase: LocalSupabase, owner: Owner, db: psycopg.AsyncConnection[object]
) -> None:
    """The flag of a row must match the kind of the channel."""
    name = room(owner)
    async with socket(local_supabase) as public, socket(local_supabase) as private:
        await public.join(name)
        await private.join(name, token=owner.token, private=True)
        await from_database(db, name, "to-public", private=False)
        await from_database(db, name, "to-private", private=True)
        await from_database(db, name, "end", private=False)
        await from_database(db, name, "end", private=True)
        await heard(public, "end")
        await heard(private, "end")
        assert "to-private" not in [user_event(frame) for frame in public.received]
        assert "to-public" not in [user_event(frame) for frame in private.received]


async def test_who_may_not_write_is_dropped_without_a_word(
    local_supabase: LocalSupabase, owner: Owner, db: psycopg.AsyncConnection[object]
) -> None:
    """Not even an acknowledgement that was asked for."""
    name = f"rt-readonly:{uuid.uuid4()}"
    async with socket(local_supabase) as reader, socket(local_supabase) as other:
        await other.join(name, token=owner.token, private=True)
        join_ref, reply = await reader.join(
            name, token=owner.token, private=True, broadcast={"ack": True}
        )
        assert reply["status"] == "ok"
        ref = await reader.send(
            f"realtime:{name}", "broadcast", {"event": "x", "payload": {}}, join_ref=join_ref
        )
        await reader.settle()
        await from_database(db, name, "end", private=True)
        await heard(other, "end")
        assert not [frame for frame in reader.received if frame.ref == ref]
        assert [e for e in map(user_event, other.received) if e] == ["end"]


async def test_a_token_of_another_user_closes_the_channel_and_not_the_socket(
    local_supabase: LocalSupabase, owner: Owner, db: psycopg.AsyncConnection[object]
) -> None:
    """access_token is judged by the policies again; a good one gets no answer."""
    topic = f"realtime:{room(owner)}"
    async with socket(local_supabase) as member:
        join_ref, _ = await member.join(room(owner), token=owner.token, private=True)
        fresh_token = local_supabase.token(sub=owner.id, expires_in=7200)
        await member.send(topic, "access_token", {"access_token": fresh_token}, join_ref=join_ref)
        await member.settle()
        assert [f.event for f in member.received if f.topic == topic] == ["phx_reply"]
        stranger = local_supabase.token(sub=uuid.uuid4())
        await member.send(topic, "access_token", {"access_token": stranger}, join_ref=join_ref)
        closed = await member.event(topic, "phx_close")
        assert (closed.ref, closed.join_ref, closed.payload) == (join_ref, join_ref, {})
        system = await member.event(topic, "system")
        assert system.payload == {
            "message": "You do not have permissions to read from this Channel topic: "
            + room(owner),
            "status": "error",
            "extension": "system",
            "channel": room(owner),
        }
        assert member.received.index(system) < member.received.index(closed)
        await member.settle()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda secret: "garbage", "The token provided is not a valid JWT"),
        (lambda secret: mint("x" * 40, "anon", 60), ":signature_error"),
        (lambda secret: mint(secret, "anon", -60), r"Token has expired 6\d seconds ago"),
    ],
)
async def test_a_bad_new_token_closes_the_channel(
    local_supabase: LocalSupabase, make: object, message: str
) -> None:
    """Malformed, forged and expired, in the words of a real server."""
    name = fresh()
    assert callable(make)
    async with socket(local_supabase) as member:
        join_ref, _ = await member.join(name)
        token = make(local_supabase.jwt_secret)
        await member.send(
            f"realtime:{name}", "access_token", {"access_token": token}, join_ref=join_ref
        )
        system = await member.event(f"realtime:{name}", "system")
        assert re.fullmatch(message, system.payload["message"])
        await member.event(f"realtime:{name}", "phx_close")


async def test_a_channel_ends_when_its_token_expires_and_the_socket_stays(
    local_supabase: LocalSupabase,
) -> None:
    """Expiry in mid-session: system error, phx_close, and other channels live on."""
    name = fresh()
    async with socket(local_supabase) as member:
        await member.join("kept-" + name)
        token = local_supabase.token(expires_in=2)
        join_ref, reply = await member.join(name, token=token)
        assert reply["status"] == "ok"
        system = await member.event(f"realtime:{name}", "system")
        assert re.fullmatch(r"Token has expired \d seconds ago", system.payload["message"])
        closed = await member.event(f"realtime:{name}", "phx_close")
        assert closed.ref == join_ref
        ref = await member.send(f"realtime:kept-{name}", "phx_leave", {})
        assert (await member.reply(ref))["status"] == "ok"


async def test_joining_twice_answers_the_new_join_and_then_closes_the_old(
    local_supabase: LocalSupabase,
) -> None:
    """The close names the old ref; a frame with the stale join_ref is ignored."""
    name = fresh()
    async with socket(local_supabase) as member:
        first, _ = await member.join(name, broadcast={"ack": True})
        second, _ = await member.join(name, broadcast={"ack": True})
        closed = await member.event(f"realtime:{name}", "phx_close")
        assert (closed.ref, closed.join_ref) == (first, first)
        events = [(frame.event, frame.ref) for frame in member.received]
        assert events.index(("phx_reply", second)) < events.index(("phx_close", first))
        body = {"type": "broadcast", "event": "x", "payload": {}}
        stale = await member.send(f"realtime:{name}", "broadcast", body, join_ref=first)
        live = await member.send(f"realtime:{name}", "broadcast", body, join_ref=second)
        await member.reply(live)
        assert not [frame for frame in member.received if frame.ref == stale]


async def test_leaving_is_answered_and_then_closed(local_supabase: LocalSupabase) -> None:
    """The reply has the leave's ref, the close the join's; then the topic is unmatched."""
    name = fresh()
    topic = f"realtime:{name}"
    async with socket(local_supabase) as member:
        join_ref, _ = await member.join(name)
        leave = await member.send(topic, "phx_leave", {}, join_ref=join_ref)
        closed = await member.event(topic, "phx_close")
        assert [f.ref for f in member.received if f.topic == topic] == [join_ref, leave, join_ref]
        assert closed.payload == {}
        again = await member.send(topic, "broadcast", {})
        assert await member.reply(again) == {
            "status": "error",
            "response": {"reason": "unmatched topic"},
        }


@pytest.mark.parametrize(
    ("topic", "event", "status"),
    [
        ("phoenix", "heartbeat", "ok"),
        ("phoenix", "other", "unmatched topic"),
        ("foo:bar", "phx_join", "unmatched topic"),
        ("realtime:never", "broadcast", "unmatched topic"),
        ("realtime:never", "phx_leave", "ok"),
        ("realtime:", "phx_join", "TopicNameRequired: You must provide a topic name"),
    ],
)
async def test_topics_that_nobody_joined_are_answered(
    local_supabase: LocalSupabase, topic: str, event: str, status: str
) -> None:
    """As captured from a real server."""
    async with socket(local_supabase) as client:
        reply = await client.reply(await client.send(topic, event, {"config": {}}))
        assert status == (reply["response"] or {"reason": reply["status"]})["reason"]


@pytest.mark.parametrize("garbage", ["hello", '{"a":1}', "", b"\x09abc", '["1","2","3"]'])
async def test_malformed_frames_are_ignored(
    local_supabase: LocalSupabase, garbage: str | bytes
) -> None:
    """Neither an answer nor a close follows."""
    async with socket(local_supabase) as client:
        await client.connection.send(garbage)
        await client.settle()
        assert len(client.received) == 1


async def test_json_too_deep_to_be_written_is_ignored_and_over_http_refused(
    local_supabase: LocalSupabase,
) -> None:
    """Readers of JSON go deeper than writers: the socket lives on."""
    name, deep = fresh(), "[" * 300 + "]" * 300
    topic = f"realtime:{name}"
    async with socket(local_supabase) as client, Api(local_supabase) as api:
        await client.join(name, broadcast={"self": True})
        await client.connection.send(f'[null,"8","{topic}","broadcast",{{"payload":{deep}}}]')
        await client.connection.send(f'["9","9","{topic}","phx_join",{deep}]')
        await client.settle()
        assert [frame.ref for frame in client.received] == ["1", "2"]
        for path, body in (
            (f"/{uuid.uuid4()}/events/e", json.loads(deep)),
            ("", {"messages": [{"topic": "t", "event": "e", "payload": {"d": json.loads(deep)}}]}),
        ):
            response = await api.post(path, body, local_supabase.publishable_key)
            assert response.status_code == 422


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("str", 'UnknownErrorOnChannel: expected params to be a :map, got: `"str"`'),
        (
            {"config": {}, "access_token": "garbage"},
            "MalformedJWT: The token provided is not a valid JWT",
        ),
        (
            {"config": {}, "access_token": ""},
            "MalformedJWT: The token provided is not a valid JWT",
        ),
        (
            {"config": {"broadcast": {"replay": {"since": 0}}}},
            "UnableToReplayMessages: Replay is not allowed for public channels",
        ),
        (
            {"config": {"private": True, "broadcast": {"replay": {"since": "yesterday"}}}},
            "UnableToReplayMessages: Replay params are not valid",
        ),
    ],
)
async def test_a_bad_join_is_refused_by_code(
    local_supabase: LocalSupabase, payload: object, reason: str
) -> None:
    """The reasons of a real server."""
    async with socket(local_supabase) as client:
        ref = await client.send(f"realtime:{fresh()}", "phx_join", payload)
        assert await client.reply(ref) == {"status": "error", "response": {"reason": reason}}


@pytest.mark.parametrize(
    "config",
    [
        {"broadcast": None, "presence": {"key": "", "enabled": False}, "postgres_changes": []},
        {"private": 1},
        {"postgres_changes": {}},
        {},
    ],
)
async def test_odd_joins_that_real_servers_accept_are_accepted(
    local_supabase: LocalSupabase, config: dict[str, Any]
) -> None:
    """A null broadcast is what supabase-py sends; `"private": 1` joins as public."""
    async with socket(local_supabase) as client:
        _, reply = await client.join(fresh(), **config)
        assert reply == {"status": "ok", "response": {"postgres_changes": []}}


async def test_an_api_key_of_the_new_kind_falls_back_to_the_connections(
    local_supabase: LocalSupabase,
) -> None:
    """`sb_` keys are no JWTs."""
    async with socket(local_supabase) as client:
        _, reply = await client.join(fresh(), token="sb_publishable_xyz")
        assert reply["status"] == "ok"


async def test_the_channel_after_the_hundredth_is_refused(local_supabase: LocalSupabase) -> None:
    """As many channels as hosted projects have on one socket."""
    async with socket(local_supabase) as client:
        refs = [
            await client.send(f"realtime:many{n}", "phx_join", {"config": {}}) for n in range(101)
        ]
        replies = [await client.reply(ref) for ref in refs]
    assert [reply["status"] for reply in replies] == ["ok"] * 100 + ["error"]
    assert replies[-1]["response"] == {"reason": "ChannelRateLimitReached: Too many channels"}


@pytest.mark.parametrize(
    ("query", "status", "error"),
    [
        ("vsn=2.0.0", 401, "API key is missing"),
        ("vsn=2.0.0&apikey=garbage", 401, "The token provided is not a valid JWT"),
        ("vsn=3.0.0&apikey={key}", 403, None),
        ("vsn=1.0.0&apikey={forged}", 401, "Failed to validate JWT signature"),
        ("vsn=1.0.0&apikey={expired}", 401, "Token has expired"),
    ],
)
async def test_a_connection_is_refused_before_the_upgrade(
    local_supabase: LocalSupabase, query: str, status: int, error: str | None
) -> None:
    """HTTP status and JSON body of a real server."""
    secret = local_supabase.jwt_secret
    query = query.format(
        key=local_supabase.publishable_key,
        forged=mint("x" * 40, "anon", 60),
        expired=mint(secret, "anon", -60),
    )
    url = local_supabase.url.replace("http", "ws")
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"{url}/realtime/v1/websocket?{query}")
    response = refused.value.response
    assert response.status_code == status
    assert (json.loads(response.body) if response.body else {}).get("error") == error


async def test_http_broadcasts_reach_the_channel_and_need_the_right_to_write(
    local_supabase: LocalSupabase, owner: Owner, db: psycopg.AsyncConnection[object]
) -> None:
    """The batch drops what is not allowed and answers 202, the single form answers 403."""
    name = room(owner)
    stranger = local_supabase.token(sub=uuid.uuid4())
    single = f"/{name.replace(':', '%3A')}%2Fsub/events/one%20two?private=true"
    async with Api(local_supabase) as api, socket(local_supabase, Version.V1) as member:
        await member.join(name, token=owner.token, private=True)
        await member.join(name + "/sub", token=owner.token, private=True)
        for token, event in ((stranger, "forged"), (owner.token, "batch")):
            message = {"topic": name, "event": event, "payload": {"p": 1}, "private": True}
            response = await api.post("", {"messages": [message]}, token)
            assert (response.status_code, response.content) == (202, b"")
        assert (await heard(member, "batch")).payload["payload"] == {"p": 1}
        assert (await api.post(single, {"q": 1}, stranger)).status_code == 403
        assert (await api.post(single, {"q": 2}, owner.token)).status_code == 202
        frame = await heard(member, "one two")
        assert (frame.topic, frame.payload["payload"]) == (f"realtime:{name}/sub", {"q": 2})
        assert [e for e in map(user_event, member.received) if e] == ["batch", "one two"]


@pytest.mark.parametrize(
    "body",
    [{}, {"messages": 1}, {"messages": [{"topic": "t", "event": "e"}]},
     {"messages": [{"topic": "t", "event": "e", "payload": [1]}]},
     {"messages": [{"topic": "t", "event": "e", "payload": {}, "private": "maybe"}]}],
)  # fmt: skip
async def test_a_malformed_batch_is_422(local_supabase: LocalSupabase, body: object) -> None:
    """All of it, with the faults named."""
    async with Api(local_supabase) as api:
        response = await api.post("", body, local_supabase.publishable_key)
        assert response.status_code == 422
        assert response.json()["errors"]


async def test_an_http_broadcast_without_a_good_token_is_401(
    local_supabase: LocalSupabase,
) -> None:
    """Both forms."""
    async with Api(local_supabase) as api:
        for path in ("", "/t/events/e"):
            response = await api.post(path, {"messages": []}, "garbage")
            assert (response.status_code, response.json()) == (401, {"message": "Unauthorized"})


@BOTH
async def test_a_private_channel_gets_its_past_messages_once_oldest_first(
    local_supabase: LocalSupabase,
    owner: Owner,
    db: psycopg.AsyncConnection[object],
    version: Version,
) -> None:
    """The newest few of those that the database holds, marked as replayed, then the live ones."""
    name = room(owner)
    async with socket(local_supabase) as earlier, socket(local_supabase, version) as member:
        await earlier.join(name, token=owner.token, private=True)
        await from_database(db, name, "other-kind", private=False)
        for event in ("a", "b", "c"):
            await from_database(db, name, event, private=True)
        await heard(earlier, "c")  # what is still on its way at the join is live
        join_ref, reply = await member.join(
            name,
            token=owner.token,
            private=True,
            broadcast={"replay": {"since": 1000 * (time.time() - 3600), "limit": 2}},
        )
        assert reply["status"] == "ok"
        await from_database(db, name, "live", private=True)
        await heard(member, "live")
        past = [frame for frame in member.received if frame.event == "broadcast"][:2]
        assert [frame.payload["event"] for frame in past] == ["b", "c"]
        assert {frame.payload["meta"]["replayed"] for frame in past} == {True}
        assert {frame.payload["payload"]["n"] for frame in past} == {1.5}
        wanted = {join_ref} if version is Version.V2 else {None}
        assert {frame.join_ref for frame in past} == wanted
        assert [e for e in map(user_event, member.received) if e] == ["b", "c", "live"]


async def test_one_slow_transaction_does_not_change_the_order_of_broadcasts(
    local_supabase: LocalSupabase, owner: Owner, db: psycopg.AsyncConnection[object]
) -> None:
    """Broadcasts come in commit order, those of a transaction together, none rolled back."""
    name = room(owner)
    later = await psycopg.AsyncConnection.connect(local_supabase.db_url)
    async with socket(local_supabase) as member, later:
        await member.join(name, token=owner.token, private=True)
        for event in ("c", "d"):
            await later.execute("select realtime.send('{}', %s, %s)", (event, name))
        for event in ("a", "b"):
            await from_database(db, name, event, private=True)
        await later.commit()
        await later.execute("select realtime.send('{}', 'never', %s)", (name,))
        await later.rollback()
        await from_database(db, name, "end", private=True)
        await heard(member, "end")
        events = [event for event in map(user_event, member.received) if event]
        assert events == ["a", "b", "c", "d", "end"]


class Api:
    """The HTTP broadcast endpoints."""

    def __init__(self, local: LocalSupabase) -> None:
        self._base = f"{local.url}/realtime/v1/api/broadcast"
        self._http = httpx.AsyncClient(timeout=PATIENCE)

    async def __aenter__(self) -> Api:
        """Opens the client."""
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Closes the client."""
        await self._http.aclose()

    async def post(self, path: str, body: object, token: str) -> httpx.Response:
        """Posts JSON with a bearer token."""
        headers = {"Authorization": f"Bearer {token}"}
        async with asyncio.timeout(PATIENCE):
            return await self._http.post(self._base + path, json=body, headers=headers)
