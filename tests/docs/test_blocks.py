"""The Python, JavaScript, SQL and TOML of the pages runs, with what it takes for granted.

The README's own, and those about tests, are run in `test_readme.py` and `tests/testing/`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from conv_realtime import Format, Ingest, conversation_id
from conv_realtime.edges import formats
from conv_realtime.testing import SESSION, SupabaseLocal, claude_line
from tests.bench import harness
from tests.docs.pages import ROOT, all_blocks, blocks
from tests.docs.programs import done, serving, until_lines
from tests.node import JS, node

PROTOCOL = "conv_realtime/relay/protocol/README.md"
CLIENTS = ROOT / "conv_realtime" / "viewer"
RUN = {
    ("README.md", "python"), ("README.md", "javascript"), ("README.md", "toml"),
    ("conv_realtime/testing/README.md", "python"), ("conv_realtime/local/README.md", "python"),
    (PROTOCOL, "python"), (PROTOCOL, "json"),
    ("conv_realtime/viewer/README.md", "javascript"), ("conv_realtime/sql/README.md", "js"),
    ("conv_realtime/sql/README.md", "python"),
    ("conv_realtime/edges/README.md", "sql"), ("tests/bench/README.md", "python"),
}  # fmt: skip
"""Where a test runs every block of a language."""


def test_no_block_is_left_out() -> None:
    """Whoever writes one on another page says here who runs it."""
    languages = ("python", "javascript", "js", "json", "sql", "toml")
    assert {(page, language) for language in languages for page, _ in all_blocks(language)} == RUN


async def test_a_client_by_hand_keeps_rows() -> None:
    """That of the protocol gets the snapshot, then what is new."""
    (block,) = blocks(PROTOCOL, "python")
    async with serving() as (bridge, address):
        bridge.append(claude_line("before"))
        await bridge.next("new_message")
        code = block.replace("127.0.0.1:8787", address)
        await until_lines(
            [sys.executable, "-W", "error", "-u", "-c", code],
            [
                (b"snapshot 2", lambda: bridge.append(claude_line("after"))),
                (b"new_message 3", done),
            ],
        )


def _module(folder: Path, *parts: str) -> list[str | Path]:
    """Write a module and return the command that runs it."""
    module = folder / "block.mjs"
    module.write_text("\n".join(parts))
    return [node(), module]


def _constants(**values: str) -> str:
    return "\n".join(f"const {name} = {json.dumps(value)};" for name, value in values.items())


REQUIRE = f"""
import {{ createRequire }} from "node:module";
const require = createRequire({json.dumps(str(JS / "client.mjs"))});
const {{ createClient: create }} = require("@supabase/supabase-js");
globalThis.WebSocket = require("ws");
const realtime = {{ transport: WebSocket }};
const createClient = (url, key, options) => create(url, key, {{ ...options, realtime }});
"""


@pytest.mark.node
async def test_the_viewers_client_of_ws_shows_messages_and_ends(tmp_path: Path) -> None:
    """The block about `connect`, in a page of this machine."""
    block, _ = blocks("conv_realtime/viewer/README.md", "javascript")
    async with serving() as (bridge, address):
        bridge.append(claude_line("one"))
        first = await bridge.next("new_message")
        assert first.type == "new_message"
        command = _module(
            tmp_path,
            REQUIRE,
            f"import {{ connect }} from {json.dumps((CLIENTS / 'client.js').as_uri())};",
            f'globalThis.location = {{ href: "http://{address}/" }};',
            _constants(id=str(first.data.conversation_id)),
            "const supabase = { auth: { getSession: async () => ({ data: { session: null } }) } };",
            "const draw = (messages) => console.log(messages.map(({ text }) => text).join());",
            block,
            'stop(); console.log("closed");',
        )
        await until_lines(command, [(b"one", done), (b"closed", done)])


@pytest.mark.node
@pytest.mark.parametrize(
    ("page", "language", "number"),
    [
        ("conv_realtime/viewer/README.md", "javascript", 1),
        ("conv_realtime/sql/README.md", "js", 0),
        ("conv_realtime/sql/README.md", "js", 1),
    ],
)
async def test_a_frontend_shows_what_is_written(
    page: str, language: str, number: int, tmp_path: Path, supabase_local: SupabaseLocal
) -> None:
    """By `follow`, by hand on a private channel, by `postgres_changes`: as the rows' owner."""
    owner = supabase_local.owner_id
    talk = str(conversation_id(owner, "claude_code", "m", SESSION))
    block = blocks(page, language)[number].replace("await talk.unsubscribe();", "")
    command = _module(
        tmp_path,
        REQUIRE,
        f"import {{ follow }} from {json.dumps((CLIENTS / 'conversations.js').as_uri())};",
        _constants(
            url=supabase_local.url,
            publishableKey=supabase_local.publishable_key,
            token=supabase_local.token(),
            id=talk,
        ),
        "const show = (message) => console.log(message.text);",
        "const draw = (messages) => console.log(messages.at(-1)?.text);",
        ""
        if "createClient(" in block
        else "const supabase = createClient(url, publishableKey, "
        "{ accessToken: async () => token });",
        block,
    )
    transcripts = tmp_path / "transcripts"
    transcripts.mkdir()
    async with writing(supabase_local, transcripts, tmp_path / "state"):
        await until_lines(command, [(b"hello", done)])


@asynccontextmanager
async def writing(supabase: SupabaseLocal, transcripts: Path, state: Path) -> AsyncIterator[None]:
    """A transcript that says hello again and again: a channel that joins later hears it, too."""

    async def write() -> None:
        while True:
            with (transcripts / "s.jsonl").open("ab") as file:
                file.write(claude_line("hello"))
            await asyncio.sleep(0.3)

    async with (
        Ingest(
            paths=[transcripts],
            supabase_url=supabase.url,
            supabase_key=supabase.secret_key,
            owner_id=supabase.owner_id,
            machine="m",
            state_dir=state,
        ) as ingest,
        asyncio.TaskGroup() as group,
    ):
        tasks = [group.create_task(one, name="doc") for one in (ingest.run(), write())]
        yield
        for task in tasks:
            task.cancel()


async def test_a_relay_without_a_server_prints_events(
    tmp_path: Path, supabase_local: SupabaseLocal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Python, on Supabase alone."""
    (block,) = blocks("conv_realtime/sql/README.md", "python")
    for name, value in {
        "SUPABASE_URL": supabase_local.url,
        "SUPABASE_SECRET_KEY": supabase_local.secret_key,
        "CONV_REALTIME_STATE_DIR": str(tmp_path / "state"),
    }.items():
        monkeypatch.setenv(name, value)
    transcripts = tmp_path / "transcripts"
    transcripts.mkdir()
    code = block.replace("print(event.to_json())", "print(event.type)")
    async with writing(supabase_local, transcripts, tmp_path / "ingest"):
        await until_lines(
            [sys.executable, "-W", "error", "-u", "-c", code], [(b"new_message", done)]
        )


def test_an_owner_is_deleted_with_all_rows(supabase_local: SupabaseLocal) -> None:
    """By the two statements, and nobody else is."""
    (block,) = blocks("conv_realtime/edges/README.md", "sql")
    mine, other = str(uuid4()), str(uuid4())
    with psycopg.connect(supabase_local.db_url) as connection:
        for owner in (mine, other):
            values = {"id": str(uuid4()), "project": str(uuid4()), "owner": owner}
            for statement in (
                "insert into projects (id, owner_id, machine, path, name)"
                " values (%(project)s, %(owner)s, 'm', '/', 'p')",
                "insert into conversations (id, owner_id, project_id, source, machine, session_id,"
                " revision) values (%(id)s, %(owner)s, %(project)s, 's', 'm', 'x', 1)",
                "insert into messages (id, owner_id, conversation_id, seq, revision, role)"
                " values (%(id)s, %(owner)s, %(id)s, 0, 1, 'user')",
            ):
                connection.execute(statement, values)
        connection.execute(block.replace("5e551011-0000-4000-8000-000000000001", mine).encode())
        for table in ("projects", "conversations", "messages"):
            query = f"select distinct owner_id::text from {table}"
            assert connection.execute(query.encode()).fetchall() == [(other,)]


def test_the_entry_point_leads_to_the_format_of_the_examples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the group that is looked through."""
    (block,) = blocks("README.md", "toml")
    ((group, entries),) = tomllib.loads(block)["project"]["entry-points"].items()
    assert group == formats.GROUP
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    for place in entries.values():
        module, _, name = place.partition(":")
        assert issubclass(getattr(import_module(module), name), Format)


def test_a_benchmark_is_written_like_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the names of the harness it makes its findings."""
    monkeypatch.setattr(harness, "BENCHMARKS", {})
    (block,) = blocks("tests/bench/README.md", "python")
    exec(compile(block.replace("append(...)", "append(1.0)"), "block", "exec"), {**vars(harness)})
    findings = list(harness.BENCHMARKS["mine"].measure(harness.Scale.SMOKE))
    assert [type(one) for one in findings] == [harness.Figure] * 3
