"""Gemini CLI since 0.39: a log of one session, `chats/session-<time>-<id>.jsonl`.

As `packages/core/src/services/chatRecordingService.ts` of google-gemini/gemini-cli writes it and
reads it again (`loadConversationRecord`):

* the first line has `sessionId`, `projectHash` and other metadata;
* a message is appended anew whenever something of it changes; the last line with its id counts;
* `{"$set": {…}}` changes metadata, and may hold all `messages` that Gemini goes on with;
* `{"$rewindTo": id}` takes this message and all behind it back, or all where it is unknown.

A list of messages under `$set` changes those that it holds. What it leaves out is not taken back:
Gemini writes it when it compresses or masks what the model has to read, and a person who looks
back wants what was said. Order, for `$rewindTo`, is the list's from there on, as in Gemini.

Subagents are `chats/<session>/<id>.jsonl`, conversations below the session's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from conv_realtime.core import blocks as content
from conv_realtime.core.blocks import as_blocks
from conv_realtime.core.conversation_fold import ConversationFold, Entry
from conv_realtime.core.fields import mapping, text, time
from conv_realtime.core.format import Claim, Head, LogFormat, Machine, Recognised
from conv_realtime.core.formats import gemini_records as gemini
from conv_realtime.core.records import Record
from conv_realtime.core.said import blocks_of, message_fields
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.core.transcript import LogTranscript


class GeminiLog(LogFormat):
    """Gemini CLI's sessions since 0.39."""

    source = gemini.SOURCE
    title = "Gemini CLI"

    def places(self, machine: Machine) -> Sequence[PurePath]:
        """Return the folder that has one of its own for each project."""
        return [folder / "tmp" for folder in _homes(machine)]

    def is_named(self, path: str) -> bool:
        """Return whether the file can be a session's log."""
        return path.endswith(".jsonl")

    def claim(self, path: PurePath, head: Head) -> Claim:
        """Return which session the file is of, by its first line."""
        for record in head.records:
            if not is_metadata(record.fields):
                return None
            session, agent = identity(path, record.fields)
            known = session[:8] in path.stem or agent == path.stem
            return Recognised(gemini.SOURCE, session, agent, named=known)
        return "unsure"

    def transcript(self, path: PurePath, sanitizer: Sanitizer) -> LogTranscript:
        """Return the fold of a session's log."""
        return GeminiTranscript(path, sanitizer)


def _homes(machine: Machine) -> Sequence[PurePath]:
    home = text(machine.environ.get("GEMINI_CLI_HOME"))
    return [(machine.home / home if home else machine.home) / ".gemini"]


def is_metadata(fields: Mapping[str, Any]) -> bool:
    """Return whether these are the fields that every session states."""
    return bool(text(fields.get("sessionId"))) and isinstance(fields.get("projectHash"), str)


def identity(path: PurePath, metadata: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the session that a file is of, and the subagent of it that it is."""
    own, folder = text(metadata.get("sessionId")) or path.stem, path.parent
    if metadata.get("kind") == "subagent" and folder.parent.name == "chats":
        return folder.name, own
    return own, None


def project_of(path: PurePath) -> str:
    """Return what Gemini calls the project's folder: a name made of it, or a hash."""
    parts = path.parts
    place = len(parts) - 1 - parts[::-1].index("chats") if "chats" in parts else 0
    return parts[place - 1] if place > 0 else ""


class GeminiTranscript(LogTranscript):
    """The fold of one session's log."""

    source = gemini.SOURCE

    def __init__(self, path: PurePath, sanitizer: Sanitizer) -> None:
        super().__init__(sanitizer)
        self._path = path
        self._standing: dict[str, int] = {}  # in Gemini's order: id → hash of what it said last

    def add(self, record: Record) -> None:
        """Take the next line of the file."""
        fields = record.fields
        if self.session is None:
            session, agent = identity(self._path, fields)
            self.session, self.agent = self.id(session), agent and self.id(agent)
        fold = self.fold(None, self.agent)
        # In the order in which Gemini asks what a line is.
        if isinstance(rewind := fields.get("$rewindTo"), str):
            fold.saw_record(record.end, None)
            self._rewind(fold, record, rewind)
        elif isinstance(fields.get("id"), str):
            fold.saw_record(record.end, time(fields.get("timestamp")))
            self._take(fold, record, fields, record.start)
        elif isinstance(patch := fields.get("$set"), dict):
            self._patch(fold, record, patch)
        elif is_metadata(fields):
            self._patch(fold, record, fields)
        else:
            fold.saw_record(record.end, None)

    def message_fields(self, entry: Entry, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return what a message's last line says, as columns of its row."""
        return message_fields(self, entry, [gemini.said(self._find(entry.native, records[-1]))])

    def _find(self, native: str, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a message within a line that is it or lists it; the last with its id counts."""
        if isinstance(record.get("id"), str):
            return record
        listed = as_blocks(mapping(record.get("$set", record)).get("messages"))
        ids = [one.get("id") for one in listed]
        return listed[len(ids) - 1 - ids[::-1].index(native)]

    # Lines -----------------------------------------------------------------------------------

    def _patch(self, fold: ConversationFold, record: Record, patch: Mapping[str, Any]) -> None:
        """Take metadata, and the messages among it."""
        start, last = time(patch.get("startTime")), time(patch.get("lastUpdated"))
        fold.saw_record(record.end, start or last)
        if last is not None:
            fold.saw_record(record.end, last)
        if summary := text(patch.get("summary")):
            fold.titles["ai"] = self.shortened(summary)
        folders = patch.get("directories")
        if isinstance(folders, list) and folders and (cwd := text(folders[0])):
            fold.cwd = self.name(cwd)
        if isinstance(listed := patch.get("messages"), list):
            self._checkpoint(fold, record, listed)

    def _checkpoint(self, fold: ConversationFold, record: Record, listed: list[Any]) -> None:
        messages = {one["id"]: one for one in listed if isinstance(mapping(one).get("id"), str)}
        before, self._standing = self._standing, {}
        for place, (id, message) in enumerate(messages.items()):
            if before.get(id) == hash(repr(message)):
                self._standing[id] = before[id]
            else:
                self._take(fold, record, message, record.start + place)

    def _take(
        self, fold: ConversationFold, record: Record, message: Mapping[str, Any], seq: int
    ) -> None:
        """Take all of a message anew; one that begins here lies at `seq` within its line."""
        said = gemini.said(message)
        if said.native is None:
            return
        if fold.project_path is None:
            fold.project_path = fold.cwd or self.name(project_of(self._path))
        self._standing[said.native] = hash(repr(message))
        entry = self.put(fold, record, said.native, said.role, replaces=True)
        if entry.seq == record.start:
            entry.seq = seq
        fold.count_tokens(entry, said.usage)
        found = blocks_of(said)
        self.note_secrets(entry, found)
        fold.call_tools(entry, *content.tools(found))
        if said.model:
            fold.model = self.name(said.model)
        if said.role == "user":
            self._note_prompt(fold, gemini.asked(message))
        if said.state is not None:
            fold.settle(*said.state)

    def _note_prompt(self, fold: ConversationFold, prompt: str) -> None:
        if prompt.strip() and gemini.is_title(prompt):
            fold.titles.setdefault("prompt", self.shortened(prompt))

    def _rewind(self, fold: ConversationFold, record: Record, id: str) -> None:
        order = list(self._standing)
        gone = order[order.index(id) :] if id in self._standing else order
        self.withdraw(fold, record, gone, None)
        for one in gone:
            del self._standing[one]
        fold.settle("active", "waiting")
