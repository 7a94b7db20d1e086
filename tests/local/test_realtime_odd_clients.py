"""Clients that nobody would write, and more of them at once than anybody has."""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import uuid
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from conv_realtime.local import LocalSupabase
from conv_realtime.local.realtime.frames import Version
from tests.conftest import Owner
from tests.local.realtime_client import PATIENCE, Socket, socket, with_policies

POLICY = """
create policy "herd test members" on realtime.messages for select to authenticated
  using (realtime.topic() = 'herd:' || auth.uid()::text);
"""

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


def objects(**known: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Objects with some of the known keys, each with what belongs there or with anything."""
    optional = {key: value | anything for key, value in known.items()}
    return st.fixed_dictionaries({}, optional=optional) | anything


replays = objects(since=st.floats() | st.integers(), limit=st.integers())
bindings = objects(
    event=st.sampled_from(["*", "INSERT", "TRUNCATE"]),
    schema=st.sampled_from(["public", "*", "nowhere"]),
    table=st.sampled_from(["messages", "nothing", "*"]),
    filter=st.sampled_from(["id=eq.1", "=.", "id=in.(a", "x=eq." + "y" * 999]),
    select=st.lists(st.text(max_size=3), max_size=3),
)
configs = objects(
    broadcast=objects(ack=st.booleans(), self=st.booleans(), replay=replays),
    presence=objects(key=st.text(), enabled=st.booleans()),
    private=st.booleans(),
    postgres_changes=st.lists(bindings, max_size=4),
)
payloads = objects(
    config=configs,
    access_token=st.sampled_from(["", "a.b.c", "sb_publishable_x", "garbage"]),
    type=st.just("broadcast"),
    event=st.text(max_size=5),
    payload=anything,
)
refs = st.none() | st.text(max_size=5) | st.sampled_from(["1", "r" * 100_000, 10**30]) | anything
names = ("odd", "public:messages", "", "\0", "x" * 1000)
topics = st.sampled_from(["phoenix", *(f"realtime:{name}" for name in names)])
events = st.sampled_from(
    ["phx_join", "phx_join", "phx_leave", "broadcast", "presence", "access_token", "heartbeat"]
)
parts = st.tuples(refs, refs, topics | anything, events | anything, payloads)
deep = st.integers(1, 60).map(lambda depth: "[" * 2**10 * depth + "]" * 2**10 * depth)
pushes = st.builds(
    lambda sizes, rest: b"\x03" + bytes(sizes) + rest,
    st.lists(st.integers(0, 255), min_size=6, max_size=6),
    st.binary(max_size=2000),
)
frames = (
    parts.map(list)
    | parts.map(lambda part: dict(zip(("join_ref", "ref", "topic", "event", "payload"), part)))  # noqa: B905
    | anything
).map(json.dumps)


@pytest.mark.parametrize("version", list(Version))
def test_no_frame_ends_a_socket_or_disturbs_another(
    local_supabase: LocalSupabase, version: Version, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever comes, frames are answered or ignored, heartbeats go on, nothing is logged."""

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(
            frames | deep | st.text(max_size=30) | pushes | st.binary(max_size=99), max_size=20
        )
    )
    @example(['[null,null,"realtime:odd","phx_join",{"config":{"private":true}}]', b"\x03", ""])
    def odd(sent: list[str | bytes]) -> None:
        asyncio.run(_endure(local_supabase, version, sent))

    with caplog.at_level(logging.ERROR):
        odd()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def _endure(local: LocalSupabase, version: Version, sent: list[str | bytes]) -> None:
    name = f"bystander:{uuid.uuid4()}"
    async with socket(local, version) as odd, socket(local) as bystander:
        join_ref, _ = await bystander.join(name, broadcast={"self": True})
        for frame in sent:
            await odd.connection.send(frame)
        await _alive(odd)
        body = {"type": "broadcast", "event": "still here", "payload": {}}
        await bystander.send(f"realtime:{name}", "broadcast", body, join_ref=join_ref)
        await bystander.event(f"realtime:{name}", "broadcast")


async def _alive(odd: Socket) -> None:
    """Waits for the answer to a heartbeat that no other frame can have asked for."""
    ref = str(uuid.uuid4())
    frame: object = {"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": ref}
    if odd.version is Version.V2:
        frame = [None, ref, "phoenix", "heartbeat", {}]
    await odd.connection.send(json.dumps(frame))
    assert await odd.reply(ref) == {"status": "ok", "response": {}}


async def test_a_frame_beyond_five_megabytes_closes_the_socket(
    local_supabase: LocalSupabase,
) -> None:
    """As on a real server: so nobody makes the server keep more than that."""
    async with socket(local_supabase) as client:
        await client.connection.send("x" * 4_900_000)
        await client.settle()
        with suppress(ConnectionClosed):
            await client.connection.send("x" * 5_100_000)
            await client.connection.wait_closed()
        assert client.connection.close_code == 1009


async def test_what_no_database_can_be_asked_is_refused_and_not_taken_for_an_outage(
    local_supabase: LocalSupabase,
) -> None:
    """A NUL in a topic, a time beyond all calendars."""
    async with socket(local_supabase, key=local_supabase.secret_key) as client:
        _, reply = await client.join("nul\0", private=True)
        assert reply["response"]["reason"].startswith("Unauthorized: ")
        for since in (1e308, -1e308, "yesterday", None):
            _, reply = await client.join(
                "odd", private=True, broadcast={"replay": {"since": since}}
            )
            reason = reply["response"]["reason"]
            assert reason == "UnableToReplayMessages: Replay params are not valid"


async def test_a_thousand_sockets_that_join_a_private_channel_at_once_are_all_served(
    local_supabase: LocalSupabase, owner: Owner
) -> None:
    """As after a restart: they wait for one another, and none is told that the database is away."""
    name = f"herd:{owner.id}"
    async with with_policies(local_supabase, POLICY) as db, AsyncExitStack() as stack:
        sockets = [
            await stack.enter_async_context(socket(local_supabase))
            for _ in range(stack.enter_context(many_files(1000)))
        ]
        async with asyncio.timeout(3 * PATIENCE):
            replies = await asyncio.gather(
                *(client.join(name, token=owner.token, private=True) for client in sockets)
            )
        assert {reply["status"] for _, reply in replies} == {"ok"}
        await db.execute("select realtime.send('{}', 'hello', %s, true)", (name,))
        for client in sockets:
            await client.wait(lambda frame: frame.event == "binary" and b"hello" in frame.payload)


@contextmanager
def many_files(sockets: int) -> Iterator[int]:
    """Lets this process have both ends of so many sockets; gives how many the system grants."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, 2 * sockets + 500)
    granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
    try:
        yield min(sockets, (granted - 500) // 2)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
