"""Broadcasts of the Realtime server as a bare client sees them, in both versions."""

from __future__ import annotations

import json
import time
import uuid

import psycopg
import pytest

from conv_realtime.local import LocalSupabase
from conv_realtime.local.keys import mint
from conv_realtime.local.realtime.frames import Version
from tests.conftest import Owner
from tests.local.realtime_client import socket
from tests.local.rooms import fresh, from_database, heard, room, user_event

BOTH = pytest.mark.parametrize("version", list(Version))


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
