"""Conversations that no assistant's folder holds: a chat a file, or a chat a line.

* `{"role", "content"}` a line: the file is one conversation.
* `{"messages": [{"role", "content"}, …]}` (OpenAI) or `{"conversations": [{"from", "value"}, …]}`
  (ShareGPT) a line: the line is one conversation, and it is over.

They are asked last, only of files that lie in no assistant's usual place, and take only what cannot
be anything else. A conversation is named by its file's path, and by where its line begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from conv_realtime.core.conversation_fold import Entry
from conv_realtime.core.fields import mapping, text, time
from conv_realtime.core.format import Claim, Head, LogFormat, Recognised
from conv_realtime.core.formats import openai_messages as openai
from conv_realtime.core.json_lines import JsonLines, Said
from conv_realtime.core.records import Record
from conv_realtime.core.said import count_message, message_fields
from conv_realtime.core.sanitize import Sanitizer
from conv_realtime.core.transcript import LogTranscript


class ChatLog(JsonLines):
    """One message a line."""

    source = "chat_log"
    title = "Chat log (one message a line)"
    asked_last = True

    def session(self, path: PurePath, records: Sequence[Mapping[str, Any]]) -> str | None:
        """Return the file's path."""
        return path.as_posix() if _is_message(records[0]) else None

    def said(self, fields: Mapping[str, Any]) -> Said | None:
        """Return the message of a line."""
        return _said(fields)


class ChatDataset(LogFormat):
    """One conversation a line."""

    source = "chat_dataset"
    title = "Chats (one conversation a line)"
    asked_last = True

    def is_named(self, path: str) -> bool:
        """Return whether the file is JSONL."""
        return path.endswith(".jsonl")

    def claim(self, path: PurePath, head: Head) -> Claim:
        """Return the file as one, if its first line is a conversation."""
        if not head.records:
            return "unsure"
        if not messages_of(head.records[0].fields):
            return None
        return Recognised(self.source, path.as_posix())

    def transcript(self, path: PurePath, sanitizer: Sanitizer) -> LogTranscript:
        """Return the fold of a file."""
        return DatasetTranscript(path, sanitizer)


class DatasetTranscript(LogTranscript):
    """The fold of one file; its threads are its lines."""

    source = ChatDataset.source

    def __init__(self, path: PurePath, sanitizer: Sanitizer) -> None:
        super().__init__(sanitizer)
        self._path = path.as_posix()
        self._folder = self.name(path.parent.as_posix())
        self.session = self.id(self._path)

    def add(self, record: Record) -> None:
        """Take the conversation of a line."""
        thread = f"@{record.start}"
        fold = self.fold(thread)
        fold.session = self.id(f"{self._path} {thread}")
        fold.project_path = self._folder
        fold.saw_record(record.end, None)
        for number, message in enumerate(messages_of(record.fields)):
            said = _said(message)
            entry = self.put(fold, record, f"{thread}.{number}", said.role)
            entry.seq = record.start + number  # a message has more bytes than that
            count_message(self, fold, entry, said)
        fold.is_at("completed", "ended")

    def message_fields(self, entry: Entry, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return what one message of a line says, as columns of its row."""
        messages = messages_of(records[-1])
        return message_fields(self, entry, [_said(messages[int(entry.native.split(".")[1])])])


def messages_of(fields: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the messages of a line that is a conversation, none where it is something else."""
    found = fields.get("messages")
    if isinstance(found, list) and all(map(_is_message, found)):
        return found
    found = fields.get("conversations")
    if isinstance(found, list) and all(map(_is_turn, found)):
        return [{"role": turn["from"], "content": turn["value"]} for turn in found]
    return []


def _is_message(message: Any) -> bool:
    said = mapping(message)
    spoken = "content" in said or "tool_calls" in said
    return openai.role(said.get("role")) is not None and spoken and "type" not in said


def _is_turn(turn: Any) -> bool:
    return openai.role(mapping(turn).get("from")) is not None and "value" in turn


def _said(message: Mapping[str, Any]) -> Said:
    return Said(
        openai.role(message.get("role")) or "other",
        openai.blocks(message),
        created_at=time(message.get("timestamp")),
        model=text(message.get("model")),
    )
