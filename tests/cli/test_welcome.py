"""What `up` waits for before it says ready, and what it looks at until it stops."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import uvicorn
import websockets
from websockets.asyncio.server import ServerConnection, serve

from conv_realtime.bridge import Bridge
from conv_realtime.cli import target
from conv_realtime.cli.serve import Serving, _live, _welcomed
from conv_realtime.errors import FeedError
from conv_realtime.local import LocalSupabase
from conv_realtime.settings import Settings
from tests.cli.hearing import WITHIN
from tests.local.own_postgres import open_folder


async def test_what_does_not_come_to_life_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not live, and who says why."""
    monkeypatch.setattr("conv_realtime.cli.serve._LIVE_SECONDS", 0.05)
    health = {"status": "down", "feed": {"state": "down"}, "ingest": {"watcher": "stopped"}}
    said = r"not live after 0 s \(feed down, watcher stopped\); conv-realtime doctor says why"
    with pytest.raises(FeedError, match=said):
        await _live(lambda: (503, health), "ws://127.0.0.1:1/ws")


async def test_a_busy_stream_does_not_hold_up_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that pour in behind the welcome are not read, and leaving waits for none of them."""

    async def pour(client: ServerConnection) -> None:
        for number in range(1000):
            await client.send(f'{{"type":"new_message","data":{{"seq":{number}}}}}')
        await client.wait_closed()

    patient = partial(websockets.connect, close_timeout=2 * WITHIN)
    monkeypatch.setattr(websockets, "connect", patient)
    async with serve(pour, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with asyncio.timeout(WITHIN):
            await _welcomed(f"ws://127.0.0.1:{port}/ws")


def settings_for(supabase: LocalSupabase, folder: Path) -> Settings:
    """Return settings of a user, a state and transcripts that nobody else has."""
    return Settings(
        supabase_url=supabase.url,
        supabase_key=supabase.secret_key,
        owner_id=uuid4(),
        paths=(folder / "transcripts",),
        state_dir=folder / "state",
    )


async def test_what_is_said_of_no_transcript_ends_with_what_is_served(
    local_supabase: LocalSupabase,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """While it stops, a bridge that has not looked at everything is no longer asked."""
    monkeypatch.setattr("conv_realtime.cli.serve._LOOK_SECONDS", 0)
    monkeypatch.setattr(Bridge, "caught_up", False)
    serving = Serving(settings_for(local_supabase, tmp_path), "127.0.0.1", 0, 0, as_json=True)
    up = asyncio.create_task(serving.up())
    async with asyncio.timeout(WITHIN):
        await serving.ready.wait()
        up.cancel()
        await asyncio.wait({up})
    assert up.cancelled()
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> list[uvicorn.Server]:
    """The web servers that were started, to end them as if they had done so by themselves."""
    started: list[uvicorn.Server] = []
    startup = uvicorn.Server.startup

    async def noted(server: uvicorn.Server, *args: Any, **options: Any) -> None:
        started.append(server)
        await startup(server, *args, **options)

    monkeypatch.setattr(uvicorn.Server, "startup", noted)
    return started


async def test_up_ends_when_its_server_does(
    local_supabase: LocalSupabase, tmp_path: Path, servers: list[uvicorn.Server]
) -> None:
    """It would go on without a port, and a supervisor would take it for well."""
    serving = Serving(settings_for(local_supabase, tmp_path), "127.0.0.1", 0, 0, as_json=True)
    up = asyncio.create_task(serving.up())
    async with asyncio.timeout(WITHIN):
        await serving.ready.wait()
        servers[0].should_exit = True
        await asyncio.wait({up})
    with pytest.raises(FeedError, match="ended by itself"):
        up.result()


async def test_who_runs_the_local_supabase_ends_when_its_server_does(
    servers: list[uvicorn.Server],
) -> None:
    """A backfill would wait for answers without end, and `up` for a database that is away."""
    with open_folder() as folder:
        with pytest.raises(FeedError, match="ended by itself"):
            async with asyncio.timeout(WITHIN):
                async with target.local_supabase(Settings(state_dir=folder), port=0):
                    servers[0].should_exit = True
                    await asyncio.Event().wait()
