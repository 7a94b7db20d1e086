"""Formats whose files are rewritten whole: what their examples, and real files, state."""

from __future__ import annotations

import asyncio
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

import pytest

from conv_realtime.core.format import Format
from conv_realtime.core.formats.chatgpt import ChatGpt
from conv_realtime.core.formats.claude_ai import ClaudeAi
from conv_realtime.core.formats.continue_dev import Continue
from conv_realtime.core.formats.gemini_json import GeminiJson
from conv_realtime.ingest import Ingest, Summary
from conv_realtime.models import Conversation, Message
from conv_realtime.testing import MemoryStore
from conv_realtime.testing.formats.examples import built_in
from conv_realtime.testing.formats.reading import Reading, Stated, folder
from tests.ingest.folding import IDENTITY
from tests.samples import gemini_states


def _read(form: Format) -> Stated:
    (example,) = [one for one in built_in(form.source) if form.is_named(one.name)]
    with folder() as place:
        return asyncio.run(Reading(form, place, example.name).read(example.states))


def _by_title(stated: Stated) -> dict[str, tuple[Conversation, list[Message]]]:
    found = {}
    for row in stated.conversations.values():
        mine = [m for m in stated.live.messages.values() if m.conversation_id == row.id]
        found[row.title or ""] = (row, sorted(mine, key=lambda message: message.seq))
    return found


async def _backfill(folder: Path, store: MemoryStore) -> Summary:
    async with Ingest(
        store=store,
        state_dir=folder / "state",
        owner_id=IDENTITY.owner_id,
        machine="m",
        paths=[folder / "files"],
    ) as river:
        return await river.backfill()


# Gemini CLI --------------------------------------------------------------------------------


def test_a_gemini_response_has_what_it_thought_called_and_got() -> None:
    """In one message, whose text is only what it says; tokens as in the log of newer versions."""
    stated = _read(GeminiJson())
    ((row, messages),) = _by_title(stated).values()
    assert (row.title, row.project_name) == ("Which beds are sown?", "garden")
    assert [m.role for m in messages] == ["user", "assistant", "assistant", "system"]
    assert [b["type"] for b in messages[1].content] == ["thinking", "tool_use", "tool_result"]
    assert (messages[1].text, messages[1].content[2]["content"]) == ("", "carrots\npeas")
    assert messages[1].usage == {
        "input_tokens": 200,
        "output_tokens": 50,
        "cache_read_tokens": 1000,
        "reasoning_tokens": 30,
    }
    assert [m.revision for m in messages] == [1, 2, 1, 1]
    gone = [m for m in stated.messages.values() if m.deleted_at is not None]
    assert sorted(m.text for m in gone) == ["And the beans?", "Not yet."]
    assert {m.revision for m in gone} == {3}


def test_a_byte_order_mark_costs_no_document(tmp_path: Path) -> None:
    """An editor put one in front."""
    (example,) = [one for one in built_in("gemini_cli") if GeminiJson().is_named(one.name)]
    for mark in (b"", b"\xef\xbb\xbf"):
        path = tmp_path / mark.hex() / "files" / example.name
        path.parent.mkdir(parents=True)
        path.write_bytes(mark + example.states[0])
    plain, marked = (asyncio.run(_backfill(tmp_path / f, MemoryStore())) for f in ("", "efbbbf"))
    assert plain.messages == marked.messages > 0
    assert marked.skipped == 0


@pytest.mark.parametrize("states", gemini_states(), ids=lambda _: "f7633853")
def test_two_states_of_a_real_gemini_session(tmp_path: Path, states: tuple[Path, Path]) -> None:
    """Eight messages, then thirteen, one of them changed in place: six rows are written."""
    store = MemoryStore()
    path = tmp_path / "files" / "session.json"
    path.parent.mkdir()
    counts = []
    for state in states:
        shutil.copy(state, path)
        summary = asyncio.run(_backfill(tmp_path, store))
        counts.append((summary.messages, summary.changed))
    assert counts == [(8, 10), (13, 8)]  # with a conversation and a project each
    rows = sorted(store.messages.values(), key=lambda row: row.seq)
    assert [row.seq for row in rows] == list(range(13))
    assert [row.revision for row in rows] == [1] * 7 + [2] + [1] * 5
    real = json.loads(states[1].read_bytes())
    (conversation,) = store.conversations.values()
    spoken = [m for m in real["messages"] if m["type"] in ("user", "gemini")]
    assert conversation.message_count == len(spoken)
    assert conversation.tool_usage_count == sum(len(m.get("toolCalls", [])) for m in spoken)
    assert conversation.cache_read_tokens == sum(m["tokens"]["cached"] for m in spoken[1:])


@pytest.mark.parametrize("states", gemini_states(), ids=lambda _: "f7633853")
def test_states_of_a_real_session_beside_each_other(
    tmp_path: Path, states: tuple[Path, Path]
) -> None:
    """The one that was written last states it, in whatever order they are read."""
    store = MemoryStore()
    for place, state in enumerate(reversed(states)):
        target = tmp_path / "files" / f"{place}.json"
        target.parent.mkdir(exist_ok=True)
        shutil.copy(state, target)
    summary = asyncio.run(_backfill(tmp_path, store))
    assert (summary.messages, summary.skipped) == (13, 1)
    assert {row.revision for row in store.messages.values()} == {1}


@pytest.mark.parametrize("resumed_while_known", [True, False])
def test_a_session_that_is_resumed_goes_on_in_its_log(
    tmp_path: Path, resumed_while_known: bool
) -> None:
    """Gemini CLI 0.39 writes all of the `.json` into a `.jsonl`: one conversation, once."""
    (example,) = [one for one in built_in("gemini_cli") if one.name.endswith(".json")]
    old, store = tmp_path / "files" / example.name, MemoryStore()
    old.parent.mkdir(parents=True)
    old.write_bytes(example.whole)
    if resumed_while_known:
        asyncio.run(_backfill(tmp_path, store))
        assert len(store.messages) == 4
    record = json.loads(example.whole)
    messages = record.pop("messages")
    more = {**messages[0], "id": "m-9", "content": "Thank you."}
    lines = [record, *messages, {"$set": {"sessionId": record["sessionId"]}}, more]
    old.with_suffix(".jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    summary = asyncio.run(_backfill(tmp_path, store))
    assert [skip.reason for skip in summary.skips] == [f"copy of {old.with_suffix('.jsonl')}"]
    assert len(store.conversations) == 1
    live = sorted(store.messages.values(), key=lambda row: row.seq)
    assert [row.text for row in live][-1] == "Thank you."
    assert (len(live), all(row.deleted_at is None for row in live)) == (5, True)
    assert asyncio.run(_backfill(tmp_path, store)).changed == 0


# Continue ----------------------------------------------------------------------------------


def test_a_session_of_continue_has_thoughts_tools_and_what_a_prompt_was_given() -> None:
    """In the messages that they are of, in each state of the file; the folder is no address."""
    stated = _read(Continue())
    ((row, messages),) = _by_title(stated).values()
    assert (row.title, row.cwd, row.project_name) == ("Dry beds", "/work/my garden", "my garden")
    assert (row.model, row.message_count, row.tool_usage_count) == ("Test Model", 4, 1)
    assert (row.activity, row.metadata) == ("working", {"cost_usd": 0.0125})
    assert [(m.role, m.text) for m in messages] == [
        ("user", "Which beds are dry?"),
        ("assistant", "I look."),
        ("assistant", "Bed 3, with the roses."),
        ("user", "Water it."),
    ]
    assert [[b["type"] for b in m.content] for m in messages] == [
        ["text", "document"], ["thinking", "text", "tool_use", "tool_result"],
        ["thinking", "text"], ["text"],
    ]  # fmt: skip
    assert messages[0].content[1]["title"] == "moisture.txt"
    assert messages[1].content[2]["input"] == {"filepath": "beds.txt"}
    assert messages[1].content[3]["content"] == "bed 3: roses"
    assert messages[2].created_at == datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    assert [m.revision for m in messages] == [1, 2, 1, 1]
    assert all(m.deleted_at is None for m in stated.messages.values())


_CALL = {"id": "c", "type": "function", "function": {"name": "ls", "arguments": "{not json"}}


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([{"role": "user", "content": "q"}], [("user", "q", ["text"])]),
        ([{"role": "thinking", "content": "hm"}], [("assistant", "", ["thinking"])]),
        (
            [{"role": "thinking", "content": "hm"}, {"role": "thinking", "content": "so"},
             {"role": "assistant", "content": "a"}],
            [("assistant", "a", ["thinking", "thinking", "text"])],
        ),
        (
            [{"role": "assistant", "content": "", "toolCalls": [_CALL]},
             {"role": "tool", "content": "files", "toolCallId": "c"}],
            [("assistant", "", ["tool_use"]), ("tool", "files", ["tool_result"])],
        ),
        ([{"role": "system", "content": "be kind"}], [("system", "be kind", ["text"])]),
        ([{"role": "user", "content": "  "}, None, 7, {"role": "user"}], []),
        (
            [{"role": "user", "content": [{"type": "imageUrl", "imageUrl": {"url": "http://x"}}]}],
            [("user", "", ["image"])],
        ),
    ],
)  # fmt: skip
def test_what_messages_of_continue_say(
    tmp_path: Path, history: list[Any], expected: list[tuple[str, str, list[str]]]
) -> None:
    """Without ids, as its command line writes them: their place names them."""
    path = tmp_path / "files" / "s.json"
    path.parent.mkdir()
    items = [{"message": message, "contextItems": []} for message in history]
    record = {
        "sessionId": "s",
        "title": "New Session",
        "workspaceDirectory": "/w",
        "history": items,
    }
    path.write_text(json.dumps(record))
    store = MemoryStore()
    asyncio.run(_backfill(tmp_path, store))
    rows = sorted(store.messages.values(), key=lambda row: row.seq)
    assert [(r.role, r.text, [b["type"] for b in r.content]) for r in rows] == expected
    assert "New Session" not in {row.title for row in store.conversations.values()}


@pytest.mark.parametrize(
    ("stated", "folder"),
    [
        ("/work/garden", "/work/garden"),
        ("file:///work/my%20garden", "/work/my garden"),
        ("file:///c%3A/work", "c:/work"),
        ("vscode-remote://wsl%2Bubuntu/work", "vscode-remote://wsl%2Bubuntu/work"),
        ("", None),
    ],
)
def test_where_a_session_of_continue_runs(stated: str, folder: str | None) -> None:
    """Its editors state an address, on Windows with a drive."""
    record = {"sessionId": "s", "title": "t", "workspaceDirectory": stated, "history": []}
    (found,) = Continue().conversations(record, PurePath("s.json"))
    assert found.noted.cwd == folder


# Exports -----------------------------------------------------------------------------------


def test_a_chatgpt_conversation_is_the_branch_that_is_shown() -> None:
    """Without hidden messages and other branches; another branch takes this one's place."""
    stated = _read(ChatGpt())
    found = _by_title(stated)
    assert set(found) == {"Sowing beans", "Compost"}
    row, messages = found["Sowing beans"]
    assert [m.text for m in messages] == [
        "When do I sow broad beans?",
        "An answer that was given again.",
    ]
    assert (row.model, row.message_count) == ("gpt-5", 2)
    gone = [m for m in stated.messages.values() if m.deleted_at is not None]
    assert [m.role for m in sorted(gone, key=lambda m: m.seq)] == [
        "assistant", "assistant", "tool", "assistant", "user", "assistant",
    ]  # fmt: skip
    blocks = {b["type"]: b for m in gone for b in m.content}
    assert blocks["thinking"]["thinking"] == "Climate\n\nIt depends on frost."
    assert blocks["tool_use"]["name"] == "web.run"
    assert blocks["tool_use"]["input"] == {"search_query": [{"q": "broad beans frost"}]}
    assert blocks["tool_result"]["tool_use_id"] == blocks["tool_use"]["id"]
    assert blocks["image"]["source"]["url"] == "file-service://file-1"


def _node(id: str, parent: str | None, role: str, at: float | None) -> dict[str, Any]:
    content = {"content_type": "text", "parts": [f"says {id}"]}
    message = {"id": id, "author": {"role": role}, "create_time": at, "content": content}
    return {"id": id, "parent": parent, "message": message}


@pytest.mark.parametrize(
    ("current", "expected"),
    [("b", ["says a", "says b"]), ("gone", ["says a", "says c"]), (None, ["says a", "says c"])],
)
def test_a_chatgpt_tree_may_be_broken(tmp_path: Path, current: str | None, expected: Any) -> None:
    """Without a node that is there, the newest message's branch is taken; a circle ends."""
    nodes = [_node("a", "b", "user", 1.0), _node("b", "a", "assistant", 2.0)]
    nodes.append(_node("c", "a", "assistant", 3.0))
    item = {
        "id": "x",
        "title": "T",
        "mapping": {n["id"]: n for n in nodes},
        "current_node": current,
    }
    path = tmp_path / "files" / "conversations.json"
    path.parent.mkdir()
    path.write_text(json.dumps([item]))
    store = MemoryStore()
    asyncio.run(_backfill(tmp_path, store))
    texts = [row.text for row in sorted(store.messages.values(), key=lambda row: row.seq)]
    assert texts[-2:] == expected or texts == expected


def test_a_claude_ai_conversation_is_what_leads_to_its_newest_message() -> None:
    """With the texts of attached files, and calls paired with results where ids are missing."""
    found = _by_title(_read(ClaudeAi()))
    assert set(found) == {"Shade plants", "Hello"}
    row, messages = found["Shade plants"]
    assert [m.text for m in messages] == [
        "What grows in this shade?", "Ferns, and rhubarb.", "Which rhubarb?", "Victoria.",
    ]  # fmt: skip
    assert messages[0].content[0]["source"]["data"] == "north wall"
    assert messages[0].metadata["files"] == ["plan.txt"]
    call, result = messages[1].content[1:3]
    assert call["id"] == result["tool_use_id"]
    assert (row.tool_usage_count, row.activity) == (1, "waiting")
    assert [m.text for m in found["Hello"][1]] == ["Hello", "Hello! How can I help?"]


def test_other_json_is_skipped_by_its_first_bytes(tmp_path: Path) -> None:
    """A folder full of it is no transcript, and is told once for each file."""
    files = tmp_path / "files"
    files.mkdir()
    (files / "a.json").write_text(json.dumps({"name": "x", "list": ["y" * 100_000]}))
    (files / "b.json").write_text(json.dumps([1, 2, 3]))
    (files / "c.json").write_text(json.dumps([{"id": 1, "messages": []}]))
    (files / "package.json").write_text("{}")
    summary = asyncio.run(_backfill(tmp_path, MemoryStore()))
    assert {Path(skip.path).name: skip.reason for skip in summary.skips} == dict.fromkeys(
        ("a.json", "b.json", "c.json"), "not a transcript of a known assistant"
    )
