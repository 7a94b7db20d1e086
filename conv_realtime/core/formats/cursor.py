"""Cursor's agents: `{"role", "message": {"content": […]}}` a line, without ids or models.

Appended, but for the end of a turn, `turn_ended`: the next prompt may take its place.
`agent-transcripts/<id>/<id>.jsonl`, of the command line `agent-transcripts/<id>.jsonl`; subagents
lie in the session's folder `subagents`. What tools gave back is left out by Cursor.

A prompt stands between `<user_query>` tags, behind its time and what the editor added; its own
tags are not escaped. What Cursor says in the user's name has no such tags, or stands behind a
`<system_notification>`. `[REDACTED]` is where a model thought.

Evidence: the reports of its users, who agree: whistler in
Dicklesworthstone/coding_agent_session_search#306, caura-ai/caura#612,
AgentWorkforce/relayhistory#198, where 104 real transcripts are counted, entireio/cli#2065 and
receptron/mulmoterminal#2072 and #2081, with all 35 of a machine. No file was seen here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import PurePath
from typing import Any

from conv_realtime.core.blocks import Block, as_blocks, text_of
from conv_realtime.core.conversation_fold import ConversationFold, Entry
from conv_realtime.core.fields import mapping, text, time
from conv_realtime.core.format import Claim, Head, Machine
from conv_realtime.core.formats import openai_messages as openai
from conv_realtime.core.json_lines import JsonLines, JsonLinesTranscript, Noted, Said
from conv_realtime.core.records import Record
from conv_realtime.core.sanitize import Sanitizer

_FOLDER = "agent-transcripts"
_CONTEXTS = (
    "<agent_skills>", "<agent_transcripts>", "<attached_files>", "<available_subagent_models>",
    "<available_subagent_types>", "<dynamic_tool_catalog>", "<dynamic_tools>", "<git_status>",
    "<mcp_file_system>", "<open_and_recently_viewed_files>", "<rules>", "<system_reminder>",
    "<user_info>",
)  # fmt: skip
_NOTICES = ("<system_notification>", "Briefly inform the user about the task result")
_REDACTED = "[REDACTED]"
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_TIME = re.compile(  # Friday, Sep 4, 2026, 2:21 AM (UTC+5:30)
    r"(?:[A-Za-z]+, )?([A-Z][a-z]{2}) (\d{1,2}), (\d{4}), (\d{1,2}):(\d\d) ([AP])M "
    r"\(UTC(?:([+-])(\d{1,2})(?::(\d\d))?)?\)"
)


class Cursor(JsonLines):
    """Cursor's agent transcripts."""

    source = "cursor"
    title = "Cursor"

    def places(self, machine: Machine) -> Sequence[PurePath]:
        """Return the folder of projects."""
        return [machine.home / ".cursor" / "projects"]

    def is_named(self, path: str) -> bool:
        """Return whether the file lies where transcripts do."""
        return path.endswith(self.suffix) and _FOLDER in path

    def session(self, path: PurePath, records: Sequence[Mapping[str, Any]]) -> str | None:
        """Return the file's name, of a subagent that of the session's folder."""
        known = any(
            openai.role(record.get("role")) and isinstance(record.get("message"), dict)
            for record in records
        )
        return (path.parts[-3] if _is_subagent(path) else path.stem) if known else None

    def claim(self, path: PurePath, head: Head) -> Claim:
        """Return which session the file is of, once there is more than ends of turns."""
        if all(_ends_turn(record.fields) for record in head.records):
            return "unsure"
        return super().claim(path, head)

    def agent(self, path: PurePath) -> str | None:
        """Return the name of a file among a session's subagents."""
        return path.stem if _is_subagent(path) else None

    def transcript(self, path: PurePath, sanitizer: Sanitizer) -> CursorTranscript:
        """Return the fold of a file."""
        return CursorTranscript(self, path, sanitizer)

    def noted(self, fields: Mapping[str, Any]) -> Noted:
        """Return what the end of a turn says."""
        if not _ends_turn(fields):
            return Noted()
        aborted = (text(fields.get("error")) or "").startswith("User aborted")
        failed = fields.get("status") == "error" and not aborted
        return Noted(state=("error" if failed else "active", "waiting"))

    def said(self, fields: Mapping[str, Any]) -> Said | None:
        """Return the message of a line."""
        role = openai.role(fields.get("role"))
        if role is None:
            return None
        found = as_blocks(mapping(fields.get("message")).get("content"))
        if role == "user":
            stamp, asked = _stamped(text_of(found))
            if _is_cursors(asked) or (stamp and not asked):
                return Said("system", found, created_at=_time(stamp))
            return Said(role, [_prompt(block) for block in found], created_at=_time(stamp))
        # A call is the only sign of work: its answer is not there.
        calls = any(block.get("type") == "tool_use" for block in found)
        said = [part for block in found for part in _answer(block)]
        return Said(role, said, state=("active", "working") if calls else None)


class CursorTranscript(JsonLinesTranscript):
    """The fold of one file. Calls of tools have no ids and no answers: they are only counted."""

    def take(self, fold: ConversationFold, record: Record, said: Said) -> Entry:
        """Take a message."""
        entry = super().take(fold, record, said)
        calls = [
            block for block in as_blocks(list(said.content)) if block.get("type") == "tool_use"
        ]
        fold.tool_ids.update(f"@{record.start}.{number}" for number in range(len(calls)))
        return entry


def _ends_turn(fields: Mapping[str, Any]) -> bool:
    return fields.get("type") == "turn_ended"


def _is_subagent(path: PurePath) -> bool:
    return len(path.parts) > 2 and path.parent.name == "subagents"


def _prompt(block: Block) -> Block:
    if block.get("type") != "text":
        return block
    _, said = _stamped(text(block.get("text")) or "")
    return {**block, "text": _query(said)}


def _stamped(said: str) -> tuple[str, str]:
    """Return the time before a prompt, and the prompt."""
    if not said.startswith("<timestamp>"):
        return "", said
    stamp, ended, prompt = said.removeprefix("<timestamp>").partition("</timestamp>")
    return (stamp.strip(), prompt.strip()) if ended else ("", said)


def _query(said: str) -> str:
    # Not by an expression, which spaces stall: a prompt may hold any number of them.
    _, _, begun = said.partition("<user_query>")
    prompt, ended, _ = begun.rpartition("</user_query>")
    return prompt.strip() if ended else said


def _is_cursors(asked: str) -> bool:
    """Return whether Cursor says it, in the user's name."""
    if asked.startswith(_NOTICES) or _query(asked).startswith(_NOTICES):
        return True
    return asked.startswith(_CONTEXTS) and "<user_query>" not in asked


def _time(stamp: str) -> datetime | None:
    """Return the time that a prompt states; without an offset it could be anybody's."""
    if (found := _TIME.fullmatch(stamp)) is None or found[1] not in _MONTHS:
        return None
    month, day, hour = _MONTHS.index(found[1]) + 1, int(found[2]), int(found[4]) % 12
    hour += 12 if found[6] == "P" else 0
    offset = f"{found[7] or '+'}{int(found[8] or 0):02}:{found[9] or '00'}"
    return time(f"{found[3]}-{month:02}-{day:02}T{hour:02}:{found[5]}:00{offset}")


def _answer(block: Block) -> list[Block]:
    """Return a block without the mark of what was thought, which is a block of its own."""
    said = text(block.get("text")) if block.get("type") == "text" else None
    if said is None or not f"\n\n{said.rstrip()}".endswith(f"\n\n{_REDACTED}"):
        return [block]
    rest = said.rstrip().removesuffix(_REDACTED).rstrip()
    return [*([{**block, "text": rest}] if rest else []), {"type": "redacted_thinking"}]
