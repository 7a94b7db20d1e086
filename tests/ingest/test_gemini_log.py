"""Gemini CLI's logs: messages that change, and what a rewind takes back, to the last listener."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any
from uuid import UUID

import httpx
import pytest
import websockets
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from conv_realtime import Bridge, Ingest
from conv_realtime.cli.server import Server
from conv_realtime.core.format import Head, Recognised
from conv_realtime.core.formats.gemini_json import GeminiJson
from conv_realtime.core.formats.gemini_log import GeminiLog
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.edges.disk import OpenFile
from conv_realtime.ingest.follow import Follower
from conv_realtime.models import Conversation, Message, conversation_id
from conv_realtime.testing import MemoryStore
from tests.ingest.folding import IDENTITY, check_growth, read_all, rows, stated_by
from tests.ingest.running import Heard, ingest, running, texts, until
from tests.project import Owner, SupabaseProject

SESSION = "33333333-2222-4333-8444-555555555555"
NAME = "tmp/garden/chats/session-2026-03-04T05-06-33333333.jsonl"


def line(value: Any) -> bytes:
    """Return a value as a line."""
    return json.dumps(value).encode() + b"\n"


def head(**fields: Any) -> bytes:
    """Return a log's first line."""
    times = {"startTime": "2026-03-04T05:06:07.000Z", "lastUpdated": "2026-03-04T05:06:07.000Z"}
    return line({"sessionId": SESSION, "projectHash": "ab12", **times, **fields})


def message(id: str, kind: str, text: Any, *, at: int = 10, **fields: Any) -> dict[str, Any]:
    """Return a message `at` seconds into the session's minute."""
    stamp = f"2026-03-04T05:06:{at:02}.000Z"
    return {"id": id, "timestamp": stamp, "type": kind, "content": text, **fields}


def says(id: str, kind: str, text: Any, **fields: Any) -> bytes:
    """Return a message's line."""
    return line(message(id, kind, text, **fields))


def sets(**fields: Any) -> bytes:
    """Return a patch."""
    return line({"$set": fields})


def rewind(id: str) -> bytes:
    """Return what takes a message back, and all behind it."""
    return line({"$rewindTo": id})


def follow(path: Path) -> Follower:
    """Return a follower of a log that has read nothing yet."""
    return Follower(str(path), GeminiLog(), IDENTITY, Sanitizer())


def stated(folder: Path, *lines: bytes, name: str = NAME) -> tuple[Conversation, list[Message]]:
    """Return what a log of these lines states."""
    path = folder / name
    return stated_by(follow(path), path, lines)


def _call(status: str, output: str = "a b") -> dict[str, Any]:
    answer = {"functionResponse": {"id": "t1", "name": "ls", "response": {"output": output}}}
    return {"id": "t1", "name": "ls", "args": {"dir": "."}, "status": status, "result": [answer]}


# What is said --------------------------------------------------------------------------------


def test_a_message_that_is_written_again_is_the_last_one(tmp_path: Path) -> None:
    """Tokens and tools come later; neither is counted twice."""
    tokens = {"input": 100, "output": 7, "cached": 60, "thoughts": 3, "tool": 0, "total": 110}
    thought = {"subject": "Look", "description": "around", "timestamp": "x"}
    row, messages = stated(
        tmp_path,
        head(kind="main"),
        says("u1", "user", "list it"),
        says("g1", "gemini", "I look.", model="gemini-x", thoughts=[thought]),
        says("g1", "gemini", "I look.", model="gemini-x", thoughts=[thought], tokens=tokens),
        sets(lastUpdated="2026-03-04T05:07:00.000Z"),
        says(
            "g1", "gemini", "I look.", model="gemini-x", thoughts=[thought], tokens=tokens,
            toolCalls=[_call("success")],
        ),
        says("g2", "gemini", "Two files."),
    )  # fmt: skip
    assert [(m.role, m.text) for m in messages] == [
        ("user", "list it"), ("assistant", "I look."), ("assistant", "Two files.")
    ]  # fmt: skip
    assert [b["type"] for b in messages[1].content] == [
        "thinking", "text", "tool_use", "tool_result"
    ]  # fmt: skip
    assert messages[1].usage == {
        "input_tokens": 40, "output_tokens": 10, "cache_read_tokens": 60, "reasoning_tokens": 3
    }  # fmt: skip
    assert (row.input_tokens, row.output_tokens, row.tool_usage_count) == (40, 10, 1)
    assert (row.message_count, row.activity, row.model) == (3, "waiting", "gemini-x")
    assert row.updated_at is not None and row.updated_at.minute == 7
    assert (row.session_id, row.title, row.project_name) == (SESSION, "list it", "garden")


def test_parts_of_the_model_are_blocks(tmp_path: Path) -> None:
    """Newer versions keep thoughts and calls among the parts: each is there once."""
    parts = [
        {"text": "hm", "thought": True},
        {"text": "I look."},
        {"functionCall": {"id": "t1", "name": "ls", "args": {"dir": "."}}},
    ]
    answer = {"functionResponse": {"id": "t1", "name": "ls", "response": {"output": "a b"}}}
    picture = {"inlineData": {"mimeType": "image/png", "data": "UE5H"}}
    call, thought = _call("success"), {"subject": "hm", "description": ""}
    _, messages = stated(
        tmp_path,
        head(),
        says("u", "user", [{"text": "see"}, picture]),
        says("g", "gemini", parts, toolCalls=[call], thoughts=[thought]),
        says("r", "user", [answer]),
        says("c", "user", "<session_context>\nplace"),
        says("i", "info", "updated"),
        says("x", "novel", "?"),
    )
    assert [m.role for m in messages] == ["user", "assistant", "tool", "system", "system", "other"]
    assert [b["type"] for b in messages[0].content] == ["text", "image"]
    assert [b["type"] for b in messages[1].content] == [
        "thinking", "text", "tool_use", "tool_result"
    ]  # fmt: skip
    assert (messages[1].text, messages[2].text) == ("I look.", "a b")


def test_whose_turn_it_is(tmp_path: Path) -> None:
    """Tools that run are followed by more; what failed or was stopped waits for its person."""
    begun = [head(), says("u", "user", "go")]
    for last, expected in (
        (says("g", "gemini", "", toolCalls=[_call("executing")]), ("active", "working")),
        (says("g", "gemini", "", toolCalls=[_call("cancelled")]), ("active", "waiting")),
        (says("g", "gemini", "done"), ("active", "waiting")),
        (says("e", "error", "quota"), ("error", "waiting")),
        (says("i", "info", "Request cancelled."), ("active", "waiting")),
        (says("i", "info", [{"text": "User cancelled the request."}]), ("active", "waiting")),
        (says("i", "info", "A newer version is there."), ("active", "working")),
    ):
        row, _ = stated(tmp_path, *begun, last)
        assert (row.status, row.activity) == expected


def test_a_title_is_what_gemini_made_of_it_else_the_first_prompt(tmp_path: Path) -> None:
    """Commands are no prompts."""
    lines = [head(), says("u1", "user", "/help"), says("u2", "user", "water them")]
    assert stated(tmp_path, *lines)[0].title == "water them"
    assert stated(tmp_path, *lines, sets(summary="Garden work"))[0].title == "Garden work"


def test_a_prompt_is_a_persons_however_much_is_put_before_the_model(tmp_path: Path) -> None:
    """Contexts of hooks and files that it names stand in its content; what was typed, beside it."""
    typed: dict[str, Any] = {"displayContent": [{"text": "Prune @beds.md"}]}
    hooked = [{"text": "<hook_context>be kind</hook_context>"}, {"text": "Prune @beds.md: ..."}]
    row, (prompt,) = stated(tmp_path, head(), says("1", "user", hooked, **typed))
    assert (prompt.role, row.title) == ("user", "Prune @beds.md")
    assert "be kind" in prompt.text
    _, (context,) = stated(tmp_path, head(), says("1", "user", hooked))
    assert context.role == "system"
    document = {
        "sessionId": SESSION,
        "projectHash": "ab12",
        "messages": [message("1", "user", hooked, **typed)],
    }
    (old,) = GeminiJson().conversations(document, PurePath(NAME))
    assert old.noted.title == "Prune @beds.md"


def test_a_subagent_is_below_its_session(tmp_path: Path) -> None:
    """It knows its folder, and its session by the folder it lies in."""
    name = f"tmp/garden/chats/{SESSION}/agent-7.jsonl"
    first = head(sessionId="agent-7", kind="subagent", directories=["/work/garden"])
    row, _ = stated(tmp_path, first, says("u", "user", "explore"), name=name)
    assert (row.session_id, row.agent_id, row.cwd) == (SESSION, "agent-7", "/work/garden")
    assert row.parent_id == conversation_id(
        IDENTITY.owner_id, "gemini_cli", IDENTITY.machine, SESSION
    )
    assert row.project_name == "garden"


def test_a_file_is_claimed_by_its_first_line() -> None:
    """Another's log has none that names a session and a project's hash."""

    def claim(name: str, data: bytes) -> object:
        return GeminiLog().claim(PurePath(name), Head(data, whole=True, resting=True))

    assert claim("/x/" + NAME, head()) == Recognised("gemini_cli", SESSION, named=True)
    assert claim("/x/copy.jsonl", head()) == Recognised("gemini_cli", SESSION)
    assert claim("/x/a.jsonl", says("u", "user", "x")) is None
    assert claim("/x/a.jsonl", b'{"sessionId":"x","type":"user"}\n') is None
    assert claim("/x/a.jsonl", b"") == "unsure"


# Lists and rewinds ---------------------------------------------------------------------------


def test_a_list_of_messages_changes_those_that_it_holds(tmp_path: Path) -> None:
    """What Gemini leaves out when it compresses its context was said all the same."""
    kept = message("g1", "gemini", "long answer")
    _, messages = stated(
        tmp_path,
        head(),
        says("u1", "user", "one"),
        line(kept),
        says("u2", "user", "two"),
        sets(
            messages=[
                message("s", "user", "summary of it"),
                message("s2", "gemini", "understood"),
                message("u2", "user", "two, masked"),
                kept,
            ]
        ),
        says("g2", "gemini", "go on"),
    )
    assert [m.text for m in messages] == [
        "one", "long answer", "two, masked", "summary of it", "understood", "go on"
    ]  # fmt: skip
    places = [m.seq for m in messages]
    assert places == sorted(set(places))


def test_a_rewind_takes_a_message_and_all_behind_it_back(tmp_path: Path) -> None:
    """In the order of the last list; with their tokens and calls; and they may come again."""
    lines = [
        head(),
        says("u1", "user", "one"),
        says("g1", "gemini", "first", tokens={"input": 5, "output": 1}),
        says("u2", "user", "two"),
        says("g2", "gemini", "", toolCalls=[_call("success")], tokens={"input": 9, "output": 2}),
    ]
    row, messages = stated(tmp_path, *lines, rewind("u2"))
    assert [m.text for m in messages] == ["one", "first"]
    assert (row.message_count, row.tool_usage_count, row.input_tokens) == (2, 0, 5)
    row, messages = stated(tmp_path, *lines, rewind("u2"), says("u2", "user", "two!"))
    assert [m.text for m in messages] == ["one", "first", "two!"]
    assert row.message_count == 3
    turned = [message("u2", "user", "two"), message("u1", "user", "one")]
    _, messages = stated(tmp_path, *lines, sets(messages=turned), rewind("u1"))
    assert [m.text for m in messages] == ["first", "two", ""]
    row, messages = stated(tmp_path, *lines, rewind("nobody"))
    assert (messages, row.message_count) == ([], 0)


def test_odd_values_are_read_as_absent(tmp_path: Path) -> None:
    """Nothing in a line is promised."""
    lines = [head()]
    odd: list[Any] = [None, 7, [], {}, "x", [None, 3, {"y": 1}], True, "\ud800"]
    for place, value in enumerate(odd):
        lines += [
            says(f"a{place}", "gemini", value, toolCalls=value, thoughts=value, tokens=value),
            says(f"b{place}", "user", value, model=value),
            line({"id": f"c{place}", "type": value, "timestamp": value}),
            sets(messages=value, directories=value, summary=value, lastUpdated=value),
            line({"$set": value}),
            line({"$rewindTo": value}),
            line({"id": value}),
        ]
    row, _ = stated(tmp_path, *lines)
    assert row.session_id == SESSION


def test_secrets_are_replaced_and_counted_also_in_ids(tmp_path: Path) -> None:
    """A message that a list holds is found again by its own id."""
    key = "sk-ant-" + "a1B2c3D4" * 4
    path = tmp_path / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(head() + sets(messages=[message(key, "user", f"my key is {key}")]))
    follower = follow(path)
    read_all(follower, path)
    _, (one,) = rows(follower, path)
    assert one.text.startswith("my key is [redacted:")
    (fold,) = follower.transcript.conversations.values()
    assert len(fold.secrets) == 1


# Growth --------------------------------------------------------------------------------------

_ids = st.sampled_from(["a", "b", "c", "d"])
_line = st.one_of(
    st.builds(lambda i, t: says(i, "user", t), _ids, st.text(max_size=8)),
    st.builds(
        lambda i, n: says(i, "gemini", f"say {n}", tokens={"output": n}), _ids, st.integers(0, 9)
    ),
    st.builds(lambda i: says(i, "gemini", "", toolCalls=[_call("success")]), _ids),
    st.builds(rewind, _ids),
    st.builds(
        lambda ids: sets(messages=[message(i, "user", f"listed {i}") for i in ids]),
        st.lists(_ids, max_size=4),
    ),
    st.sampled_from([sets(summary="S"), b"\n", b"{torn\n", b"{}\n"]),
)
_file = st.lists(_line, max_size=12).map(lambda lines: head() + b"".join(lines))
_cuts = st.lists(st.integers(0, 4000), max_size=6)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder for files that are written over and over."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def _all(follower: Follower, path: Path) -> list[dict[str, Any]]:
    """Return every row of the file, of messages that were taken back too."""
    sent: dict[UUID, dict[str, Any]] = {}
    follower.send_again()
    with OpenFile(str(path)) as file:
        while batch := follower.next_batch(follower.sent, file, 3, 10**6):
            sent |= {row.id: row.to_row() for row in batch.messages}
            sent |= {row.id: row.to_row() for row in batch.totals}
            follower.advance(follower.sent, batch)
    return sorted(sent.values(), key=lambda row: str(row["id"]))


@given(_file, _cuts)
@settings(deadline=None)
def test_any_growth_of_the_file_ends_in_the_rows_of_one_read(
    folder: Path, data: bytes, cuts: list[int]
) -> None:
    """In every column, of rows that were taken back too; fed twice nothing changes."""
    check_growth(folder, NAME, data, cuts, follow, _all)


# To the last listener ------------------------------------------------------------------------

_TALK = [
    head(),
    says("u1", "user", "one"),
    says("g1", "gemini", "first"),
    says("u2", "user", "two"),
    says("g2", "gemini", "second"),
]


def _write(folder: Path, *lines: bytes) -> Path:
    path = folder / "projects" / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(lines))
    return path


async def _backfill(folder: Path, store: MemoryStore, state: str = "state") -> int:
    async with ingest(folder, store, state_dir=folder / state) as river:
        return (await river.backfill()).changed


async def _is_equal(folder: Path, store: MemoryStore, state: str = "state") -> bool:
    async with ingest(folder, store, state_dir=folder / state) as river:
        found = [one async for one in river.verify()]
    return [one.state for one in found] == ["equal"]


async def test_a_rewind_while_it_runs_reaches_listeners_and_the_store(tmp_path: Path) -> None:
    """`message_deleted` for each message, once; what comes after it is new."""
    path, store, heard = _write(tmp_path, *_TALK), MemoryStore(), Heard()
    async with running(ingest(tmp_path, store, heard)):
        await until(lambda: len(texts(store)) == 4)
        with path.open("ab") as file:
            file.write(rewind("u2") + says("u3", "user", "three"))
        await until(lambda: texts(store) == ["one", "first", "three"])
    gone = [c.row for c in heard.changes if isinstance(c.row, Message) and c.row.deleted_at]
    assert sorted(row.text for row in gone) == ["second", "two"]
    (row,) = store.conversations.values()
    assert row.message_count == 3


async def test_a_rewind_between_two_runs_is_found_at_the_next(tmp_path: Path) -> None:
    """The checkpoint lies before it; nothing else is written."""
    path, store = _write(tmp_path, *_TALK), MemoryStore()
    await _backfill(tmp_path, store)
    with path.open("ab") as file:
        file.write(rewind("u2"))
    changed = await _backfill(tmp_path, store)
    assert texts(store) == ["one", "first"]
    assert changed == 3  # two messages, and their conversation
    assert await _is_equal(tmp_path, store)
    assert await _backfill(tmp_path, store) == 0


@pytest.mark.parametrize("left", ["u2", "u1"], ids=["some", "nothing"])
async def test_a_rewind_read_from_an_empty_state_directory_changes_no_row(
    tmp_path: Path, left: str
) -> None:
    """Also where nothing is left of the conversation: it does not become another one."""
    _write(tmp_path, *_TALK, rewind(left))
    store = MemoryStore()
    await _backfill(tmp_path, store)
    before = dict(store.messages), dict(store.conversations)
    assert await _backfill(tmp_path, store, "empty") == 0
    assert (store.messages, store.conversations) == before
    assert len(store.conversations) == 1
    assert await _is_equal(tmp_path, store, "another")


async def test_a_rewind_of_what_was_not_known_to_be_stored_counts_from_no_new_base(
    tmp_path: Path,
) -> None:
    """An acknowledgement was lost, then the message was taken back: that is no rewritten file."""
    path, store = _write(tmp_path, *_TALK[:3]), MemoryStore()
    await _backfill(tmp_path, store)
    path.write_bytes(b"".join(_TALK))
    known = (tmp_path / "state").rename(tmp_path / "before")
    await _backfill(tmp_path, store)
    with path.open("ab") as file:
        file.write(rewind("u2"))
    await _backfill(tmp_path, store, known.name)
    assert texts(store) == ["one", "first"]
    assert max(row.revision for row in store.messages.values()) < path.stat().st_size + 1
    assert await _is_equal(tmp_path, store, known.name)


async def test_a_rewind_reaches_ws_and_a_real_database(
    tmp_path: Path, supabase: SupabaseProject, member: Owner
) -> None:
    """The client hears `message_deleted`; the rows stay, marked; `verify` finds them equal."""
    path = _write(tmp_path, *_TALK)
    settings: dict[str, Any] = {
        "state_dir": tmp_path / "state", "supabase_url": supabase.url,
        "supabase_key": supabase.secret_key, "owner_id": member.id, "machine": "test",
    }  # fmt: skip
    bridge = Bridge([tmp_path / "projects"], **settings)
    async with asyncio.timeout(30), bridge, Server("127.0.0.1", 0) as server:
        await server.start(Starlette(routes=bridge.routes))
        async with websockets.connect(f"ws://{server.address}/ws") as ws:
            heard = [json.loads(await ws.recv())]
            with path.open("ab") as file:
                file.write(rewind("u2"))
            while sum(event["type"] == "message_deleted" for event in heard) < 2:
                heard.append(json.loads(await ws.recv()))
        headers = {"apikey": supabase.secret_key}
        asked = f"owner_id=eq.{member.id}&select=text,deleted_at&order=seq"
        async with httpx.AsyncClient(base_url=supabase.url, headers=headers) as http:
            rows: list[dict[str, Any]] = []
            while [row["deleted_at"] is None for row in rows] != [True, True, False, False]:
                rows = (await http.get(f"/rest/v1/messages?{asked}")).json()
    assert [row["text"] for row in rows] == ["one", "first", "two", "second"]
    async with Ingest(paths=[tmp_path / "projects"], **settings) as river:
        assert [one.state async for one in river.verify()] == ["equal"]
