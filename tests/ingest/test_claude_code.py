"""What a Claude Code transcript says, by invented files of every generation."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from conv_realtime.core.format import Head, Recognised
from conv_realtime.core.formats.claude_kin import IFlow
from conv_realtime.models import Conversation, Message, conversation_id, message_id
from tests.ingest.folding import CLAUDE, IDENTITY, stated
from tests.ingest.lines import SESSION, assistant, calls, line, result, says, user, uuid

_OPENED = "<ide_opened_file>The user opened the file beds.md in the IDE.</ide_opened_file>"
_REMINDER = "<system-reminder>be kind</system-reminder>"
_QUESTION = {"type": "tool_use", "id": "t", "name": "AskUserQuestion", "input": {}}
_QUEUED = {"type": "queued_command", "prompt": "go"}
_GOES_ON = "This session is being continued from a previous conversation that ran out of context."


def _write(folder: Path, *lines: bytes, name: str = f"{SESSION}.jsonl") -> Path:
    path = folder / "-work-garden" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(lines))
    return path


def _local(command: str) -> bytes:
    return line("system", "z", subtype="local_command", content=command)


def _read(folder: Path, *lines: bytes) -> tuple[Conversation, list[Message]]:
    conversations, messages = stated(_write(folder, *lines))
    assert len(conversations) == 1
    return conversations[0], messages


def test_the_lines_of_one_response_are_one_message(tmp_path: Path) -> None:
    """Blocks add up in order, tokens are the maximum of the lines and never their sum."""
    conversation, messages = _read(
        tmp_path,
        user("q"),
        assistant("a", "msg_1", says("first"), usage={"input_tokens": 9, "output_tokens": 2}),
        user("r", [result("t0")]),
        assistant("b", "msg_1", calls("t1"), usage={"input_tokens": 9, "output_tokens": 70}),
        assistant("c", "msg_1", calls("t2"), usage={"input_tokens": 9, "output_tokens": 70}),
    )
    merged = next(row for row in messages if row.role == "assistant")
    assert [block["type"] for block in merged.content] == ["text", "tool_use", "tool_use"]
    assert merged.usage == {"input_tokens": 9, "output_tokens": 70}
    assert (conversation.input_tokens, conversation.output_tokens) == (9, 70)
    assert (conversation.message_count, conversation.tool_usage_count) == (2, 2)


def test_what_an_advisor_costs_is_counted_with_whom_it_advised(tmp_path: Path) -> None:
    """Its tokens are stated apart from the response's own, which sum up all other iterations."""
    asked = {"input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": 7}
    iterations = [
        {"type": "message", "input_tokens": 1, "output_tokens": 30},
        {"type": "advisor_message", "model": "claude-test-2", **asked},
        {"type": "message", "input_tokens": 1, "output_tokens": 40},
        "odd",
    ]
    own = {"input_tokens": 2, "output_tokens": 70}
    row, messages = _read(
        tmp_path,
        assistant("a", "msg_1", says("I ask."), usage={"input_tokens": 1, "output_tokens": 30}),
        assistant("b", "msg_1", says("Done."), usage={**own, "iterations": iterations}),
        assistant("c", "msg_1", calls("t"), usage={**own, "iterations": iterations}),
    )
    assert (row.input_tokens, row.output_tokens, row.cache_read_tokens) == (102, 90, 7)
    assert messages[0].usage == {
        "input_tokens": 102,
        "output_tokens": 90,
        "cache_read_tokens": 7,
    }


def test_a_messages_place_is_its_first_line_and_its_revision_the_last(tmp_path: Path) -> None:
    """`seq` orders a conversation for ever; `revision` rises with each line merged."""
    lines = [assistant("a", "msg_1"), user("q"), assistant("b", "msg_1", calls("t"))]
    _, (merged, prompt) = _read(tmp_path, *lines)
    assert (merged.seq, merged.revision) == (0, len(b"".join(lines)) - 1)
    assert prompt.seq == len(lines[0])
    assert prompt.revision == len(lines[0] + lines[1]) - 1


@pytest.mark.parametrize(
    "time", ["0001-01-01T00:00:00Z", "9999-12-31T23:00:00Z", -62135596800, 253402300000000]
)
def test_what_the_database_would_refuse_is_not_stated(tmp_path: Path, time: object) -> None:
    """Endless names, times at the edges of the calendar and absurd numbers hold up no file."""
    row, (prompt, response) = _read(
        tmp_path,
        user("q", cwd="/" + "c" * 2_000_000, gitBranch="b" * 2_000_000, timestamp=time),
        assistant(
            "a",
            "msg_1",
            {**calls("t"), "input": {"n": 1e305, "m": 10**301}},
            model="m" * 2_000_000,
            usage={"input_tokens": -5, "output_tokens": 10**30, "cache_read_input_tokens": 3},
            timestamp=time,
        ),
    )
    longest = max(len(name or "") for name in (row.cwd, row.git_branch, row.model, response.model))
    assert longest == 100_000
    assert (row.created_at, row.updated_at, prompt.created_at) == (None, None, None)
    assert response.usage == {"cache_read_tokens": 3}
    assert response.content[0]["input"] == {"n": None, "m": None}


def test_ids_follow_from_what_the_file_says(tmp_path: Path) -> None:
    """Anybody can compute them: owner, source, machine, session, and the transcript's own ids."""
    conversation, messages = _read(
        tmp_path, user("q"), assistant("a", "msg_1"), user("n", uuid=...)
    )
    expected = conversation_id(IDENTITY.owner_id, "claude_code", IDENTITY.machine, SESSION)
    assert conversation.id == expected
    natives = [uuid("q"), "msg_1", f"@{messages[2].seq}"]
    assert [row.id for row in messages] == [message_id(expected, native) for native in natives]


@pytest.mark.parametrize(
    ("record", "role"),
    [
        (user("x", "please"), "user"),
        (user("x", [says("please")]), "user"),
        (user("x", [result("t")]), "tool"),
        (user("x", [result("t"), says("and also")]), "user"),
        (user("x", "caveat", isMeta=True), "system"),
        (user("x", "summary", isCompactSummary=True), "system"),
        (user("x", "[Request interrupted by user]"), "system"),
        (user("x", [says(f"{_GOES_ON} The conversation is summarized below: roses.")]), "system"),
        (user("x", "<local-command-stdout>3 files</local-command-stdout>"), "system"),
        (user("x", "<agent-notification>\n<status>completed</status>"), "system"),
        (user("x", "<bash-notification>\n<status>completed</status>"), "system"),
        (user("x", [says("Stop hook feedback:\n- [check.sh]: water first")]), "system"),
        (user("x", "<command-name>/review</command-name>"), "user"),
        (user("x", "go on", origin={"kind": "human"}, promptSource="typed"), "user"),
        (user("x", "go on", promptSource="sdk"), "user"),
        (user("x", "go on", origin={}, promptSource=7), "user"),
        (user("x", "another session says", origin={"kind": "peer"}), "system"),
        (user("x", "<tick>"), "system"),
        (user("x", "go on", promptSource="system"), "system"),
        (user("x", "shown", isVisibleInTranscriptOnly=True), "system"),
        (user("x", [result("t")], origin={"kind": "peer"}), "tool"),
        (user("x", "go on", isSidechain=True, origin={"kind": "agent"}), "user"),
        (user("x", [says(_OPENED), says("Prune them")]), "user"),
        (user("x", [says(_OPENED)]), "system"),
        (user("x", f"{_REMINDER}\n\nPrune them"), "user"),
        (user("x", [says(""), {"type": "image", "source": {}}]), "user"),
        (assistant("x", "m"), "assistant"),
        (assistant("x", "m", model="<synthetic>"), "system"),
        (line("system", "x", subtype="compact_boundary", content="compacted"), "system"),
        (line("system", "x", subtype="api_error", error={"status": 529}), "system"),
        (line("attachment", "x", attachment=_QUEUED), "user"),
        (line("attachment", "x", attachment=_QUEUED | {"origin": {"kind": "human"}}), "user"),
        (line("attachment", "x", attachment=_QUEUED | {"origin": {"kind": "peer"}}), "system"),
        (line("attachment", "x", attachment=_QUEUED | {"isMeta": True}), "system"),
        (line("hologram", "x", beam=1), "other"),
    ],
)
def test_a_record_has_the_role_of_who_speaks(tmp_path: Path, record: bytes, role: str) -> None:
    """People, models, tools and the client are told apart; an unknown type is kept."""
    _, (message,) = _read(tmp_path, record)
    assert message.role == role


@pytest.mark.parametrize(
    "record",
    [
        line("progress", "x", data={"type": "hook_progress"}),
        line("file-history-snapshot", "x", uuid=..., snapshot={}),
        line("queue-operation", "x", uuid=..., operation="enqueue", content="later"),
        line("system", "x", subtype="turn_duration", durationMs=5),
        line("system", "x", subtype="stop_hook_summary", hookCount=1),
        line("attachment", "x", attachment={"type": "task_reminder"}),
        line("hologram", "x", uuid=...),
        line("content-replacement", "x", replacements=[{"replacement": "a preview"}]),
        line("tag", "x", tag="roses"),
        line("continued-in", "x", continuedInSessionId=uuid("other")),
    ],
)
def test_bookkeeping_makes_no_row(tmp_path: Path, record: bytes) -> None:
    """What neither a person nor a model said is no message, and alone no conversation."""
    assert stated(_write(tmp_path, record)) == ([], [])


def _titled(folder: Path, *lines: bytes) -> str | None:
    return _read(folder, *lines)[0].title


def test_the_title_has_a_precedence(tmp_path: Path) -> None:
    """Custom, then generated, then the agent's name, then a summary of this file, then a prompt."""
    prompt = user("q", "Plant\n  the   roses")
    summary = line("summary", "s", uuid=..., sessionId=..., summary="Roses", leafUuid=uuid("q"))
    agent = line("agent-name", "n", uuid=..., agentName="gardener")
    generated = line("ai-title", "g", uuid=..., aiTitle="Rose planting")
    custom = line("custom-title", "c", uuid=..., customTitle="My roses")
    assert _titled(tmp_path, prompt) == "Plant the roses"
    assert _titled(tmp_path, summary, prompt) == "Roses"
    assert _titled(tmp_path, prompt, agent, summary) == "gardener"
    assert _titled(tmp_path, prompt, generated, agent) == "Rose planting"
    assert _titled(tmp_path, custom, prompt, generated) == "My roses"


def test_a_foreign_summary_is_no_title(tmp_path: Path) -> None:
    """Most summaries at the head of a file name another session."""
    foreign = line("summary", "s", uuid=..., summary="Tulips", leafUuid=uuid("elsewhere"))
    assert _titled(tmp_path, foreign, user("q", "Plant the roses")) == "Plant the roses"


def test_what_the_client_typed_is_no_title(tmp_path: Path) -> None:
    """Commands, reminders and compaction summaries say nothing about the conversation."""
    lines = [
        user("a", "<command-name>/clear</command-name>"),
        user("e", "<bash-input>ls</bash-input>"),
        user("b", "<system-reminder>be kind</system-reminder>"),
        user("c", "the story so far", isCompactSummary=True),
        user("d", "x" * 300),
    ]
    title = _titled(tmp_path, *lines)
    assert title is not None and len(title) == 100 and title.endswith("x…")


@pytest.mark.parametrize(
    ("first", "title", "next_title"),
    [
        (("prune", "the roses"), "/prune the roses", "/prune the roses"),
        (("prune", "<all>\nroses"), "/prune <all> roses", "/prune <all> roses"),
        (("init", None), "/init", "Plant the roses"),
        (("init", ""), "/init", "Plant the roses"),
        ("<bash-input>ls -l</bash-input>", "! ls -l", "Plant the roses"),
        ("<command-name>/model</command-name>\n<command-args>x</command-args>", None, None),
    ],
)
def test_a_command_is_a_title(
    tmp_path: Path, first: Any, title: str | None, next_title: str | None
) -> None:
    """One with arguments as any prompt is; another where no prompt follows; the client's never."""
    if isinstance(first, tuple):
        name, given = first
        first = f"<command-message>{name}</command-message>\n<command-name>/{name}</command-name>"
        first += f"\n<command-args>{given}</command-args>" if given is not None else ""
    assert _titled(tmp_path, user("a", first)) == title
    following = _titled(tmp_path, user("a", first), user("b", "Plant the roses"))
    assert following == (next_title or "Plant the roses")


@pytest.mark.parametrize(
    "prompt",
    [
        [says(_OPENED), says("Prune the roses")],
        [says(_REMINDER), says(_OPENED), says("Prune the roses")],
        f"{_OPENED}\n{_REMINDER}\n\nPrune the roses",
        '\n\n<pasted_content id="9b65">\nPrune the roses\n</pasted_content id="9b65">\n',
    ],
)
def test_what_an_editor_puts_before_a_prompt_is_no_title(tmp_path: Path, prompt: object) -> None:
    """A prompt from an editor begins with which file is open, and what is marked in it."""
    assert _titled(tmp_path, user("a", prompt)) == "Prune the roses"


def test_notes_without_end_cost_no_time(tmp_path: Path) -> None:
    """A text of nothing but notes is left after some of them."""
    notes = "<ide_selection></ide_selection>" * 100_000
    began = time.process_time()
    assert _titled(tmp_path, user("a", notes)) is not None
    assert time.process_time() - began < 10


def test_a_secret_in_the_first_prompt_does_not_become_the_title(tmp_path: Path) -> None:
    """The prompt is cleaned before it is cut."""
    secret = "sk-" + "ant-" + "a1B2" * 10
    title = _titled(tmp_path, user("q", "y" * 80 + " " + secret))
    assert title is not None and "sk-" not in title


def test_the_project_is_where_the_session_began(tmp_path: Path) -> None:
    """`cwd` names the project; the folder's name only where no record says it."""
    conversation, _ = _read(tmp_path, user("q"), user("r", cwd="/home/ada/garden/shed"))
    assert (conversation.project_name, conversation.cwd) == ("garden", "/home/ada/garden/shed")
    conversation, _ = _read(tmp_path, user("q", cwd=...))
    assert (conversation.project_name, conversation.cwd) == ("-work-garden", None)


def test_a_subagents_file_is_a_child_conversation(tmp_path: Path) -> None:
    """Flat or in the folder `subagents`: agent id from the name, parent = the session."""
    parent = conversation_id(IDENTITY.owner_id, "claude_code", IDENTITY.machine, SESSION)
    record = user("q", isSidechain=True, agentId="ab12")
    for name in ("agent-ab12.jsonl", f"{SESSION}/subagents/agent-ab12.jsonl"):
        (child,), _ = stated(_write(tmp_path, record, name=name))
        assert (child.agent_id, child.session_id, child.parent_id) == ("ab12", SESSION, parent)
        assert child.project_name == "garden"


def test_an_agent_of_a_workflow_is_a_child_and_its_journal_is_no_transcript(tmp_path: Path) -> None:
    """They lie a folder deeper; the session is still the one whose folder it is."""
    inside = f"{SESSION}/subagents/workflows/wf_1"
    path = _write(tmp_path, user("q", isSidechain=True), name=f"{inside}/agent-ab12.jsonl")
    (child,), _ = stated(path)
    assert (child.agent_id, child.session_id) == ("ab12", SESSION)
    assert not CLAUDE.is_named(str(path.with_name("journal.jsonl")))
    assert not CLAUDE.is_named(str(path.with_name("agent-ab12.meta.json")))


def test_a_fork_is_a_child_with_messages_and_tokens_of_its_own(tmp_path: Path) -> None:
    """What it copied keeps its ids within the fork, and counts in both conversations."""
    lines = [user("q"), assistant("a", "msg_1"), user("r")]
    origin, told = _read(tmp_path, *lines)
    copied: dict[str, Any] = {
        "session": uuid("fork"),
        "forkedFrom": {"sessionId": SESSION, "messageUuid": uuid("q")},
    }
    copies = [user("q", **copied), assistant("a", "msg_1", **copied)]
    path = _write(tmp_path, *copies, user("s", session=uuid("fork")), name=f"{uuid('fork')}.jsonl")
    (fork,), messages = stated(path)
    assert (fork.parent_id, fork.session_id) == (origin.id, uuid("fork"))
    assert (fork.message_count, fork.output_tokens) == (3, origin.output_tokens)
    assert {row.id for row in messages}.isdisjoint(row.id for row in told)


def test_a_cost_that_old_versions_stated_is_kept(tmp_path: Path) -> None:
    """With its message; nobody prices the others."""
    _, (old, new) = _read(tmp_path, assistant("a", "m1", costUSD=0.0125), assistant("b", "m2"))
    assert (old.metadata["cost_usd"], new.metadata.get("cost_usd")) == (0.0125, None)


def test_the_newest_cost_of_the_session_is_kept(tmp_path: Path) -> None:
    """Since 2.1 the client states what a session has cost so far, again and again."""
    costs = [line("cost-state", "c", uuid=..., totalCostUSD=cost) for cost in (0, 0.25, 1.5, None)]
    conversation, _ = _read(tmp_path, user("q"), *costs)
    assert conversation.metadata["cost_usd"] == 1.5


def test_thoughts_are_counted_among_the_output(tmp_path: Path) -> None:
    """Current versions say how much of a response was thought; for others nobody guesses."""
    usage = {"output_tokens": 70, "output_tokens_details": {"thinking_tokens": 30}}
    thought, plain = assistant("a", "m1", usage=usage), assistant("b", "m2")
    conversation, messages = _read(tmp_path, thought, plain)
    assert (conversation.output_tokens, conversation.reasoning_tokens) == (75, 30)
    assert [(row.usage or {}).get("reasoning_tokens") for row in messages] == [30, None]


def test_inline_sidechains_are_child_conversations(tmp_path: Path) -> None:
    """Each chain of marked lines is a subagent named by its first line."""
    lines = [
        user("q"),
        user("s1", "look here", isSidechain=True),
        assistant("s2", "msg_s", says("done"), isSidechain=True, parentUuid=uuid("s1")),
        user("t1", "look there", isSidechain=True, parentUuid=uuid("q")),
        assistant("a", "msg_1", parentUuid=uuid("q")),
    ]
    conversations, _ = stated(_write(tmp_path, *lines))
    main, first, second = conversations
    assert (main.agent_id, first.agent_id, second.agent_id) == (None, uuid("s1"), uuid("t1"))
    assert first.parent_id == second.parent_id == main.id
    assert (main.message_count, first.message_count, second.message_count) == (2, 2, 1)
    assert (first.title, first.status, first.activity) == ("look here", "completed", "ended")


def test_a_log_of_grok_is_not_taken_for_claude_codes(tmp_path: Path) -> None:
    """It has lines of the same types, without any of what Claude Code says of each."""
    lines = ({"type": "system", "content": "You are Grok"}, {"type": "user", "content": "hi"})
    path = _write(tmp_path, *(json.dumps(line).encode() + b"\n" for line in lines))
    head = Head(path.read_bytes(), whole=True, resting=True)
    assert CLAUDE.claim(path, head) is None


@pytest.mark.parametrize("session", ["session-001", f"session-{'a' * 36}", "session-garden"])
def test_only_what_is_named_as_iflow_names_sessions_is_iflows(tmp_path: Path, session: str) -> None:
    """It writes the same lines; its sessions are named `session-<uuid>`."""
    path = _write(tmp_path, user("q", session=session), name=f"{session}.jsonl")
    head = Head(path.read_bytes(), whole=True, resting=True)
    assert IFlow().claim(path, head) is None
    claim = CLAUDE.claim(path, head)
    assert isinstance(claim, Recognised) and claim.session == session


def test_the_audit_of_the_desktop_app_is_no_transcript(tmp_path: Path) -> None:
    """It says what the transcript beside it says, in a file of the same name for each session."""
    said = {"type": "user", "uuid": uuid("q"), "session_id": SESSION, "message": {"content": "hi"}}
    signed = {**said, "_audit_timestamp": "2026-01-02T03:04:05Z", "_audit_hmac": "ab12"}
    path = _write(tmp_path, json.dumps(signed).encode() + b"\n", name="audit.jsonl")
    assert CLAUDE.claim(path, Head(path.read_bytes(), whole=True, resting=True)) is None


def test_a_foreign_session_id_does_not_split_a_file(tmp_path: Path) -> None:
    """One file is one conversation; some records carry another session's id."""
    conversation, messages = _read(tmp_path, user("q"), user("r", session=uuid("other")))
    assert conversation.session_id == SESSION
    assert {row.conversation_id for row in messages} == {conversation.id}


def test_times_are_the_records_times(tmp_path: Path) -> None:
    """Started by the first record, updated by the newest: file order is not time order."""
    conversation, messages = _read(tmp_path, user("q", at=5), user("r", at=60), user("s", at=7))
    first, newest, last = (row.created_at for row in messages)
    assert conversation.started_at == conversation.created_at == first
    assert conversation.updated_at == newest != last


@pytest.mark.parametrize("stated", ["2026-01-02T03:04:05z", "2026-01-02t03:04:05Z", 1767323045])
def test_a_time_is_read_however_it_is_written(tmp_path: Path, stated: object) -> None:
    """RFC 3339 allows small letters, and some writers count seconds."""
    _, (message,) = _read(tmp_path, user("q", timestamp=stated))
    assert message.created_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_a_byte_order_mark_costs_no_message(tmp_path: Path, newline: bytes) -> None:
    """An editor, or a shell's redirection, put one in front; places count it."""
    lines = [b"\xef\xbb\xbf" + user("q").strip(), user("r").strip()]
    _, messages = _read(tmp_path, *(line + newline for line in lines))
    assert [row.text for row in messages] == ["prompt q", "prompt r"]
    second = len(lines[0] + newline)
    assert [(row.seq, row.revision) for row in messages] == [
        (0, len(lines[0])),
        (second, second + len(lines[1])),
    ]


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (user("z"), ("active", "working")),
        (assistant("z", "m", calls("t")), ("active", "working")),
        (assistant("z", "m", says("done")), ("active", "waiting")),
        (assistant("z", "m", calls("t"), stop="tool_use"), ("active", "working")),
        (assistant("z", "m", _QUESTION, stop="tool_use"), ("active", "waiting")),
        (
            assistant("z", "m", says("done"), stop="model_context_window_exceeded"),
            ("active", "waiting"),
        ),
        (user("z", [result("t")]), ("active", "working")),
        (user("z", "[Request interrupted by user]"), ("active", "waiting")),
        (user("z", "<command-name>/exit</command-name>"), ("completed", "ended")),
        (_local("<command-name>/exit</command-name>"), ("completed", "ended")),
        (user("z", "<command-name>/model</command-name>"), ("active", "waiting")),
        (
            user("z", "<command-message>init</command-message><command-name>/init</command-name>"),
            ("active", "working"),
        ),
        (_local("<command-name>/model</command-name>"), ("active", "working")),
        (line("attachment", "z", attachment={"type": "max_turns_reached"}), ("active", "waiting")),
        (
            line("attachment", "z", attachment={"type": "hook_stopped_continuation"}),
            ("active", "waiting"),
        ),
        (line("attachment", "z", attachment={"type": "hook_success"}), ("active", "working")),
        (
            assistant("z", "m", model="<synthetic>", isApiErrorMessage=True),
            ("error", "waiting"),
        ),
    ],
)
def test_status_and_activity_follow_from_the_last_record(
    tmp_path: Path, last: bytes, expected: tuple[str, str]
) -> None:
    """Whose turn it is can be read from the file alone, never from a clock."""
    conversation, _ = _read(tmp_path, user("q"), last)
    assert (conversation.status, conversation.activity) == expected


def test_a_synthetic_answer_counts_no_tokens_and_names_no_model(tmp_path: Path) -> None:
    """The client's own messages are not the model's."""
    synthetic = assistant("b", "m2", model="<synthetic>", usage={"output_tokens": 99})
    conversation, _ = _read(tmp_path, assistant("a", "m1"), synthetic)
    assert (conversation.model, conversation.output_tokens) == ("claude-test-1", 5)
    assert conversation.message_count == 1


@pytest.mark.parametrize(
    "odd",
    [
        {"message": None},
        {"message": "just text"},
        {"message": {"content": [1, None, {"type": 3}, {"type": "text", "text": None}]}},
        {"message": {"content": {"type": "text", "text": "single"}, "usage": [1]}},
        {"message": {"id": 7, "usage": {"output_tokens": "many"}, "model": []}},
        {"timestamp": "yesterday", "cwd": 5, "gitBranch": []},
        {"timestamp": 1e300, "uuid": {}, "isSidechain": "yes", "parentUuid": 4},
        {"sessionId": 12, "toolUseResult": {"deep": [[[]]]}},
    ],
)
@pytest.mark.parametrize("kind", ["user", "assistant", "system", "attachment", "summary", "x"])
def test_no_field_is_trusted(tmp_path: Path, kind: str, odd: dict[str, Any]) -> None:
    """Whatever a field holds, the file is read to its end and every row can be sent."""
    conversations, messages = stated(_write(tmp_path, line(kind, "odd", **odd), user("after")))
    assert messages[-1].text == "prompt after"
    json.dumps([row.to_row() for row in (*conversations, *messages)], allow_nan=False)
