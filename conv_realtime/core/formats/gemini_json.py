"""Gemini CLI before 0.39: one session is `chats/session-<time>-<id>.json`, rewritten whole.

A `ConversationRecord` as `packages/core/src/services/chatRecordingTypes.ts` of
google-gemini/gemini-cli has it: `sessionId`, `projectHash`, `startTime`, `lastUpdated`, `messages`.
Messages keep their ids and change in place: a response gets its tool calls, these their results.
Newer versions still read it (`parseLegacyRecordFallback` in `chatRecordingService.ts`), and go on
in a `.jsonl` beside it that states all of it again: then that one is read, see `gemini_log`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from conv_realtime.core.blocks import as_blocks
from conv_realtime.core.document import JsonDocument, StatedConversation
from conv_realtime.core.fields import mapping, text, time
from conv_realtime.core.format import Claim, Head, Machine, Recognised
from conv_realtime.core.formats import gemini_records as gemini
from conv_realtime.core.formats.gemini_log import GeminiLog, identity, is_metadata, project_of
from conv_realtime.core.said import Noted

_NAMES = frozenset(
    {"sessionId", "projectHash", "startTime", "lastUpdated", "messages", "summary", "kind",
     "directories", "memoryScratchpad"}
)  # fmt: skip


class GeminiJson(JsonDocument):
    """Gemini CLI's sessions before 0.39."""

    source = gemini.SOURCE
    title = "Gemini CLI before 0.39"

    def places(self, machine: Machine) -> Sequence[PurePath]:
        """Return the folder that has one of its own for each project."""
        return GeminiLog().places(machine)

    def claim(self, path: PurePath, head: Head) -> Claim:
        """Return which session the file is of, by the fields before its messages."""
        found = head.outline
        if not found.json or found.listed or not found.names <= _NAMES:
            return None
        if not is_metadata(found.fields):
            return None if found.ends else "unsure"
        session, agent = identity(path, found.fields)
        return Recognised(self.source, session, agent, named=session[:8] in path.stem)

    def session(self, path: PurePath, fields: Mapping[str, Any]) -> str | None:
        """Return the session of a file with these fields."""
        return text(fields.get("sessionId"))

    def conversations(self, value: Any, path: PurePath) -> Iterable[StatedConversation]:
        """Yield the session."""
        record = mapping(value)
        if not is_metadata(record):
            return
        session, agent = identity(path, record)
        listed = as_blocks(record.get("messages"))
        messages = [gemini.said(one) for one in listed]
        prompts = [
            gemini.asked(one)
            for one, said in zip(listed, messages, strict=True)
            if said.role == "user"
        ]
        folders = record.get("directories")
        noted = Noted(
            at=time(record.get("startTime")),
            title=text(record.get("summary")) or _title(prompts),
            cwd=text(folders[0]) if isinstance(folders, list) and folders else None,
        )
        yield StatedConversation(
            session,
            messages,
            agent,
            project_of(path),
            noted,
            stated_at=time(record.get("lastUpdated")),
        )


def _title(prompts: Sequence[str]) -> str | None:
    """Return the first prompt that says what the conversation is about."""
    return next((one for one in prompts if one.strip() and gemini.is_title(one)), None)
