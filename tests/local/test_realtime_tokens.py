"""What the Realtime server makes of tokens and keys, before a connection and while there is one."""

from __future__ import annotations

import json
import re
import uuid

import psycopg
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from conv_realtime.local import LocalSupabase
from conv_realtime.local.keys import mint
from tests.conftest import Owner
from tests.local.realtime_client import socket
from tests.local.rooms import fresh, room


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


async def test_an_api_key_of_the_new_kind_falls_back_to_the_connections(
    local_supabase: LocalSupabase,
) -> None:
    """`sb_` keys are no JWTs."""
    async with socket(local_supabase) as client:
        _, reply = await client.join(fresh(), token="sb_publishable_xyz")
        assert reply["status"] == "ok"


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
