"""The README says what is true: its blocks run, its tables are complete."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tomllib
from contextlib import closing
from functools import partial
from pathlib import Path
from uuid import uuid4

import click
import pytest

from conv_realtime import Ingest, Settings, conversation_id, testing
from conv_realtime.cli import main
from conv_realtime.local import LocalSupabase
from conv_realtime.testing import claude_line
from tests.commands import Command
from tests.docs.knobs import variables_of
from tests.docs.pages import ROOT, blocks, table
from tests.docs.programs import done, serving, until_lines
from tests.project import Owner, SupabaseProject

CLIENTS = ROOT / "conv_realtime" / "viewer"
WS_MODULE = ROOT / "tests" / "js" / "node_modules" / "ws" / "wrapper.mjs"


def _blocks(language: str) -> list[str]:
    return blocks("README.md", language)


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_is_in_the_table(name: str) -> None:
    """Its row has the variables, the default and the description of the code."""
    field = Settings.model_fields[name]
    _, variables, default, description = table("README.md", "| setting |")[name]
    assert variables == " or ".join(f"`{v}`" for v in variables_of(name))
    assert description == field.description
    if isinstance(field.default, bool | int | float | str):
        said = default.strip("`")
        assert said == str(field.default).removesuffix(".0").replace("True", "true").replace(
            "False", "false"
        )


def test_every_command_is_in_the_table() -> None:
    """A command that the README does not name does not exist, nor one that it alone names."""
    assert set(table("README.md", "| command |")) == set(main.list_commands(click.Context(main)))


def test_the_two_first_commands_install_what_there_is() -> None:
    """Both make their own environment and ask for extras that the project has."""
    first, second = _blocks("bash")[:2]
    assert first.strip().endswith(".venv/bin/conv-realtime up")
    assert second.strip().endswith(".venv/bin/pytest -n auto")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for command, extra in ((first, "local"), (second, "dev")):
        assert command.startswith("python3 -m venv .venv && ")
        assert f"'.[{extra}]'" in command
        assert extra in project["optional-dependencies"]
    assert project["scripts"]["conv-realtime"] == "conv_realtime.__main__:main"


def test_the_first_lines_of_python_run(tmp_path: Path, local_supabase: LocalSupabase) -> None:
    """The bridge of the README hears a new answer, and prints it."""
    projects = tmp_path / "claude" / "projects"
    projects.mkdir(parents=True)
    environment = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "SUPABASE_URL": local_supabase.url,
        "SUPABASE_SECRET_KEY": local_supabase.secret_key,
        "CONV_REALTIME_OWNER_ID": str(uuid4()),
        "CONV_REALTIME_STATE_DIR": str(tmp_path / "state"),
        "CLAUDE_CONFIG_DIR": str(projects.parent),
    }
    block = _blocks("python")[0]
    code = block.replace("async with bridge:\n", 'async with bridge:\n        print("entered")\n')
    with closing(Command([sys.executable, "-c", code], environment)) as command:
        assert command.line() == "entered"
        (projects / "s.jsonl").write_bytes(claude_line("It is done.", role="assistant"))
        missing = {"answer", '{"type"'}
        while missing:
            missing.discard(command.line().split(":")[0])


async def test_the_python_client_of_the_readme_keeps_rows() -> None:
    """The block about /ws, with its address replaced, gets the snapshot and a new message."""
    block = _blocks("python")[1]
    async with serving() as (bridge, address):
        bridge.append(claude_line("before"))
        await bridge.next("new_message")
        code = block.replace("127.0.0.1:8787", address)
        after = partial(bridge.append, claude_line("after"))
        await until_lines(
            [sys.executable, "-W", "error", "-u", "-c", code],
            [(b"snapshot 1", after), (b"new_message 1", done)],
        )


@pytest.mark.parametrize("number", range(2, len(_blocks("python"))))
def test_the_other_python_blocks_run(number: int) -> None:
    """Each runs to its end in a process of its own, with the examples beside it."""
    command = [sys.executable, "-W", "error", "-c", _blocks("python")[number]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "examples")}
    subprocess.run(command, check=True, timeout=60, env=environment)


@pytest.mark.node
@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
@pytest.mark.parametrize("block", _blocks("javascript"))
def test_the_javascript_blocks_are_javascript(block: str, tmp_path: Path) -> None:
    """Node.js can read each of them."""
    module = tmp_path / "block.mjs"
    module.write_text(block)
    subprocess.run(["node", "--check", str(module)], check=True, timeout=60)


@pytest.mark.node
@pytest.mark.skipif(not WS_MODULE.exists(), reason="needs Node.js and `npm ci` in tests/js")
async def test_the_browser_client_of_the_readme_keeps_rows(tmp_path: Path) -> None:
    """The block about /ws, with its addresses replaced, shows the snapshot and a new message.

    Node.js imports nothing by HTTP, and Node.js 20 has no WebSocket of its own.
    """
    block = _blocks("javascript")[0]
    async with serving() as (bridge, address):
        module = tmp_path / "client.mjs"
        module.write_text(
            f"import WebSocket from {json.dumps(WS_MODULE.as_uri())};\n"
            "globalThis.WebSocket = WebSocket;\n"
            "const show = (title, messages) =>\n"
            "  console.log(title, messages.map(({ text }) => text).join());\n"
            + block.replace(
                "http://127.0.0.1:8787/client.js", (CLIENTS / "client.js").as_uri()
            ).replace("127.0.0.1:8787", address)
        )
        bridge.append(claude_line("before"))
        await bridge.next("new_message")
        after = partial(bridge.append, claude_line("after"))
        await until_lines(
            ["node", module], [(b"before before", after), (b"before before,after", done)]
        )


@pytest.mark.node
@pytest.mark.skipif(not WS_MODULE.exists(), reason="needs Node.js and `npm ci` in tests/js")
async def test_the_supabase_client_of_the_readme_shows_a_message(
    tmp_path: Path, supabase: SupabaseProject, member: Owner
) -> None:
    """The block for supabase-js, given only its names, shows what ingest writes."""
    transcripts = tmp_path / "transcripts"
    transcripts.mkdir()
    names = {
        "url": supabase.url,
        "publishableKey": supabase.publishable_key,
        "token": member.token,
        "id": str(conversation_id(member.id, "claude_code", "m", testing.SESSION)),
    }
    address = "http://127.0.0.1:8787/conversations.js"
    module = tmp_path / "client.mjs"
    module.write_text(
        'import { createRequire } from "node:module";\n'
        f"const require = createRequire({json.dumps(str(ROOT / 'tests/js/client.mjs'))});\n"
        'const realtime = { transport: require("ws") };\n'
        'const { createClient: create } = require("@supabase/supabase-js");\n'
        "const createClient = (url, key, options) => create(url, key, { ...options, realtime });\n"
        "const show = (messages) => console.log(messages.map(({ text }) => text).join());\n"
        + "".join(f"const {name} = {json.dumps(value)};\n" for name, value in names.items())
        + _blocks("javascript")[1].replace(address, (CLIENTS / "conversations.js").as_uri())
    )
    ingest = Ingest(
        paths=[transcripts],
        supabase_url=supabase.url,
        supabase_key=supabase.secret_key,
        owner_id=member.id,
        machine="m",
        state_dir=tmp_path / "state",
    )
    async with ingest, asyncio.TaskGroup() as group:
        task = group.create_task(ingest.run(), name="ingest")
        with (transcripts / "s.jsonl").open("ab", buffering=0) as file:
            file.write(claude_line("hello"))
            again = partial(file.write, claude_line("again"))
            await until_lines(["node", module], [(b"hello", again), (b"hello,again", done)])
        task.cancel()
