"""supabase-js in the shared conversation: in a Node.js process, told what to do over its stdin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.clients.client import Answer, Changed, Heard, Inbox, Joined, Row, channel_config
from tests.node import NodeProgram
from tests.project import SupabaseProject


@dataclass(frozen=True)
class Flavour:
    """A version of supabase-js as tests/js knows it, and the oldest Node.js that runs it."""

    package: str
    node: int


NODE_20 = Flavour("@supabase/supabase-js", 20)
NEWEST = Flavour("supabase-js-newest", 22)


class JavaScriptClient(NodeProgram):
    """See `Client`; tests/js/client.mjs is the other side."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        super().__init__(process)
        self.inbox = Inbox()

    async def sign_in(self, token: str) -> None:
        await self.do("signIn", token=token)

    async def select(
        self, table: str, columns: str, where: Mapping[str, Any], order: str
    ) -> Answer:
        return Answer(
            **await self.do("select", table=table, columns=columns, where=where, order=order)
        )

    async def upsert(self, table: str, rows: Sequence[Row]) -> Answer:
        return Answer(**await self.do("upsert", table=table, rows=rows))

    async def rpc(self, name: str, **given: Any) -> Answer:
        return Answer(**await self.do("rpc", function=name, given=given))

    async def join(
        self,
        topic: str,
        *,
        private: bool = False,
        echo: bool = False,
        events: Sequence[str] = (),
        changes: Sequence[Mapping[str, str]] = (),
    ) -> Joined:
        config = channel_config(private=private, echo=echo)
        return Joined(
            **await self.do("join", topic=topic, config=config, events=events, changes=changes)
        )

    async def send(self, topic: str, event: str, payload: Row) -> None:
        assert await self.do("send", topic=topic, event=event, payload=payload) == "ok"

    async def http_send(self, topic: str, event: str, payload: Row) -> None:
        sent = await self.do("httpSend", topic=topic, event=event, payload=payload)
        assert sent == {"success": True}

    async def leave(self, topic: str) -> None:
        assert await self.do("leave", topic=topic) == "ok"

    def arrived(self, said: Row) -> None:
        """Sorts what arrived by its kind."""
        kind, topic = said["event"], said["topic"]
        match kind:
            case "broadcast":
                self.inbox.put(kind, topic, Heard(**said["heard"]))
            case "change":
                self.inbox.put(kind, topic, Changed(**said["heard"]))
            case _:
                self.inbox.put(kind, topic, said["status"])


@asynccontextmanager
async def javascript(project: SupabaseProject, flavour: Flavour) -> AsyncIterator[JavaScriptClient]:
    """Starts a Node.js process with a supabase-js client."""
    environment = {
        "SUPABASE_URL": project.url,
        "SUPABASE_KEY": project.publishable_key,
        "SUPABASE_JS": flavour.package,
    }
    run = JavaScriptClient.run("client.mjs", oldest=flavour.node, **environment)
    async with run as client:
        yield client
