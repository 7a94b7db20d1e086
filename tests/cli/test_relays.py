"""Several `serve` processes on one Supabase, as behind a load balancer."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from itertools import count, takewhile
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from websockets.asyncio.client import connect

from tests.cli.conftest import Runner
from tests.commands import Command, free_port
from tests.project import Owner, SupabaseProject
from tests.relay.protocol import check_frame
from tests.relay.rows import START, conversation, message, project
from tests.relay.test_supabase_feed import client_of, write

DEADLINE = 60.0


class Hopper:
    """A client by the book that never stays: a snapshot once, then `since`, wherever it lands."""

    def __init__(self, talk: UUID) -> None:
        self._talk = str(talk)
        self.rows: dict[str, Any] = {}
        self.cursor: str | None = None
        self.hops = 0

    async def stay(self, ws: str, events: int) -> None:
        """Connect, go on from the cursor, take a few events and leave without a word."""
        self.hops += 1
        async with asyncio.timeout(DEADLINE), connect(ws, proxy=None) as connection:
            start = {"since": self.cursor} if self.cursor else {"snapshot": 1000}
            data = {"conversations": [self._talk], **start}
            await connection.send(json.dumps({"type": "subscribe", "data": data}))
            while check_frame(await connection.recv())["type"] != "subscribed":
                pass  # of another filter, and its cursor is far ahead
            while events > 0:
                events -= self._take(check_frame(await connection.recv()))
            connection.transport.abort()

    def _take(self, frame: dict[str, Any]) -> bool:
        """Take a frame; return whether it was an event or the end of a snapshot."""
        name: str = frame["type"]
        data = frame["data"]
        assert name not in ("resync", "error"), frame
        if name == "snapshot":
            for row in (*data["conversations"], *data["messages"]):
                self._keep(row["id"], row)
            if data["more"]:
                return False
        elif name != "ping":
            self._keep(data["id"], None if name == "message_deleted" else data, data["revision"])
        self.cursor = data["cursor"]
        return name != "ping"

    def _keep(self, id: str, row: Any, revision: int = 0) -> None:
        if row is None:
            if self.rows.get(id, {"revision": 0})["revision"] <= revision:
                self.rows.pop(id, None)
        elif self.rows.get(id, row)["revision"] <= row["revision"]:
            self.rows[id] = row


@pytest.fixture
def port() -> Iterator[int]:
    """Where a second relay takes the place of the first."""
    with free_port() as port:
        yield port


async def test_a_client_hops_between_relays_while_others_write(
    conv_realtime: Runner, home: Path, port: int, supabase: SupabaseProject, member: Owner
) -> None:
    """Each takes the cursors of the other, also after a kill; the end is what the database says."""
    me = UUID(member.id)
    talk = conversation("hopping", owner=me)
    variables = {
        "SUPABASE_URL": supabase.url,
        "SUPABASE_SECRET_KEY": supabase.secret_key,
        "CONV_REALTIME_OWNER_ID": member.id,
    }

    def start(number: int, port: int) -> Command:
        state = ("--state-dir", home / f"state-{number}")
        return conv_realtime("serve", "--json", "--port", str(port), *state, **variables)

    relays = [start(0, port), start(1, 0)]
    addresses = [(await asyncio.to_thread(relay.json))["ws"] for relay in relays]
    hopper = Hopper(talk.id)
    async with client_of(supabase, supabase.secret_key) as client:
        await write(client, project(owner=me), talk, message("first", 1, of=talk))

        async def writing() -> None:
            for number in takewhile(lambda n: n < 150 or hopper.hops <= 20, count(2)):
                gone = START if number % 7 == 0 else None
                seq = number if number % 3 else number - 1
                row = message(str(number), seq, of=talk, revision=number, deleted_at=gone)
                await write(client, row)
            for revision in count(100_000):  # until that was heard of
                over = talk.model_copy(update={"revision": revision, "title": "over"})
                await write(client, over)

        writer = asyncio.create_task(writing(), name="writing")
        while hopper.rows.get(str(talk.id), {}).get("title") != "over":
            await hopper.stay(addresses[hopper.hops % 2], 1 + hopper.hops % 5)
            if hopper.hops == 10:
                assert await asyncio.to_thread(relays[0].end, signal.SIGKILL) == -signal.SIGKILL
                relays[0] = start(0, port)
                assert (await asyncio.to_thread(relays[0].json))["ws"] == addresses[0]
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        answer = await client.table("messages").select("id,revision,text").eq(
            "conversation_id", str(talk.id)
        ).is_("deleted_at", "null").execute()  # fmt: skip
    rows: Any = answer.data
    expected = {row["id"]: (row["revision"], row["text"]) for row in rows}
    seen = {id: (row["revision"], row["text"]) for id, row in hopper.rows.items() if "text" in row}
    assert seen == expected and len(expected) > 50
    assert hopper.hops > 20
