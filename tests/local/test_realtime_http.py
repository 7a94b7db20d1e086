"""Broadcasts over HTTP: who may, what is refused, and in which words."""

from __future__ import annotations

import asyncio
import json
import uuid

import httpx
import psycopg
import pytest

from conv_realtime.local import LocalSupabase
from conv_realtime.local.realtime.frames import Version
from tests.conftest import Owner
from tests.local.realtime_client import PATIENCE, socket
from tests.local.rooms import fresh, heard, room, user_event


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
