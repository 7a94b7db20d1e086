"""What one transcript states, counted by the file itself: nothing here imports the library.

Each counter reads a whole file at once and knows one format, as its files and `formats.md` of the
references describe it. It is written to be checked by eye, not to be fast or lenient.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

Fields = dict[str, Any]
AIDER = ".aider.chat.history.md"


@dataclass(frozen=True)
class Count:
    """What a file states; `naive` is what adding up every number of tokens in it would give."""

    conversations: int = 0
    messages: int = 0
    tool_calls: int = 0
    tokens: int = 0
    naive: int = 0
    skipped: int = 0


def count(path: Path) -> tuple[str, Count]:
    """Return the format of a file and what it states; an empty format where it is none of ours."""
    if path.name.endswith(AIDER):
        return "aider", _aider(path.read_text(encoding="utf-8", errors="replace"))
    if path.suffix == ".json":
        document = json.loads(path.read_bytes())
        if "sessionId" in document and "messages" in document:
            return "gemini_cli", _gemini(document["messages"])
        return "", Count()
    records, skipped = _records(path)
    for name, belongs, counter in _FORMATS:
        if records and belongs(records):
            return name, replace(counter(records, path), skipped=skipped)
    return "", Count()


def _records(path: Path) -> tuple[list[Fields], int]:
    records, skipped = [], 0
    for line in path.read_bytes().split(b"\n"):
        if not line.strip(b" \t\r\0"):
            continue
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict):
            records.append(value)
        else:
            skipped += 1
    return records, skipped


# Claude Code, and who writes the same lines -------------------------------------------------------

_CLAUDE_USAGE = (
    "input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"
)  # fmt: skip
_CLAUDE_SILENT = {
    "progress", "summary", "custom-title", "ai-title", "agent-name", "file-history-snapshot",
    "queue-operation", "last-prompt",
}  # fmt: skip


def _claude(records: list[Fields], path: Path) -> Count:
    by_uuid = {record["uuid"]: record for record in records if record.get("uuid")}
    chains = not path.stem.startswith("agent-")
    messages: set[tuple[str, str]] = set()
    calls: set[tuple[str, str]] = set()
    most: dict[tuple[str, str, str], int] = {}
    naive = 0
    for place, record in enumerate(records):
        if not _claude_says(record):
            continue
        chain = _chain(record, by_uuid) if chains else ""
        message = record["message"] if isinstance(record.get("message"), dict) else {}
        assistant = record["type"] == "assistant"
        name = (message.get("id") if assistant else None) or record.get("uuid") or f"@{place}"
        messages.add((chain, name))
        content = message.get("content")
        for block in content if isinstance(content, list) else []:
            if block.get("type") == "tool_use":
                calls.add((chain, block["id"]))
        if assistant and message.get("model") != "<synthetic>":
            for key in _CLAUDE_USAGE:
                value = (message.get("usage") or {}).get(key) or 0
                naive += value
                most[chain, name, key] = max(most.get((chain, name, key), 0), value)
    conversations = len({chain for chain, _ in messages})
    return Count(conversations, len(messages), len(calls), sum(most.values()), naive)


def _claude_says(record: Fields) -> bool:
    kind = record.get("type")
    if kind in ("user", "assistant"):
        return True
    if kind == "system":
        shown = record.get("content") or record.get("subtype") == "api_error"
        return bool(shown) and record.get("subtype") not in ("turn_duration", "stop_hook_summary")
    if kind == "attachment":
        return (record.get("attachment") or {}).get("type") == "queued_command"
    return kind not in _CLAUDE_SILENT and bool(record.get("uuid"))


def _chain(record: Fields, by_uuid: dict[str, Fields]) -> str:
    """Return the inline subagent that a record is of: its earliest marked ancestor."""
    while record.get("isSidechain"):
        parent = by_uuid.get(record.get("parentUuid") or "")
        if parent is None or not parent.get("isSidechain"):
            return str(record["uuid"])
        record = parent
    return ""


# Codex --------------------------------------------------------------------------------------------


def _codex(records: list[Fields], path: Path) -> Count:
    """Count a rollout that copies nothing of another thread: so are all samples."""
    messages, calls, naive = 0, set(), 0
    total: Fields = {}
    in_response = False
    for record in records:
        payload = record["payload"]
        if record["type"] == "event_msg":
            if payload["type"] == "token_count" and payload.get("info"):
                in_response = in_response and payload["info"]["total_token_usage"] == total
                total = payload["info"]["total_token_usage"]
                naive += payload["info"]["last_token_usage"]["total_tokens"]
            elif payload["type"] in ("task_started", "task_complete", "turn_aborted"):
                in_response = False
        elif record["type"] == "response_item":
            said = _codex_says(payload)
            if said is None:
                continue
            messages += not (said == "assistant" and in_response)
            in_response = said == "assistant"
            if payload.get("type", "").endswith("_call"):
                calls.add(payload["call_id"])
    tokens = total.get("input_tokens", 0) + total.get("output_tokens", 0)
    return Count(int(messages > 0), messages, len(calls), tokens, naive)


def _codex_says(item: Fields) -> str | None:
    kind = item.get("type", "message")
    if kind == "message":
        return str(item["role"]) if item.get("content") else None
    if kind == "reasoning":
        return "assistant" if item.get("summary") or item.get("content") else None
    return "assistant" if kind.endswith("_call") else "tool"


# Others -------------------------------------------------------------------------------------------


def _gemini(messages: list[Fields]) -> Count:
    calls = {call["id"] for message in messages for call in message.get("toolCalls") or []}
    stated = [message["tokens"] for message in messages if message.get("tokens")]
    tokens = sum(one["input"] + one["output"] + one["thoughts"] + one["tool"] for one in stated)
    naive = sum(value for one in stated for value in one.values())
    return Count(int(bool(messages)), len(messages), len(calls), tokens, naive)


def _aider(history: str) -> Count:
    """Count lines of one kind in a row as a message: typed, of the program, of the model.

    A blank line ends what was typed, and nothing else. Without a newline a last line may go on.
    """
    history, _, unfinished = history.rpartition("\n")
    conversations = messages = tokens = 0
    for run in re.split(r"^# aider chat started at .*\n", history, flags=re.MULTILINE):
        before = ""
        found = 0
        for line in run.split("\n"):
            if not line.strip():
                before = "" if before == "typed" else before
                continue
            typed = line.startswith("####") and line.endswith("  ")
            kind = "typed" if typed else "program" if line.startswith(">") else "model"
            found += kind != before
            before = kind
        messages += found
        conversations += found > 0
        for sent, received in re.findall(r"^> Tokens: ([\d,]+) sent, ([\d,]+) received", run, re.M):
            tokens += int(sent.replace(",", "")) + int(received.replace(",", ""))
    return Count(conversations, messages, 0, tokens, tokens, skipped=bool(unfinished.strip()))


def _iflow(records: list[Fields], path: Path) -> Count:
    """Count lines of Claude Code's form, where a response is a row of lines that share calls."""
    found = _claude(records, path)
    messages = 0
    before: set[str] = set()
    for record in records:
        calls: set[str] = set()
        if record["type"] == "assistant":
            content = record["message"]["content"]
            calls = {block["id"] for block in content if block["type"] == "tool_use"}
        messages += not calls & before
        before = calls
    return replace(found, messages=messages)


def _pi(records: list[Fields], path: Path) -> Count:
    said = [record for record in records if record["type"] in ("message", "compaction")]
    spoken = [record["message"] for record in said if "message" in record]
    calls = {
        block["id"]
        for message in spoken
        for block in message["content"]
        if isinstance(block, dict) and block["type"] == "toolCall"
    }
    usage = [one["usage"] for one in (*said, *spoken) if "usage" in one]
    names = ("input", "output", "cacheRead", "cacheWrite")
    tokens = sum(one.get(name, 0) for one in usage for name in names)
    naive = tokens + sum(one.get("totalTokens", 0) for one in usage)
    return Count(1, len(said), len(calls), tokens, naive)


def _roles(records: list[Fields], path: Path) -> Count:
    """Count lines of `{"role", "content"}`: gptme and Vibe."""
    calls = {call["id"] for record in records for call in record.get("tool_calls") or []}
    usage = [(record.get("metadata") or {}).get("usage") or {} for record in records]
    tokens = sum(value for one in usage for value in one.values())
    return Count(1, len(records), len(calls), tokens, tokens)


def _has(*names: str) -> Callable[[Iterable[Fields]], bool]:
    return lambda records: all(name in next(iter(records)) for name in names)


_FORMATS: tuple[
    tuple[str, Callable[[list[Fields]], bool], Callable[[list[Fields], Path], Count]], ...
] = (
    ("codex", _has("type", "payload"), _codex),
    (
        "pi",
        lambda records: (
            [one.get("type") for one in records[:2] if one.get("type") != "title"][:1]
            == ["session"]
        ),
        _pi,
    ),
    ("vibe", _has("role", "message_id"), _roles),
    ("gptme", _has("role", "timestamp"), _roles),
    ("iflow", lambda records: str(records[0].get("sessionId")).startswith("session-"), _iflow),
    (
        "claude_code",
        lambda records: any("message" in record and "type" in record for record in records),
        _claude,
    ),
)
