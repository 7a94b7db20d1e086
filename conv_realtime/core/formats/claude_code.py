"""Claude Code: one append-only JSONL file is one session, or one subagent of a session.

What a record's conversation, message id and place are follows from the bytes up to its own
end and is never revised, so any split of the file into reads gives the same rows.

* The session is the file's stem if that is a UUID, else the first `sessionId` in the file.
* A file named `agent-<id>` is the subagent `<id>`; older versions write subagents inline, as
  lines marked `isSidechain`, each chain of them a subagent named by its first line's uuid.
* A subagent that is a fork begins with the response that called it: that is its session's alone.
* The lines of one response share `message.id` and may lie apart: they are one message.
* A session that `/branch` began holds copies of the lines that it came from, each marked
  `forkedFrom`: they are messages, and tokens, of both, and the one is the other's child.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any
from uuid import UUID

from conv_realtime.core import blocks as content
from conv_realtime.core.conversation_fold import ConversationFold, Entry
from conv_realtime.core.fields import amount, mapping, text
from conv_realtime.core.format import Claim, Head, LogFormat, Machine, Recognised
from conv_realtime.core.formats import claude_records as claude
from conv_realtime.core.records import Record
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.core.transcript import LogTranscript
from conv_realtime.models import Role

SOURCE = "claude_code"
_TITLE_TYPES = {
    "custom-title": ("custom", "customTitle"),
    "ai-title": ("ai", "aiTitle"),
    "agent-name": ("agent", "agentName"),
}
_FINAL = frozenset(
    {"end_turn", "stop_sequence", "max_tokens", "refusal", "model_context_window_exceeded"}
)
_FAREWELLS = ("<command-name>/exit", "<command-name>/quit")
# The desktop app keeps an audit beside each transcript, with the same messages once more: see
# `docs/formats/cowork.md` of skillsynchq/txcript at 6ba18b13.
_OF_OTHERS = frozenset(
    {"payload", "resourceSpans", "systemPayload", "_audit_timestamp", "_audit_hmac"}
)
_PENDING_SUMMARIES = 1_000
_NOT_SESSIONS = ("/journal.jsonl", "/history.jsonl", "\\journal.jsonl", "\\history.jsonl")


def is_uuid(name: str) -> bool:
    """Return whether `name` is a UUID in its usual form."""
    try:
        return len(name) == 36 and str(UUID(name)) == name.lower()
    except ValueError:
        return False


def is_iflows(session: Any) -> bool:
    """Return whether a session is named as iFlow names its own, `session-<uuid>`."""
    name = text(session) or ""
    return name.startswith("session-") and is_uuid(name.removeprefix("session-"))


class FileName:
    """What a transcript's path says: `session` and `agent` where it names them, and `slug`."""

    __slots__ = ("agent", "fallback_session", "session", "slug")

    def __init__(self, path: PurePath) -> None:
        stem = path.stem
        folders = list(path.parts[:-1])
        enclosing = None
        if "subagents" in folders:
            folders = folders[: len(folders) - 1 - folders[::-1].index("subagents")]
            enclosing = folders.pop() if folders else None
        self.slug = folders[-1] if folders else ""
        self.agent = stem.removeprefix("agent-") if stem.startswith("agent-") else None
        self.session = stem if is_uuid(stem) else None
        self.fallback_session = enclosing or stem


def belongs(record: Mapping[str, Any]) -> bool | None:
    """Return whether a record is Claude Code's, None when it could be anybody's."""
    if not _OF_OTHERS.isdisjoint(record) or "parts" in mapping(record.get("message")):
        return False
    if is_iflows(record.get("sessionId")):
        return False  # it writes the same lines into files of its own
    kind = record.get("type")
    if not isinstance(kind, str):
        return False
    if kind in ("user", "assistant"):
        if "message" not in record:
            return False
        # One that is cut off does not tell whose it is; others write such lines as well.
        return True if record["message"] is not None or "isSidechain" in record else None
    if kind == "system":  # Grok writes such lines, without saying of which session
        return True if "sessionId" in record else None
    if kind in ("summary", "attachment", "file-history-snapshot", "queue-operation"):
        return True
    return True if "sessionId" in record and "parentUuid" in record else None


class ClaudeCode(LogFormat):
    """Claude Code's sessions, below its folder `projects`."""

    source = SOURCE
    title = "Claude Code"

    def places(self, machine: Machine) -> Sequence[PurePath]:
        """Return `projects` in the configuration folders, and where the desktop app works."""
        folders = machine.folders("CLAUDE_CONFIG_DIR", ".claude", ".config/claude")
        apps = machine.app_data("Claude")
        return [
            *(folder / "projects" for folder in folders),
            *(app / "local-agent-mode-sessions" for app in apps),
        ]

    def is_named(self, path: str) -> bool:
        """Return whether the file can be a session: any JSONL but the journals beside them."""
        return path.endswith(".jsonl") and not path.endswith(_NOT_SESSIONS)

    def claim(self, path: PurePath, head: Head) -> Claim:
        """Return which session the file is of."""
        name = FileName(path)
        session, ours = name.session, False
        begun = [head.begun] if head.begun else []  # a pasted image fills a first line
        for fields in begun or (record.fields for record in head.records):
            if not ours:
                verdict = belongs(fields)
                if verdict is False:
                    return None
                ours = verdict is True
            session = session or text(fields.get("sessionId"))
            if ours and session is None and claude.makes_message(fields):
                session = name.fallback_session
            if ours and session is not None:
                return Recognised(self.source, session, name.agent, name.session == session)
        return "unsure"

    def transcript(self, path: PurePath, sanitizer: Sanitizer) -> LogTranscript:
        """Return the fold of a session's file."""
        return ClaudeTranscript(path, sanitizer)


class ClaudeTranscript(LogTranscript):
    """The fold of one file; its threads are the subagents that are written into it."""

    source = SOURCE

    def __init__(self, path: PurePath, sanitizer: Sanitizer) -> None:
        super().__init__(sanitizer)
        self.file = FileName(path)
        self.session = self.file.session
        self.agent = self.id(self.file.agent) if self.file.agent else None
        self._roots: dict[str, str] = {}  # uuid of a sidechain line → uuid of its first ancestor
        self._uuids = array("q")  # their hashes, of the lines that no summary was compared with
        self._compared: set[int] = set()
        self._summaries: dict[int, str] = {}  # by the line that they title, not seen yet
        self._cwd: str | None = None
        self._place: tuple[Any, ...] = ()  # the newest line's thread, directory and branch
        self._caller: str | None = None  # the response that called a fork, empty until it comes

    def add(self, record: Record) -> None:
        """Take the next record of the file."""
        fields = record.fields
        if self.session is None:
            stated = text(fields.get("sessionId"))
            self.session = self.id(stated) if stated else None
        uuid = text(fields.get("uuid"))
        fold = self._conversation(fields, uuid, record.start)
        self._note_place(fold, fields)
        fold.saw_record(record.end, claude.when(fields))
        if self._summaries and uuid is not None:
            self._use_summary(fold, uuid)
        if not claude.makes_message(fields):
            self._note_state(fold, fields)
        elif self._caller is None or not self._is_callers(fields):
            self._add_message(fold, record)

    def message_fields(self, entry: Entry, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return what a message's records say together, as columns of its row.

        `records` are those at the entry's `spans`, in order.
        """
        merged: list[content.Block] = []
        seen: set[str] = set()
        for fields in records:
            uuid = text(fields.get("uuid"))
            if uuid is None or uuid not in seen:
                merged = content.merge(merged, self.blocks(fields))
            if uuid is not None:
                seen.add(uuid)
        clean = self._sanitizer.value(merged, entry.cleaning)
        extra = claude.metadata(records[0])
        if len(records) > 1 and "stop_reason" in (last := claude.metadata(records[-1])):
            extra["stop_reason"] = last["stop_reason"]
        return {
            "role": entry.role,
            "text": content.text_of(clean) if entry.role != "other" else "",
            "content": clean,
            "model": self._model(records[-1]),
            "created_at": next(filter(None, map(claude.when, records)), None),
            "usage": dict(entry.usage) or None,
            "metadata": self._sanitizer.value(extra),
        }

    # What those that write the same lines do otherwise --------------------------------------

    def blocks(self, fields: Mapping[str, Any]) -> list[content.Block]:
        """Return what a record says, as blocks."""
        return claude.blocks(fields)

    def native(self, fields: Mapping[str, Any], found: list[content.Block]) -> str | None:
        """Return what identifies the message that a record is of."""
        return claude.native_id(fields)

    # Where a record belongs ----------------------------------------------------------------

    def _conversation(
        self, fields: Mapping[str, Any], uuid: str | None, start: int
    ) -> ConversationFold:
        agent = self.agent
        if agent is None and fields.get("isSidechain") is True:
            parent = text(fields.get("parentUuid"))
            agent = self._roots.get(parent or "") or self.id(uuid or f"@{start}")
            if uuid is not None:
                self._roots[uuid] = agent
        if uuid is not None:
            self._uuids.append(hash(uuid))
        return self.fold(agent, agent)

    def _is_callers(self, fields: Mapping[str, Any]) -> bool:
        """Return whether a line repeats the response that called this fork: it is its session's."""
        if fields.get("type") != "assistant":
            self._caller = self._caller or None
            return False
        native = claude.native_id(fields)
        self._caller = self._caller or native
        return native is not None and native == self._caller

    def _note_place(self, fold: ConversationFold, fields: Mapping[str, Any]) -> None:
        place = fold.thread, fields.get("cwd"), fields.get("gitBranch")
        if place != self._place:
            self._place = place
            if cwd := text(place[1]):
                self._cwd = fold.cwd = self.name(cwd)
            if branch := text(place[2]):
                fold.git_branch = self.name(branch)
        if fold.parent is None and "forkedFrom" in fields and fold.agent is None:
            origin = text(mapping(fields["forkedFrom"]).get("sessionId"))
            if origin:
                fold.fork(self.id(origin))

    # Titles --------------------------------------------------------------------------------

    def _use_summary(self, fold: ConversationFold, uuid: str) -> None:
        """Take the summary as title that speaks of this line."""
        waiting = self._summaries.pop(hash(uuid), None)
        if waiting is not None:
            fold.titles["summary"] = waiting

    def _note_summary(self, fold: ConversationFold, fields: Mapping[str, Any]) -> None:
        """Take a summary as title only if it speaks of a line of this file: most do not."""
        leaf, summary = text(fields.get("leafUuid")), text(fields.get("summary"))
        if leaf is None or summary is None:
            return
        self._compared.update(self._uuids)
        del self._uuids[:]
        if hash(leaf) in self._compared:
            fold.titles["summary"] = self.shortened(summary)
        elif len(self._summaries) < _PENDING_SUMMARIES:
            self._summaries[hash(leaf)] = self.shortened(summary)

    def _note_prompt(self, fold: ConversationFold, prompt: str) -> None:
        rank, asked = claude.asked(prompt)
        if asked:
            fold.titles.setdefault(rank, self.shortened(asked))

    # Messages and state --------------------------------------------------------------------

    def _add_message(self, fold: ConversationFold, record: Record) -> None:
        fields = record.fields
        if self.session is None:
            self.session = self.id(self.file.fallback_session)
        if fold.project_path is None:
            fold.project_path = fold.cwd or self._cwd or self.name(self.file.slug)
        found = self.blocks(fields)
        role = claude.role(fields, found)
        entry = self.put(fold, record, self.native(fields, found), role)
        self.note_secrets(entry, found)
        fold.call_tools(entry, *content.tools(found))
        if role == "assistant":
            fold.count_tokens(entry, claude.usage(fields))
            fold.model = self._model(fields) or fold.model
        elif role == "user" and "prompt" not in fold.titles:
            self._note_prompt(fold, claude.prompt(found))
        self._note_turn(fold, fields, entry.role, found)

    def _model(self, fields: Mapping[str, Any]) -> str | None:
        model = claude.model(fields)
        return self.name(model) if model else None

    def _note_turn(
        self,
        fold: ConversationFold,
        fields: Mapping[str, Any],
        role: Role,
        found: list[content.Block],
    ) -> None:
        """Read from a message whose turn it is."""
        if fields.get("isApiErrorMessage") is True:
            fold.is_at("error", "waiting")
        elif role == "assistant":
            self._note_answer(fold, fields, found)
        elif role == "tool":
            fold.is_at("active", "working")
        elif (typed := claude.prompt(found).lstrip()).startswith(_FAREWELLS):
            fold.is_at("completed", "ended")
        elif role == "user":
            fold.is_at("active", "waiting" if claude.is_clients(typed) else "working")
        elif claude.is_synthetic(fields) or typed.startswith("[Request interr"):
            fold.is_at("active", "waiting")
            fold.open_tools.clear()

    def _note_answer(
        self, fold: ConversationFold, fields: Mapping[str, Any], found: list[content.Block]
    ) -> None:
        stop = text(mapping(fields.get("message")).get("stop_reason"))
        spoke = bool(found) and found[-1].get("type") == "text"
        if content.asks(found, fold.open_tools):
            fold.is_at("active", "waiting")
        elif stop not in _FINAL and (stop is not None or not spoke or fold.open_tools):
            fold.is_at("active", "working")
        else:
            fold.settle("active", "waiting")

    def _note_state(self, fold: ConversationFold, fields: Mapping[str, Any]) -> None:
        """Read what a line that is no message says of the conversation: titles, ends of turns."""
        kind = fields.get("type")
        if kind == "summary":
            self._note_summary(fold, fields)
        elif kind == "system":
            if fields.get("subtype") == "turn_duration" and fold.activity == "working":
                fold.is_at(fold.status, "waiting")
        elif kind == "attachment":
            if claude.stops_turn(fields):
                fold.settle("active", "waiting")
        elif kind == "continued-in":  # another file goes on with it, in the background
            fold.is_at("completed", "ended")
        elif kind == "fork-context-ref" and self.agent is not None and not fold.entries:
            self._caller = ""
        elif kind == "cost-state":
            if cost := amount(fields.get("totalCostUSD")):
                fold.metadata = {**fold.metadata, "cost_usd": cost}
        elif isinstance(kind, str) and kind in _TITLE_TYPES:
            rank, key = _TITLE_TYPES[kind]
            if stated := text(fields.get(key)):
                fold.titles[rank] = self.shortened(stated)
