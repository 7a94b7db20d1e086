"""Codex CLI, its editor extension and its app: one JSONL rollout is one thread.

* The first `session_meta` names the thread; later ones are of threads that it came from, whose
  lines may be copied before its own (`codex_lineage`).
* A response is written as several items: those in a row are one message, named by the number of
  its first item, because items have no ids in most versions. The number outlives what moves
  bytes: `codex migrate-rollouts` rewrites old files.
* Tokens are reported behind a response; they are its last message's.
* What is said aloud stands beside the turns (`realtime_item`), and no other item says it.
* A thread that was reverted goes on in a file of its own, `rollout-<time>-<thread>_<rollout>`:
  it is a conversation below the thread's. `thread_rolled_back` takes turns back in the same file.
* Old rollouts are compressed (`.jsonl.zst`) and archived; they stay the same conversation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from conv_realtime.core import blocks as content
from conv_realtime.core.conversation_fold import ConversationFold, Entry
from conv_realtime.core.fields import count, mapping, text
from conv_realtime.core.format import Claim, Head, LogFormat, Machine, Recognised
from conv_realtime.core.formats import codex_records as rollout
from conv_realtime.core.formats.codex_items import server_calls, typed
from conv_realtime.core.formats.codex_lineage import Lineage
from conv_realtime.core.formats.codex_records import RolloutLine
from conv_realtime.core.formats.codex_tokens import TokenCounter
from conv_realtime.core.records import Record
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.core.transcript import LogTranscript
from conv_realtime.models import Role, Status

SOURCE = "codex"
_ID = r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
_NAME = re.compile(rf"rollout-.{{19}}-({_ID})(?:_({_ID}))?\.jsonl(?:\.zst)?")
_SUFFIXES = (".jsonl", ".jsonl.zst")
_REMEMBERED = 16


class FileName:
    """What a rollout's name says: its thread and, of a thread that was reverted, the rollout."""

    __slots__ = ("fallback", "rollout", "thread")

    def __init__(self, path: PurePath) -> None:
        found = _NAME.fullmatch(path.name)
        self.thread = found.group(1).lower() if found else None
        self.rollout = found.group(2).lower() if found and found.group(2) else None
        self.fallback = self.thread or path.name.partition(".jsonl")[0]


class Codex(LogFormat):
    """Codex's rollouts, also those of assistants that are built on it."""

    source = SOURCE
    title = "Codex CLI"

    def places(self, machine: Machine) -> Sequence[PurePath]:
        """Return the folders of sessions that are in use and of archived ones."""
        homes = machine.folders("CODEX_HOME", ".codex")
        return [home / name for home in homes for name in ("sessions", "archived_sessions")]

    def is_named(self, path: str) -> bool:
        """Return whether the file can be a rollout, compressed or not."""
        return path.endswith(_SUFFIXES)

    def claim(self, path: PurePath, head: Head) -> Claim:
        """Return which thread the file is of, by the first line that says it or says anything."""
        name, ours, session = FileName(path), False, None
        for record in head.records:
            verdict = rollout.belongs(record.fields)
            if verdict is False and not ours:
                return None
            ours = ours or verdict is True
            session = session or _session(name, rollout.unwrap(record.fields))
            if ours and session is not None:
                return Recognised(SOURCE, session, name.rollout, name.thread == session)
        return "unsure"

    def transcript(self, path: PurePath, sanitizer: Sanitizer) -> LogTranscript:
        """Return the fold of a rollout."""
        return CodexTranscript(path, sanitizer)


def _session(name: FileName, line: RolloutLine) -> str | None:
    """Return the thread that a file's first lines settle, None where this one does not."""
    if line.kind == "session_meta":
        return text(line.payload.get("id"))
    return name.fallback if rollout.role(line) is not None else None


class CodexTranscript(LogTranscript):
    """The fold of one rollout."""

    source = SOURCE

    def __init__(self, path: PurePath, sanitizer: Sanitizer) -> None:
        super().__init__(sanitizer)
        self._name = FileName(path)
        self.agent = self._name.rollout
        self._lineage = Lineage()
        self._tokens = TokenCounter()
        self._has_meta = False
        self._came_from_another = False
        self._is_subagent = False
        self._in_turn = False
        self._failures = 0
        self._failed: str | None = None  # why the turn did, or may yet do
        self._items = 0
        self._natives: list[str] = []  # that stand, in order
        self._turns: list[int] = []  # where a person began to speak, in `_natives`
        self._open: str | None = None  # the response that further items belong to
        self._answer: str | None = None  # the response that tokens are reported for
        self._unplaced: dict[str, int] = {}
        self._injected: dict[int, str] = {}  # by the hash of what was taken for Codex's own

    def add(self, record: Record) -> None:
        """Take the next line of the file."""
        line = rollout.unwrap(record.fields)
        if self.session is None and (session := _session(self._name, line)):
            self.session = self.id(session)
        fold = self.fold(None, self.agent)
        fold.saw_record(record.end, line.at)
        if line.kind == "session_meta":
            self._note_meta(fold, line)
        elif self._lineage.is_copy(line):
            if (report := rollout.tokens(line.payload)) is not None:
                self._tokens.follow(report)
        elif line.kind == "event_msg":
            self._add_event(fold, record, line)
        elif line.kind == "turn_context":
            self._note_place(fold, line.payload)
        elif line.kind == "realtime_item":
            self._add_voice(fold, record, line)
        else:
            self._add_item(fold, record, line)

    def message_fields(self, entry: Entry, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return what a message's lines say together, as columns of its row."""
        lines = [rollout.unwrap(fields) for fields in records]
        said = [one for one in lines if one.kind != "event_msg" or rollout.failure(one.payload)]
        found = [block for line in said for block in rollout.blocks(line)]
        clean = self._sanitizer.value(found, entry.cleaning)
        extra: dict[str, Any] = {}
        for line in said:
            extra |= rollout.metadata(line)
        return {
            "role": entry.role,
            "text": content.text_of(clean) if entry.role != "other" else "",
            "content": clean,
            "model": entry.model,
            "created_at": next((line.at for line in lines if line.at), None),
            "usage": dict(entry.usage) or None,
            "metadata": self._sanitizer.value(extra),
        }

    # The thread ------------------------------------------------------------------------------

    def _note_meta(self, fold: ConversationFold, line: RolloutLine) -> None:
        if self._has_meta:
            if self._lineage.later_meta(line):  # written again, because something of it changed
                self._note_place(fold, line.payload)
            return
        self._has_meta = True
        self._lineage.first_meta(line)
        meta = line.payload
        subagent = mapping(mapping(meta.get("source")).get("subagent"))
        spawned = mapping(subagent.get("thread_spawn")).get("parent_thread_id")
        parent = text(meta.get("parent_thread_id")) or text(spawned)
        forked = text(meta.get("forked_from_id"))
        self._is_subagent = bool(subagent or parent) or meta.get("thread_source") == "subagent"
        self._came_from_another = bool(forked or mapping(meta.get("history_base")))
        if self.agent is None and parent:
            fold.parent = self.id(parent)
        elif self.agent is None and forked:
            fold.fork(self.id(forked))
        self._note_place(fold, meta)

    def _note_place(self, fold: ConversationFold, stated: Mapping[str, Any]) -> None:
        if cwd := text(stated.get("cwd")):
            fold.cwd = self.name(cwd)
        if branch := text(mapping(stated.get("git")).get("branch")):
            fold.git_branch = self.name(branch)
        if model := text(stated.get("model")):
            fold.model = self.name(model)

    # What is said ----------------------------------------------------------------------------

    def _next_item(
        self, fold: ConversationFold, line: RolloutLine
    ) -> tuple[str, Role, list[content.Block]] | None:
        """Return an item's name, who speaks in it and what is said; None where nothing is."""
        name = f"item-{self._items}"
        self._items += 1
        role = rollout.role(line)
        if role is None:
            return None
        found = rollout.blocks(line)
        if role == "system" and fold.cwd is None and (cwd := rollout.cwd_of(found)):
            fold.cwd = self.name(cwd)
        if fold.project_path is None:
            fold.project_path = fold.cwd or ""
        return name, role, found

    def _add_item(self, fold: ConversationFold, record: Record, line: RolloutLine) -> None:
        item = self._next_item(fold, line)
        if item is None:
            return
        name, role, found = item
        if role == "system" and self._is_subagent and line.payload.get("author"):
            role = "user"  # who it works for speaks to it as a person does to the thread
        native = self._open if role == "assistant" and self._open else name
        entry = self.put(fold, record, native, role)
        self.note_secrets(entry, found)
        if entry.seq == record.start:
            self._begin(fold, entry, found, line)
        self._open = native if role == "assistant" else None
        calls, answered = content.tools(found)
        fold.call_tools(entry, calls, answered + server_calls(found))
        if content.asks(found, fold.open_tools):
            fold.is_at("active", "waiting")
        else:
            self._note_turn(fold, role)

    def _add_voice(self, fold: ConversationFold, record: Record, line: RolloutLine) -> None:
        """Take what was said aloud, to or by a model that no report of tokens is of."""
        item = self._next_item(fold, line)
        if item is None:
            return
        name, role, found = item
        self.note_secrets(self.put(fold, record, name, role), found)
        if role == "user":
            self._note_prompt(fold, content.text_of(found))
        self._note_turn(fold, role)

    def _begin(
        self, fold: ConversationFold, entry: Entry, found: list[content.Block], line: RolloutLine
    ) -> None:
        """Take note of a message that begins here."""
        self._natives.append(entry.native)
        if entry.role == "assistant":
            entry.model = fold.model
            self._answer = entry.native
            self._place_tokens(fold, entry, {})
        elif entry.role == "user":
            self._turns.append(len(self._natives) - 1)
            self._note_prompt(fold, content.text_of(typed(line.payload) or found))
        elif line.payload.get("role") == "user":
            self._injected[hash(content.text_of(found).strip())] = entry.native
            if len(self._injected) > _REMEMBERED:
                del self._injected[next(iter(self._injected))]

    def _note_prompt(self, fold: ConversationFold, prompt: str) -> None:
        asked = rollout.request_of(prompt)
        if asked.strip():
            fold.titles.setdefault("prompt", self.shortened(asked))

    def _note_turn(self, fold: ConversationFold, role: Role) -> None:
        """Read from a message whose turn it is; where turns are told, they say when it is over."""
        if role in ("user", "tool") or (role == "assistant" and (self._in_turn or fold.open_tools)):
            fold.is_at("active", "working")
        elif role == "assistant":
            fold.is_at("active", "waiting")

    # Events ----------------------------------------------------------------------------------

    def _add_event(self, fold: ConversationFold, record: Record, line: RolloutLine) -> None:
        event = line.payload
        match event.get("type"):
            case "task_started" | "turn_started":
                self._in_turn, self._open, self._failed = True, None, None
                fold.is_at("active", "working")
            case "error":
                self._note_failure(fold, record, event)
            case "task_complete" | "turn_complete":
                self._note_failure(fold, record, event)
                answered = text(event.get("last_agent_message")) and not rollout.failure(event)
                failed = self._failed is not None and not answered
                self._end_turn(fold)
                ended = self._is_subagent
                status: Status = "error" if failed else "completed" if ended else "active"
                fold.is_at(status, "ended" if ended else "waiting")
            case "turn_aborted":
                self._end_turn(fold)
            case "token_count":
                self._count_tokens(fold, record, event)
            case "thread_rolled_back":
                self._roll_back(fold, record, line)
            case "thread_name_updated":
                if title := text(event.get("thread_name")):
                    fold.titles["custom"] = self.shortened(title)
            case "thread_settings_applied":
                self._note_place(fold, mapping(event.get("thread_settings")))
            case _:
                if (prompt := rollout.prompt(event)) is not None:
                    self._take_for_prompt(fold, record, prompt)

    def _note_failure(
        self, fold: ConversationFold, record: Record, event: Mapping[str, Any]
    ) -> None:
        """Say why a turn failed, once: items say nothing of it."""
        why = rollout.failure(event)
        if why is None or why == self._failed:
            return
        self._failed = why
        self._failures += 1
        if fold.project_path is None:
            fold.project_path = fold.cwd or ""
        entry = self.put(fold, record, f"failure-{self._failures}", "system")
        self.note_secrets(entry, content.as_blocks(why))
        self._natives.append(entry.native)

    def _end_turn(self, fold: ConversationFold) -> None:
        self._in_turn, self._open, self._failed = False, None, None
        fold.open_tools.clear()
        fold.is_at("active", "waiting")

    def _take_for_prompt(self, fold: ConversationFold, record: Record, prompt: str) -> None:
        """Put a message right that looked like Codex's own: a person typed it."""
        native = self._injected.pop(hash(prompt.strip()), None)
        if native is None or native not in self._natives:
            return
        fold.recast(self.put(fold, record, native, "user"), "user")
        self._turns.append(self._natives.index(native))
        self._turns.sort()
        self._note_prompt(fold, prompt)

    def _count_tokens(
        self, fold: ConversationFold, record: Record, event: Mapping[str, Any]
    ) -> None:
        report = rollout.tokens(event)
        if report is None:
            return
        added = rollout.usage(self._tokens.added(report, continued=self._came_from_another))
        if not added:
            return
        self._open = None  # what comes next is another response
        if self._answer is None:
            self._unplaced = _sum(self._unplaced, added)
        else:
            self._place_tokens(fold, self.put(fold, record, self._answer, "assistant"), added)

    def _place_tokens(self, fold: ConversationFold, entry: Entry, added: dict[str, int]) -> None:
        """Add tokens to a message, with those that had none to belong to."""
        added, self._unplaced = _sum(self._unplaced, added), {}
        fold.count_tokens(entry, {n: entry.usage.get(n, 0) + value for n, value in added.items()})

    def _roll_back(self, fold: ConversationFold, record: Record, line: RolloutLine) -> None:
        """Take back the last turns, each from a person's message on."""
        turns = count(line.payload.get("num_turns")) or 0
        if not turns or not self._turns:
            return
        first = max(0, len(self._turns) - turns)
        place = self._turns[first]
        self.withdraw(fold, record, self._natives[place:], line.at)
        del self._natives[place:], self._turns[first:]
        self._open = self._answer = None


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}
