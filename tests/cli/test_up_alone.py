"""`up` and `demo` started, refused, stopped and killed, each time as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import websockets

from conv_realtime.cli.instance import running
from conv_realtime.local import LocalSupabase
from conv_realtime.testing import SESSION, claude_line
from tests.cli.conftest import Runner
from tests.cli.hearing import WITHIN, until_message
from tests.commands import eventually
from tests.relay.proxy import Proxy

FREE = ("--json", "--port", "0")


def _environment(local: LocalSupabase) -> dict[str, str]:
    return {
        "SUPABASE_URL": local.url,
        "SUPABASE_SECRET_KEY": local.secret_key,
        "CONV_REALTIME_OWNER_ID": str(uuid4()),
    }


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
async def test_up_ends_in_order(
    conv_realtime: Runner, local_supabase: LocalSupabase, number: signal.Signals, code: int
) -> None:
    """Clients are told, then closed with 1012; the exit code says what ended it."""
    command = conv_realtime("up", *FREE, **_environment(local_supabase))
    ready = command.json()
    assert "secret_key" not in ready, "the key of somebody else's Supabase is not shown"
    async with asyncio.timeout(WITHIN), websockets.connect(ready["ws"]) as client:
        await client.recv()
        command.process.send_signal(number)
        said = json.loads(await client.recv())
        await client.wait_closed()
    assert said["type"] == "server_shutdown"
    assert client.close_code == 1012
    assert await asyncio.to_thread(command.process.wait, 15) == code
    assert command.rest() == []
    assert "Traceback" not in command.stderr()


async def test_a_second_signal_ends_up_at_once(
    conv_realtime: Runner, local_supabase: LocalSupabase, home: Path
) -> None:
    """The first is being obeyed, but the database does not answer and is waited for."""
    where = urlsplit(local_supabase.url)
    assert where.hostname is not None
    assert where.port is not None
    async with Proxy.to(where.hostname, where.port) as proxy:
        environment = _environment(local_supabase)
        environment["SUPABASE_URL"] = f"http://127.0.0.1:{proxy.port}"
        command = conv_realtime("up", *FREE, **environment)
        ready = await asyncio.to_thread(command.json)
        folder = home / ".claude" / "projects" / "-project"
        proxy.silent = True

        def write() -> None:
            folder.mkdir(parents=True)
            (folder / f"{SESSION}.jsonl").write_bytes(claude_line("unsent"))

        await until_message(ready["ws"], "unsent", write)
        async with asyncio.timeout(WITHIN):
            while command.process.poll() is None:
                command.process.terminate()
                await asyncio.sleep(0.05)
        assert command.process.returncode == 1, "in order it would have been 0"


async def test_up_waits_for_the_first_transcript(
    conv_realtime: Runner, local_supabase: LocalSupabase, home: Path
) -> None:
    """An empty home is no error: the assistant's folder is watched as soon as it is there."""
    command = conv_realtime("up", *FREE, **_environment(local_supabase))
    ready = command.json()

    def write() -> None:
        folder = home / ".claude" / "projects" / "-project"
        folder.mkdir(parents=True)
        (folder / f"{SESSION}.jsonl").write_bytes(claude_line("the first"))

    await until_message(ready["ws"], "the first", write)


def test_up_names_a_path_that_does_not_exist(
    conv_realtime: Runner, local_supabase: LocalSupabase
) -> None:
    """A typing mistake is told; the path may also come later, so it is no error."""
    command = conv_realtime("up", "/no/such/place", *FREE, **_environment(local_supabase))
    assert command.json()["event"] == "ready"
    assert command.end() == 130
    assert "/no/such/place does not exist" in command.stderr()


@pytest.mark.parametrize("name", ["up", "serve", "demo"])
def test_a_port_in_use_is_told_before_anything_starts(conv_realtime: Runner, name: str) -> None:
    """The message names --port, and there is no local Supabase to clean up."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = conv_realtime(name, "--port", port)
        assert command.process.wait(30) == 2
    assert "--port" in command.stderr()
    assert len(command.stderr().splitlines()) == 1


def test_a_local_port_in_use_is_told(conv_realtime: Runner, home: Path) -> None:
    """The message names --local-port, and no database was made for it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = conv_realtime("up", "--port", "0", "--local-port", port)
        assert command.process.wait(60) == 2
    assert f"--local-port: {port} is in use; choose another, or 0" in command.stderr()
    assert not (home / "state" / "supabase").exists()
    assert "Traceback" not in command.stderr()


def test_a_missing_extra_says_what_to_install(conv_realtime: Runner, tmp_path: Path) -> None:
    """Without psycopg the local Supabase cannot run, and one line says how to get it."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['psycopg'] = None\n")
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = conv_realtime("up", *FREE, PYTHONPATH=paths)
    assert command.process.wait(30) == 2
    assert "pip install 'conv_realtime[local]'" in command.stderr()
    assert "Traceback" not in command.stderr()


def test_a_url_without_a_key_names_the_key(conv_realtime: Runner) -> None:
    """Half a configuration is not silently replaced by the local Supabase."""
    command = conv_realtime("up", *FREE, SUPABASE_URL="http://127.0.0.1:1")
    assert command.process.wait(30) == 2
    assert "SUPABASE_SECRET_KEY" in command.stderr()


@pytest.mark.parametrize("url", ["127.0.0.1:54321", "postgresql://postgres:pw@127.0.0.1/postgres"])
def test_a_url_that_is_none_is_told_and_not_shown(conv_realtime: Runner, url: str) -> None:
    """It says how one begins; a connection string that went there by mistake has a password."""
    command = conv_realtime("up", *FREE, SUPABASE_URL=url, SUPABASE_SECRET_KEY="sb_secret_x")
    assert command.process.wait(30) == 2
    assert "SUPABASE_URL: is no project's URL: that begins with https://" in command.stderr()
    assert url not in command.stderr()


async def test_up_takes_over_when_the_first_is_killed(conv_realtime: Runner, home: Path) -> None:
    """After a kill -9 the other one starts the Supabase again, ingests, and is the instance."""
    folder = home / ".claude" / "projects" / "-project"
    folder.mkdir(parents=True)
    first = conv_realtime("up", *FREE, "--local-port", "0")
    ready = first.json()
    second = conv_realtime("up", *FREE)
    ready_too = second.json()
    assert ready_too["supabase_url"] == ready["supabase_url"]
    first.process.kill()
    first.process.wait()
    state = home / "state"
    eventually(lambda: (running(state) or {}).get("pid") == second.process.pid, 60)

    def write() -> None:
        (folder / f"{SESSION}.jsonl").write_bytes(claude_line("still here"))

    event = await until_message(ready_too["ws"], "still here", write)
    assert event["data"]["conversation"]["source"] == "claude_code"
    assert second.end() == 130


def test_demo_types_itself(conv_realtime: Runner, local_supabase: LocalSupabase) -> None:
    """The conversation arrives on /ws by itself, in order."""
    environment = _environment(local_supabase)
    demo = conv_realtime("demo", *FREE, "--pace", "10", **environment)
    url = demo.json()["ws"]

    async def first_prompt() -> str:
        async with asyncio.timeout(WITHIN), websockets.connect(url) as client:
            await client.send(json.dumps({"type": "subscribe", "data": {"snapshot": 50}}))
            async for frame in client:
                event = json.loads(frame)
                rows = event["data"].get("messages", [event["data"]])
                for row in rows:
                    if event["type"] in ("snapshot", "new_message") and row["role"] == "user":
                        return str(row["text"])
        raise AssertionError("the connection ended")

    assert "lamp" in asyncio.run(first_prompt())
    assert demo.end() == 130
