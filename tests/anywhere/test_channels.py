"""Our topics through Realtime: who is let in, what arrives, and that nobody else can speak."""

from __future__ import annotations

from typing import Any

import httpx

from conv_realtime.local.realtime.frames import Version
from tests.local.realtime_client import Received, Socket, socket
from tests.project import Owner, SupabaseProject
from tests.sql.rows import conversation, message


async def write(project: SupabaseProject, table: str, row: dict[str, Any], **headers: str) -> None:
    """Upserts a row with the secret key."""
    headers |= {"apikey": project.secret_key, "authorization": f"Bearer {project.secret_key}"}
    headers["prefer"] = "resolution=merge-duplicates,return=minimal"
    async with httpx.AsyncClient(base_url=project.url, headers=headers, timeout=30) as http:
        (await http.post(f"/rest/v1/{table}", json=[row])).raise_for_status()


async def joined(opened: Socket, topic: str, token: str | None = None) -> None:
    """Joins a private channel, or fails."""
    _, reply = await opened.join(topic, token=token, private=True)
    assert reply["status"] == "ok", reply


async def refused(opened: Socket, topic: str, token: str | None = None) -> None:
    """Is not let in, and learns why."""
    _, reply = await opened.join(topic, token=token, private=True)
    assert reply["status"] == "error", (topic, reply)
    assert reply["response"]["reason"].startswith("Unauthorized"), reply


def told(opened: Socket) -> list[tuple[str, str]]:
    """Gives topic, without ids, and event of each broadcast so far."""
    return [
        (frame.topic.split(":")[2], frame.payload["event"])
        for frame in opened.received
        if frame.event == "broadcast"
    ]


def is_event(event: str) -> Any:
    """Gives a test for a broadcast of that event."""

    def wanted(frame: Received) -> bool:
        return frame.event == "broadcast" and frame.payload["event"] == event

    return wanted


async def test_owner_and_service_hear_a_message(supabase: SupabaseProject, member: Owner) -> None:
    """The owner on both topics of theirs, the service role on its own, with the cursor to read."""
    talk = conversation(member.id)
    await write(supabase, "conversations", talk)
    async with (
        socket(supabase, Version.V1) as user,
        socket(supabase, Version.V1, key=supabase.secret_key) as service,
    ):
        await joined(user, f"conv_realtime:conversation:{talk['id']}", member.token)
        await joined(user, f"conv_realtime:owner:{member.id}", member.token)
        await joined(service, "conv_realtime:changes")
        await write(supabase, "messages", message(talk, 0, text="é 😀"))
        heard = await user.wait(is_event("new_message"))
        await user.wait(is_event("changed"))
        await service.wait(is_event("changed"))
    payload = heard.payload["payload"]
    assert heard.topic == f"realtime:conv_realtime:conversation:{talk['id']}"
    assert payload["data"]["text"] == "é 😀"
    assert payload["data"]["conversation"]["id"] == talk["id"]
    assert payload["cursor"]
    assert ("owner", "changed") in told(user)


async def test_nobody_else_is_let_in(supabase: SupabaseProject, member: Owner) -> None:
    """Neither another user nor the publishable key; users do not hear of all changes."""
    talk = conversation(member.id)
    await write(supabase, "conversations", talk)
    ours = [f"conv_realtime:conversation:{talk['id']}", f"conv_realtime:owner:{member.id}"]
    other = supabase.member()
    async with socket(supabase, Version.V1) as opened:
        for topic in [*ours, "conv_realtime:changes"]:
            await refused(opened, topic)
            await refused(opened, topic, other.token)
        await refused(opened, "conv_realtime:changes", member.token)


async def test_nobody_can_speak_there(supabase: SupabaseProject, member: Owner) -> None:
    """What the owner sends is dropped; what the database says next arrives."""
    talk = conversation(member.id)
    topic = f"conv_realtime:conversation:{talk['id']}"
    await write(supabase, "conversations", talk)
    forged = {"type": "broadcast", "event": "new_message", "payload": {"data": {"text": "forged"}}}
    async with socket(supabase, Version.V1) as ears, socket(supabase, Version.V1) as mouth:
        for opened in (ears, mouth):
            await joined(opened, topic, member.token)
        await mouth.send(f"realtime:{topic}", "broadcast", forged)
        await mouth.settle()
        await write(supabase, "messages", message(talk, 0, text="true"))
        heard = await ears.wait(is_event("new_message"))
    assert heard.payload["payload"]["data"]["text"] == "true"


async def test_history_tells_that_something_changed_alone(
    supabase: SupabaseProject, member: Owner
) -> None:
    """The request header reaches the triggers through the Data API."""
    talk = conversation(member.id)
    await write(supabase, "conversations", talk)
    async with socket(supabase, Version.V1) as user:
        await joined(user, f"conv_realtime:conversation:{talk['id']}", member.token)
        await joined(user, f"conv_realtime:owner:{member.id}", member.token)
        old = {"x-conv-realtime-history": "1"}
        await write(supabase, "messages", message(talk, 0), **old)
        await user.wait(is_event("changed"))
        await write(supabase, "messages", message(talk, 100, text="live"))
        live = await user.wait(is_event("new_message"))
    assert live.payload["payload"]["data"]["text"] == "live"
    assert told(user).count(("conversation", "new_message")) == 1
